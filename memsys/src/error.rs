//! What can go wrong in this crate.

use std::path::PathBuf;

/// An error of the memory system.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused a call.
    #[error("libtorch could not {what}: {message}")]
    Libtorch {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        message: String,
    },
    /// tch refused a call.
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// The loaded libtorch is of another version.
    #[error("libtorch {wanted} is needed, but {} holds {found}: run `make setup`", folder.display())]
    WrongLibtorch {
        /// Where it was loaded from.
        folder: PathBuf,
        /// The version found.
        found: String,
        /// The version needed.
        wanted: &'static str,
    },
    /// The system does not tell what was asked.
    #[error("cannot read {what} from {}", path.display())]
    Probe {
        /// The quantity.
        what: &'static str,
        /// The file that should hold it.
        path: PathBuf,
    },
}

/// A result of the memory system.
pub type Result<T> = std::result::Result<T, Error>;
