//! What can go wrong in this crate.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::store::{DATA_OFFSET, Damage};

/// An error of frame streams or replay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The border to libtorch refused a call.
    #[error(transparent)]
    Libtorch(#[from] memsys::Error),
    /// tch refused a call.
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// A batch was asked of a replay that holds no transition.
    #[error("the replay holds no transition yet")]
    Empty,
    /// A saved state does not belong to this replay.
    #[error("the saved replay has {what} {found}, this run has {wanted}")]
    Mismatch {
        /// The quantity that differs.
        what: &'static str,
        /// What was saved.
        found: usize,
        /// What is needed.
        wanted: usize,
    },
    /// A ratio of samples to inserts that no run can keep.
    #[error("samples per insert of {found}: a finite number above 0 is needed")]
    SamplesPerInsert {
        /// What was asked for.
        found: f64,
    },
    /// Sampling waits for more transitions than the replay ever holds.
    #[error("sampling waits for {wanted} transitions, and the replay holds {capacity} at most")]
    NeverSamples {
        /// Transitions that sampling waits for.
        wanted: u64,
        /// Transitions that the replay holds.
        capacity: u64,
    },
    /// Within this band inserting and sampling can wait for each other.
    #[error(
        "an error buffer of {found} samples: below {least} (half of what one insertion and one batch move) inserting \
         and sampling can wait for each other"
    )]
    ErrorBuffer {
        /// What was asked for.
        found: f64,
        /// The least that never stands still.
        least: f64,
    },
    /// A compressed chunk holds what no encoder writes.
    #[error("a compressed chunk cannot be read: {what}")]
    Undecodable {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A part of a replay file is not what was written. The rest of the file can be read.
    #[error("{}: {damage}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is damaged, and where.
        damage: Damage,
    },
    /// A replay file of another version of this program.
    #[error("{}: a replay file of version {found}, this program reads version {wanted}", path.display())]
    WrongVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version of this program.
        wanted: u32,
    },
    /// A replay file whose numbers are big-endian.
    #[error("{}: a replay file with big-endian numbers, replay files are little-endian", path.display())]
    WrongEndianness {
        /// The file.
        path: PathBuf,
    },
    /// Some other file.
    #[error("{}: not a replay file", path.display())]
    NotAReplayFile {
        /// The file.
        path: PathBuf,
    },
    /// Another process (or another writer of this one) writes the file.
    #[error("{}: the replay file is being written by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A replay file that ends before what was committed.
    #[error(
        "{}: the replay file was cut off: it has {found_bytes} bytes, {committed_bytes} were committed; {}",
        path.display(),
        what_is_left(*found_bytes)
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length.
        found_bytes: u64,
        /// The least length that it must have.
        committed_bytes: u64,
    },
    /// There is no room for what was to be written. What was committed before is kept.
    #[error("{}: cannot {action}: {source}; what was committed before is kept", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What was asked.
        action: &'static str,
        /// What the system said: no space, a quota, or a limit on the size of files.
        source: std::io::Error,
    },
    /// A replay whose chunks may go to a file was given none.
    #[error("a mapped replay needs a file to map")]
    NoFile,
    /// The system refused something of a file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was asked.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// What the system's refusal means for a file.
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::DiskFull { path, action, source }
            }
            _ => Self::Io { path, action, source },
        }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn what_is_left(found_bytes: u64) -> &'static str {
    if found_bytes <= DATA_OFFSET {
        return "no rows are left in it";
    }
    "what is left can be read and copied to a new file"
}
