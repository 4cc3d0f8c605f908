//! The errors of this crate.

use std::path::PathBuf;

use crate::ledger::refusal::Refusal;
use crate::limit::Readable;

/// An error of the memory system.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call to libtorch failed.
    #[cfg(feature = "libtorch")]
    #[error("libtorch could not {what}: {message}")]
    Libtorch {
        /// What the call was for.
        what: &'static str,
        /// What libtorch said.
        message: String,
    },
    /// A call to tch failed.
    #[cfg(feature = "libtorch")]
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// The loaded libtorch has another version than this program is built for.
    #[cfg(feature = "libtorch")]
    #[error("libtorch {wanted} is needed, but {} holds {found}: run `make setup`", folder.display())]
    WrongLibtorch {
        /// The folder that libtorch was loaded from.
        folder: PathBuf,
        /// The version found.
        found: String,
        /// The version needed.
        wanted: &'static str,
    },
    /// The memory limit has no room for an allocation.
    #[error("out of memory: {0}")]
    Refused(Refusal),
    /// A GPU has no room for an allocation.
    #[error(
        "out of memory on {device}: {} of the device limit of {} are allocated; give a higher memory.device_limit, or free \
         the GPU of other processes",
        Readable(*allocated_bytes),
        Readable(*limit_bytes)
    )]
    RefusedByDevice {
        /// The device's name, such as `cuda:0`.
        device: &'static str,
        /// Bytes of live tensors there.
        allocated_bytes: u64,
        /// The most bytes that the process may take there.
        limit_bytes: u64,
    },
    /// A GPU cannot be asked for its memory.
    #[error("cuda:{index}: {problem}")]
    Gpu {
        /// The GPU's number.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// The operating system does not tell a quantity.
    #[error("cannot read {what} from {}", path.display())]
    Probe {
        /// The quantity.
        what: &'static str,
        /// The file that should hold it.
        path: PathBuf,
    },
    /// The operating system does not start a thread.
    #[error("cannot start the thread of the {what}: {source}")]
    Thread {
        /// What the thread is for.
        what: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The number of threads that operations compute with was decided before.
    #[cfg(feature = "libtorch")]
    #[error(
        "operations compute with {set} thread(s) since the first tensor: {wanted} cannot be set any more"
    )]
    ThreadsAreSet {
        /// The number that they compute with.
        set: i32,
        /// The number asked for.
        wanted: i32,
    },
    /// A file for spilled activations cannot be made.
    #[cfg(feature = "libtorch")]
    #[error("cannot spill activations into {}: {source}", folder.display())]
    SpillFolder {
        /// The folder.
        folder: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The folder for spilled activations is in a file system whose files lie in memory.
    #[cfg(feature = "libtorch")]
    #[error("{} lies in memory (tmpfs): activations spilled there would still take memory", folder.display())]
    SpillFolderInMemory {
        /// The folder.
        folder: PathBuf,
    },
    /// Autocast does not cast to this kind of number on this device.
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
