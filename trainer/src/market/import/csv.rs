//! Rows of a text file: comma, semicolon or tab between the columns, a header on top, UTF-8.

use std::io::{self, BufRead, Read};
use std::path::Path;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};

use crate::error::{Error, Result};

use crate::market::import::check::{NUMBER_NAMES, Rows};
use crate::market::import::columns::{Columns, TIME};
use crate::market::import::numbers::NumberSurvey;
use crate::market::import::source::file_error;
use crate::market::import::source_options::Source;
use crate::market::import::stamps::Stamps;

/// Reads every row into `rows`; returns them with notes on what was taken.
pub(super) fn read(
    mut file: impl BufRead,
    source: &Source,
    mut rows: Rows,
    mut stamps: Stamps,
) -> Result<(Rows, Vec<String>)> {
    let head = file.fill_buf().map_err(|source| Error::Io { path: rows.path().to_path_buf(), source })?;
    let delimiter = delimiter(head);
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(LineFeeds::new(file));
    let mut record = StringRecord::new();
    if !next(&mut reader, &mut record, rows.path())? {
        return Err(file_error(rows.path(), "the file is empty: expected a header and bars"));
    }
    let names: Vec<String> = record.iter().map(|name| name.trim().to_owned()).collect();
    let columns = Columns::find(rows.path(), &names)?;
    let mut records = Vec::new();
    while next(&mut reader, &mut record, rows.path())? {
        records.push((line(&reader), record.clone()));
    }
    let stamp = |record: &'_ StringRecord| record.get(columns.indices[TIME]).unwrap_or_default().to_owned();
    let texts: Vec<String> = records.iter().map(|(_, record)| stamp(record)).collect();
    stamps
        .survey(source, texts.iter().map(String::as_str))
        .map_err(|fault| rows.line_error(records[fault.index].0, fault.problem))?;
    let mut numbers = NumberSurvey::default();
    for (line, record) in &records {
        for text in columns.indices[TIME + 1..].iter().filter_map(|index| record.get(*index)) {
            numbers.observe(*line, text);
        }
    }
    let (format, note) =
        numbers.decide(source.options.decimal).map_err(|(line, problem)| rows.line_error(line, problem))?;
    for (line, record) in records {
        if record.len() != names.len() {
            let problem = format!(
                "has {} columns where the header has {}: mend the row, or remove it if it was cut off",
                record.len(),
                names.len()
            );
            return Err(rows.line_error(line, problem));
        }
        let field = |role: usize| record.get(columns.indices[role]).unwrap_or_default();
        let stamp_millis = stamps.read_text(field(TIME)).map_err(|problem| rows.line_error(line, problem))?;
        let mut numbers = [0.0; NUMBER_NAMES.len()];
        for (i, value) in numbers.iter_mut().enumerate() {
            let role = TIME + 1 + i;
            let read = match format.read(field(role)) {
                Ok(Some(number)) => Ok(number),
                Ok(None) if field(role).trim().is_empty() => Err("empty".to_owned()),
                Ok(None) => Ok(f64::NAN),
                Err(problem) => Err(problem),
            };
            *value = read.map_err(|problem| {
                rows.line_error(
                    line,
                    format!("`{}` is {problem}: mend or remove the row", columns.name(role)),
                )
            })?;
        }
        rows.push(line, stamp_millis, numbers)?;
    }
    let mut notes = vec![columns.note()];
    notes.extend(note);
    notes.extend(stamps.notes());
    Ok((rows, notes))
}

/// Reads the next record that is not blank; false at the end.
fn next<R: Read>(reader: &mut Reader<R>, record: &mut StringRecord, path: &Path) -> Result<bool> {
    reader.read_record(record).map_err(|error| {
        let problem = match error.into_kind() {
            ErrorKind::Io(source) => return Error::Io { path: path.to_path_buf(), source },
            ErrorKind::Utf8 { .. } => "is not UTF-8 text: is it a text file at all? If so, save it as UTF-8",
            _ => "cannot be read as CSV: mend the row",
        };
        Error::Line { path: path.to_path_buf(), line: line(reader), problem: problem.to_owned() }
    })
}

/// The line on which the record just read ends.
fn line<R: Read>(reader: &Reader<R>) -> u64 {
    // Every record ends in a line feed ([`LineFeeds`]), so the reader stands at the start of the next line. The
    // record's own position is that of the blank lines before it.
    reader.position().line().saturating_sub(1)
}

/// A text with `\n` at the end of each line, whatever it had: `\r\n`, `\r`, or nothing at its end.
struct LineFeeds<R> {
    inner: R,
    after_return: bool,
    at_line_start: bool,
}

impl<R: BufRead> LineFeeds<R> {
    fn new(inner: R) -> LineFeeds<R> {
        LineFeeds { inner, after_return: false, at_line_start: true }
    }
}

impl<R: BufRead> Read for LineFeeds<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let chunk = self.inner.fill_buf()?;
            if chunk.is_empty() {
                let n = usize::from(!self.at_line_start);
                out[..n].fill(b'\n');
                self.at_line_start = true;
                return Ok(n);
            }
            let n_in = chunk.len().min(out.len());
            let mut n_out = 0;
            for byte in &chunk[..n_in] {
                if *byte == b'\n' && self.after_return {
                    self.after_return = false;
                    continue;
                }
                self.after_return = *byte == b'\r';
                out[n_out] = if self.after_return { b'\n' } else { *byte };
                n_out += 1;
            }
            self.inner.consume(n_in);
            if n_out > 0 {
                self.at_line_start = out[n_out - 1] == b'\n';
                return Ok(n_out);
            }
        }
    }
}

/// The character between the columns, as the header shows it.
fn delimiter(head: &[u8]) -> u8 {
    let header = head.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
    [b',', b';', b'\t'].into_iter().find(|delimiter| header.contains(delimiter)).unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_end_alike_however_the_text_is_cut_into_reads(
            text in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..40),
            n_in in 1..5usize,
            n_out in 1..5usize,
        ) {
            let mut reader = LineFeeds::new(BufReader::with_capacity(n_in, text.as_slice()));
            let mut read = Vec::new();
            let mut out = vec![0; n_out];
            loop {
                let n = reader.read(&mut out).unwrap();
                if n == 0 {
                    break;
                }
                read.extend_from_slice(&out[..n]);
            }
            let mut expected = String::from_utf8(text).unwrap().replace("\r\n", "\n").replace('\r', "\n");
            if !expected.is_empty() && !expected.ends_with('\n') {
                expected.push('\n');
            }
            prop_assert_eq!(String::from_utf8(read).unwrap(), expected);
        }
    }
}
