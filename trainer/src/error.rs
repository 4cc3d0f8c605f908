//! What can go wrong, and how the program says so.

use std::path::PathBuf;

use crate::format;

/// An error of the trainer. Each names the file, line or key, and the remedy.
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
    /// The memory limit cannot hold the run.
    #[error(
        "memory.limit: a memory limit of {} cannot hold this run; the smallest that can is {} (--memory {}){}{table}",
        format::bytes(*limit_bytes),
        format::bytes(*smallest_limit_bytes),
        memsys::limit::MemoryLimit::Bytes(*smallest_limit_bytes),
        if table.is_empty() { "" } else { ":\n" }
    )]
    LimitTooLow {
        /// The memory limit.
        limit_bytes: u64,
        /// The smallest that would do.
        smallest_limit_bytes: u64,
        /// What takes the bytes, as a table; empty where it was printed already.
        table: String,
    },
    /// The memory limit cannot hold the replay that `bench replay --memory` measures.
    #[error(
        "--memory: a memory limit of {} cannot hold this replay: {} are needed before a row is held; give more, or a smaller --most",
        format::bytes(*limit_bytes),
        format::bytes(*least_bytes)
    )]
    ReplayLimitTooLow {
        /// The memory limit.
        limit_bytes: u64,
        /// Bytes that the program and the replay's sum tree need.
        least_bytes: u64,
    },
    /// The agent failed.
    #[cfg(feature = "libtorch")]
    #[error(transparent)]
    Agent(#[from] agents::Error),
    /// The memory system failed.
    #[error(transparent)]
    Memory(#[from] memsys::Error),
    /// The replay failed.
    #[error(transparent)]
    Replay(#[from] buffers::Error),
    /// libtorch refused a call.
    #[cfg(feature = "libtorch")]
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// The actor's thread ended before its work was done; its own error says why.
    #[error("the actor's thread ended early")]
    ActorLost,
}

impl Error {
    /// True where the user's input or configuration is at fault: exit status 2. A path that may not be read or
    /// written was the user's to give.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Line { .. } | Error::File { .. } | Error::Config { .. } => true,
            #[cfg(feature = "libtorch")]
            Error::Memory(memsys::Error::SpillFolder { source, .. }) => is_users_path(source),
            Error::Replay(error) => is_bad_file(error),
            Error::Io { source, .. } => is_users_path(source),
            _ => false,
        }
    }

    /// Names the path at which reading or writing failed.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        |source| Error::Io { path, source }
    }
}

/// True of a replay file that cannot be used as it is.
fn is_bad_file(error: &buffers::Error) -> bool {
    use buffers::Error::{Damaged, Io, Locked, NotAReplayFile, Truncated, WrongEndianness, WrongVersion};
    match error {
        Damaged { .. } | Locked { .. } | NotAReplayFile { .. } | Truncated { .. } => true,
        WrongEndianness { .. } | WrongVersion { .. } => true,
        Io { source, .. } => is_users_path(source),
        _ => false,
    }
}

fn is_users_path(source: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        source.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::ReadOnlyFilesystem
    )
}

/// A result of the trainer.
pub type Result<T> = std::result::Result<T, Error>;
