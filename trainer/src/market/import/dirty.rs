//! Rows that are not bars, counted by kind, with the first lines of each.

use std::path::Path;

use crate::error::Error;
use crate::market::import::source::line_error;

/// Lines of each kind that are kept to be shown.
const SHOWN_LINES: usize = 3;

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dirt {
    /// A number is NaN, null or empty, as in a minute without a trade.
    Missing,
    /// A cell holds no number.
    NoNumber,
    /// The prices contradict each other, or are not above 0.
    Prices,
    /// It has another number of columns.
    Columns,
    /// Its stamp cannot be read.
    Stamp,
    /// Its stamp lies before that of the row before.
    Order,
    /// Its stamp is that of the row before.
    Duplicate,
    /// It lies off the grid of the other rows.
    OffGrid,
}

impl Dirt {
    /// What is wrong, in words that follow a number of rows.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Dirt::Missing => "without numbers (NaN, null or empty)",
            Dirt::NoNumber => "with a cell that is no number",
            Dirt::Prices => "whose prices or volume cannot be",
            Dirt::Columns => "with another number of columns",
            Dirt::Stamp => "whose stamp cannot be read",
            Dirt::Order => "out of the order of time",
            Dirt::Duplicate => "with the stamp of the row before",
            Dirt::OffGrid => "off the grid of the others",
        }
    }
}

/// The rows of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirtyKind {
    /// What is wrong with them.
    pub kind: Dirt,
    /// How many there are.
    pub n_rows: u64,
    /// The first of their lines.
    pub first_lines: Vec<u64>,
    /// What is wrong with the first of them, and what to do.
    pub first_problem: String,
}

/// Rows of a file that are not bars, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirtyRows {
    kinds: Vec<DirtyKind>,
}

impl DirtyRows {
    /// Counts one row.
    pub(super) fn push(&mut self, kind: Dirt, line: u64, problem: impl FnOnce() -> String) {
        match self.kinds.iter_mut().find(|other| other.kind == kind) {
            Some(known) => {
                known.n_rows += 1;
                if known.first_lines.len() < SHOWN_LINES {
                    known.first_lines.push(line);
                }
            }
            None => self.kinds.push(DirtyKind {
                kind,
                n_rows: 1,
                first_lines: vec![line],
                first_problem: problem(),
            }),
        }
    }

    /// The kinds that occur.
    #[must_use]
    pub fn kinds(&self) -> &[DirtyKind] {
        &self.kinds
    }

    /// How many rows there are.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.n_rows).sum()
    }

    /// How many rows there are of each kind, with the first lines: `2 without numbers (lines 4, 5)`.
    #[must_use]
    pub fn counts(&self) -> String {
        let count = |kind: &DirtyKind| {
            let lines: Vec<String> = kind.first_lines.iter().map(u64::to_string).collect();
            let word = if kind.n_rows == 1 { "line" } else { "lines" };
            let more = if kind.n_rows as usize > lines.len() { ", …" } else { "" };
            format!("{} {} ({word} {}{more})", kind.n_rows, kind.kind.words(), lines.join(", "))
        };
        self.kinds.iter().map(count).collect::<Vec<_>>().join(", ")
    }

    /// The error of a file with such rows, of which it has `n_rows` in all; none where there are none.
    pub(super) fn error(&self, path: &Path, n_rows: u64) -> Option<Error> {
        let first = self.kinds.iter().min_by_key(|kind| kind.first_lines[0])?;
        let rows = if n_rows == 1 { "row" } else { "rows" };
        let mut problem = format!(
            "{}; {} of {n_rows} {rows} cannot be used: {}",
            first.first_problem,
            self.n_rows(),
            self.counts()
        );
        if first.kind != Dirt::Missing && self.kinds.iter().any(|kind| kind.kind == Dirt::Missing) {
            problem.push_str("; --set data.missing=drop leaves those without numbers out");
        }
        Some(line_error(path, first.first_lines[0], problem))
    }
}
