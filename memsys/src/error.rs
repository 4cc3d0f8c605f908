//! What can go wrong in this crate.

use std::path::PathBuf;

use crate::ledger::refusal::Refusal;

/// An error of the memory system.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused a call.
    #[cfg(feature = "libtorch")]
    #[error("libtorch could not {what}: {message}")]
    Libtorch {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        message: String,
    },
    /// tch refused a call.
    #[cfg(feature = "libtorch")]
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// The loaded libtorch is of another version.
    #[cfg(feature = "libtorch")]
    #[error("libtorch {wanted} is needed, but {} holds {found}: run `make setup`", folder.display())]
    WrongLibtorch {
        /// Where it was loaded from.
        folder: PathBuf,
        /// The version found.
        found: String,
        /// The version needed.
        wanted: &'static str,
    },
    /// The memory limit has no room for an allocation.
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
    /// No file for spilled activations can be made.
    #[cfg(feature = "libtorch")]
    #[error("cannot spill activations into {}: {source}", folder.display())]
    SpillFolder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A kind of number that autocast does not cast to on a device.
    #[cfg(feature = "libtorch")]
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
