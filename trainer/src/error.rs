//! What can go wrong, and how the program says so.

use std::path::PathBuf;

/// An error of the trainer. Each names the file, line or key, and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A line of an input file cannot be used.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line (CSV) or row (Parquet), counted from 1.
        line: u64,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// An input file as a whole cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A configuration key or command-line value cannot be used.
    #[error("{key}: {problem}")]
    Config {
        /// The key as the user writes it, such as `data.label`.
        key: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// True where the user's input or configuration is at fault: exit status 2.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        !matches!(self, Error::Io { .. })
    }
}

/// A result of the trainer.
pub type Result<T> = std::result::Result<T, Error>;
