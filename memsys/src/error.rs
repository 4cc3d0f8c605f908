//! What can go wrong in this crate.

use std::path::PathBuf;

use crate::budget::Refusal;

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
    /// The line has no room for an allocation.
    #[error("out of memory: {0}")]
    Refused(Refusal),
    /// The system does not tell what was asked.
    #[error("cannot read {what} from {}", path.display())]
    Probe {
        /// The quantity.
        what: &'static str,
        /// The file that should hold it.
        path: PathBuf,
    },
    /// The system starts no thread.
    #[error("cannot start the thread of the {what}: {source}")]
    Thread {
        /// What it is for.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The number of threads that operations compute with was decided before.
    #[error("operations compute with {set} thread(s) since the first tensor: {wanted} cannot be set any more")]
    ThreadsAreSet {
        /// The number that they compute with.
        set: i32,
        /// The number asked for.
        wanted: i32,
    },
    /// No file for spilled activations can be made.
    #[error("cannot spill activations into {}: {source}", folder.display())]
    SpillFolder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A kind of number that autocast does not cast to on a device.
    #[error("autocast on {device} casts to bfloat16, and on CUDA to float16 too, but not to {kind:?}")]
    AutocastKind {
        /// The kind asked for.
        kind: tch::Kind,
        /// "CPU" or "CUDA".
        device: &'static str,
    },
}

/// A result of the memory system.
pub type Result<T> = std::result::Result<T, Error>;
