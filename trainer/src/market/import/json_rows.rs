//! Rows of a JSON file: a list of rows, as freqtrade writes them, or a row on each line. A row is a list of cells or an
//! object with a name for each. One row at a time is held.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

use crate::market::import::cell::{Cell, N_SLOTS, Row, Visit};
use crate::market::import::columns::Columns;
use crate::market::import::dialect::Header;
use crate::market::import::source::{file_error, line_error};
use crate::market::import::unpacked::{read_error, text};

/// Rows at the beginning that are looked at.
const HEAD_ROWS: usize = 64;
/// The most bytes of one row.
const MOST_ROW_BYTES: usize = 1 << 16;

/// A JSON file.
#[derive(Debug)]
pub(super) struct JsonFile {
    path: PathBuf,
    /// The names of the columns, or their number.
    pub(super) header: Header,
    /// The first rows.
    pub(super) head: Vec<Vec<String>>,
}

/// A row as it is written: its names, if it has any, and its cells; none for null.
struct Written {
    names: Vec<String>,
    cells: Vec<Option<String>>,
}

impl JsonFile {
    /// Reads the names of the columns and the first rows.
    pub(super) fn open(path: &Path) -> Result<JsonFile> {
        let mut rows = Scanner::new(path)?;
        let mut head: Vec<Vec<String>> = Vec::new();
        let mut header = Header::Names(Vec::new());
        while let Some((line, written)) = rows.next_row().transpose()?.filter(|_| head.len() < HEAD_ROWS) {
            let written = written.map_err(|problem| rows.line_error(line, problem))?;
            if head.is_empty() {
                header = match written.names.is_empty() {
                    true => Header::Absent(written.cells.len()),
                    false => Header::Names(written.names),
                };
            }
            head.push(written.cells.into_iter().map(Option::unwrap_or_default).collect());
        }
        if head.is_empty() {
            return Err(file_error(path, "holds no rows: expected a list of rows, or a row on each line"));
        }
        Ok(JsonFile { path: path.to_path_buf(), header, head })
    }

    /// Gives every row to `visit`; lines are rows, counted from 1.
    pub(super) fn rows(&self, columns: &Columns, names: &[String], visit: &mut Visit<'_>) -> Result<()> {
        let mut rows = Scanner::new(&self.path)?;
        while let Some((line, written)) = rows.next_row().transpose()? {
            let Written { names: own, cells } = match written {
                Ok(written) => written,
                Err(problem) => {
                    visit(0, line, Err(problem))?;
                    continue;
                }
            };
            if own.is_empty() && cells.len() != names.len() {
                let problem =
                    format!("has {} cells where {} have names: mend the row", cells.len(), names.len());
                visit(0, line, Err(problem))?;
                continue;
            }
            let mut row: Row<'_> = [const { Cell::Missing }; N_SLOTS];
            for (cell, index) in row.iter_mut().zip(columns.indices) {
                let Some(index) = index else { continue };
                // The members of an object may stand in any order.
                let at = match own.get(index) {
                    _ if own.is_empty() => Some(index),
                    Some(name) if *name == names[index] => Some(index),
                    _ => own.iter().position(|name| *name == names[index]),
                };
                if let Some(text) = at.and_then(|at| cells[at].as_deref()) {
                    *cell = Cell::Text(text);
                }
            }
            visit(0, line, Ok(&row))?;
        }
        Ok(())
    }
}

/// Cuts a JSON file into its rows.
struct Scanner {
    path: PathBuf,
    bytes: BufReader<Box<dyn Read>>,
    n_rows: u64,
    /// Whether the rows stand in one list.
    is_list: bool,
}

type NextRow = Result<(u64, std::result::Result<Written, String>)>;

