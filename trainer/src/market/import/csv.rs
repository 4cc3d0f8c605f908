//! Rows of a text file with a character between its columns.

use std::io::Read;
use std::path::{Path, PathBuf};

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};

use crate::error::Result;

use crate::market::import::cell::{Cell, N_SLOTS, Row, Visit};
use crate::market::import::columns::Columns;
use crate::market::import::dialect::Dialect;
use crate::market::import::source::line_error;
use crate::market::import::unpacked::{read_error, text};

/// Bytes at the beginning of a file that its dialect is told from.
const HEAD_BYTES: u64 = 1 << 16;

/// What is said of bytes that are no text.
const NOT_UTF8: &str = "is not UTF-8 text: is it a text file at all? If so, save it as UTF-8";

/// A text file.
#[derive(Debug)]
pub(super) struct TextFile {
    path: PathBuf,
    dialect: Dialect,
}

impl TextFile {
    /// Tells the dialect of the file at `path`; see [`Dialect::of`].
    pub(super) fn open(path: &Path, told_lines: Option<u64>, told_names: bool) -> Result<TextFile> {
        let mut head = Vec::new();
        text(path)?.take(HEAD_BYTES).read_to_end(&mut head).map_err(|source| read_error(path, source))?;
        // The last line may be cut off.
        if head.len() as u64 == HEAD_BYTES {
            head.truncate(head.iter().rposition(|byte| *byte == b'\n').map_or(head.len(), |end| end + 1));
        }
        let head = std::str::from_utf8(&head).map_err(|error| {
            let line = head[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
            line_error(path, line, NOT_UTF8)
        })?;
        let dialect = Dialect::of(head, told_lines, told_names);
        Ok(TextFile { path: path.to_path_buf(), dialect })
    }

    /// How it is written.
    pub(super) fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Gives every row to `visit`, once for each group of columns; returns the lines that repeat the header.
    pub(super) fn rows(&self, groups: &[Columns], n_names: usize, visit: &mut Visit<'_>) -> Result<Vec<u64>> {
        let mut reader = ReaderBuilder::new()
            .delimiter(self.dialect.delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(text(&self.path)?);
        let (mut record, mut header) = (StringRecord::new(), StringRecord::new());
        for n in 0..self.dialect.first_row {
            if !next(&mut reader, &mut record, &self.path)? {
                break;
            }
            if n + 1 == self.dialect.first_row {
                header = record.clone();
            }
        }
        let mut repeated = Vec::new();
        while next(&mut reader, &mut record, &self.path)? {
            let line = line(&reader);
            if !header.is_empty() && record == header {
                repeated.push(line);
                continue;
            }
            // A row may end in a delimiter.
            let n_fields = record.len();
            if n_fields != n_names && !(n_fields == n_names + 1 && record.get(n_names) == Some("")) {
                let problem = format!(
                    "has {n_fields} columns where the header has {n_names}: mend the row, or remove it if it was cut off"
                );
                visit(0, line, Err(problem))?;
                continue;
            }
            for (group, columns) in groups.iter().enumerate() {
                let mut row: Row<'_> = [const { Cell::Missing }; N_SLOTS];
                for (cell, index) in row.iter_mut().zip(columns.indices) {
                    if let Some(text) = index.and_then(|index| record.get(index)) {
                        *cell = Cell::Text(text);
                    }
                }
                visit(group, line, Ok(&row))?;
            }
        }
        Ok(repeated)
    }
}

/// Reads the next record that is not blank; false at the end.
fn next<R: Read>(reader: &mut Reader<R>, record: &mut StringRecord, path: &Path) -> Result<bool> {
    reader.read_record(record).map_err(|error| {
        let problem = match error.into_kind() {
            ErrorKind::Io(source) => return read_error(path, source),
            ErrorKind::Utf8 { .. } => NOT_UTF8,
            _ => "cannot be read as CSV: mend the row",
        };
        line_error(path, line(reader), problem)
    })
}

/// The line on which the record just read ends.
fn line<R: Read>(reader: &Reader<R>) -> u64 {
    // Every record ends in a line feed, so the reader stands at the start of the next line. The record's own position
    // is that of the blank lines before it.
    reader.position().line().saturating_sub(1)
}
