//! Rows that are not bars, counted by kind, with the first lines of each.

/// Lines of each kind that are kept to be shown.
const SHOWN_LINES: usize = 3;

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dirt {
    /// Its prices are NaN, null or empty: a minute without a trade.
    Missing,
}

impl Dirt {
    /// What is wrong, in words that follow a number of rows.
    fn words(self) -> &'static str {
        match self {
            Dirt::Missing => "without prices (NaN, null or empty)",
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
}

/// The rows of a file that are not bars and were left out, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirtyRows {
    kinds: Vec<DirtyKind>,
}

impl DirtyRows {
    /// Counts one row.
    pub fn push(&mut self, kind: Dirt, line: u64) {
        let at = self.kinds.iter().position(|other| other.kind == kind).unwrap_or_else(|| {
            self.kinds.push(DirtyKind { kind, n_rows: 0, first_lines: Vec::new() });
            self.kinds.len() - 1
        });
        self.kinds[at].n_rows += 1;
        if self.kinds[at].first_lines.len() < SHOWN_LINES {
            self.kinds[at].first_lines.push(line);
        }
    }

    /// The kinds that occur.
    #[must_use]
    pub fn kinds(&self) -> &[DirtyKind] {
        &self.kinds
    }

    /// How many rows were left out.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.n_rows).sum()
    }

    /// What was left out, a line per kind.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let note = |kind: &DirtyKind| {
            let lines: Vec<String> = kind.first_lines.iter().map(u64::to_string).collect();
            format!(
                "{} rows {} dropped, the first in line {}",
                kind.n_rows,
                kind.kind.words(),
                lines.join(", ")
            )
        };
        self.kinds.iter().map(note).collect()
    }
}