impl Scanner {
    fn new(path: &Path) -> Result<Scanner> {
        let bytes = BufReader::new(text(path)?);
        let mut scanner = Scanner { path: path.to_path_buf(), bytes, n_rows: 0, is_list: false };
        if scanner.skip_blank()? == Some(b'[') {
            // A list of rows begins with two brackets; a row that is a list, with one.
            let head = scanner.peek()?;
            let second = head.iter().skip(1).find(|byte| !byte.is_ascii_whitespace());
            scanner.is_list = matches!(second, Some(b'[' | b'{' | b']'));
            if scanner.is_list {
                scanner.bytes.consume(1);
            }
        }
        Ok(scanner)
    }

    fn line_error(&self, line: u64, problem: String) -> Error {
        line_error(&self.path, line, problem)
    }

    fn peek(&mut self) -> Result<&[u8]> {
        self.bytes.fill_buf().map_err(|source| read_error(&self.path, source))
    }

    /// The next byte that is neither blank nor a comma, which stays.
    fn skip_blank(&mut self) -> Result<Option<u8>> {
        loop {
            let head = self.peek()?;
            if head.is_empty() {
                return Ok(None);
            }
            let n = head.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == b',').count();
            let next = head.get(n).copied();
            self.bytes.consume(n);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// The next row with its number; none at the end.
    fn next_row(&mut self) -> Option<NextRow> {
        let first = match self.skip_blank() {
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        let line = self.n_rows + 1;
        match first {
            None if self.is_list => Some(Err(
                self.line_error(line, "the list of rows is cut off: fetch the file again".to_owned())
            )),
            None => None,
            Some(b']') if self.is_list => None,
            Some(b'[' | b'{') => {
                self.n_rows = line;
                let read = |text: Vec<u8>| {
                    // Some writers put NaN where JSON has no word for it.
                    let row = written(&text).or_else(|problem| {
                        let mended = String::from_utf8_lossy(&text).replace("NaN", "null");
                        written(mended.as_bytes()).map_err(|_| problem)
                    });
                    (line, row)
                };
                Some(self.row_text(line).map(read))
            }
            Some(_) => Some(Err(self.line_error(
                line,
                "is not a row in JSON: expected a list of rows, or a row on each line".to_owned(),
            ))),
        }
    }

    /// The text of the row that begins here.
    fn row_text(&mut self, line: u64) -> Result<Vec<u8>> {
        let (mut text, mut depth, mut in_text, mut is_escaped) = (Vec::new(), 0u32, false, false);
        loop {
            let Some(byte) = self.peek()?.first().copied().filter(|_| text.len() < MOST_ROW_BYTES) else {
                return Err(self.line_error(line, "the row does not end: is the file cut off?".to_owned()));
            };
            self.bytes.consume(1);
            text.push(byte);
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if in_text => is_escaped = true,
                b'"' => in_text = !in_text,
                b'[' | b'{' if !in_text => depth += 1,
                b']' | b'}' if !in_text => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(text);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The cells of a row. Numbers stay as they are written.
fn written(text: &[u8]) -> std::result::Result<Written, String> {
    use serde_json::value::RawValue;
    let no_json = |error: serde_json::Error| format!("is not a row in JSON ({error}): mend it");
    let cell = |raw: &RawValue| match raw.get() {
        "null" => Ok(None),
        text if text.starts_with('"') => serde_json::from_str::<String>(text).map(Some).map_err(no_json),
        text => Ok(Some(text.to_owned())),
    };
    let text = String::from_utf8_lossy(text);
    let mut row = Written { names: Vec::new(), cells: Vec::new() };
    if text.starts_with('[') {
        let cells: Vec<&RawValue> = serde_json::from_str(&text).map_err(no_json)?;
        row.cells = cells.into_iter().map(cell).collect::<std::result::Result<_, _>>()?;
        return Ok(row);
    }
    let members: Members<'_> = serde_json::from_str(&text).map_err(no_json)?;
    for (name, raw) in members.0 {
        row.names.push(name);
        row.cells.push(cell(raw)?);
    }
    Ok(row)
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(String, &'a serde_json::value::RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
