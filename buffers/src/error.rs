//! The errors of this crate.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::store::{DATA_OFFSET, Damage};

/// An error of frame streams or replay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `memsys` refused a call: the memory limit, libtorch or the system.
    #[error(transparent)]
    Memsys(#[from] memsys::Error),
    /// tch refused a call.
    #[cfg(feature = "tensors")]
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// The replay holds no transition to sample.
    #[error("the replay holds no transition yet")]
    Empty,
    /// A replay was given a transition that cannot be one of its environment's.
    #[error("a transition of environment {environment} from local row {from} to {to} is refused: {what}")]
    WrongTransition {
        /// The environment.
        environment: u16,
        /// Position of the local row at which it begins.
        from: usize,
        /// Position of the local row to bootstrap from.
        to: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Local rows cannot be what the views show of them.
    #[error("local rows are refused: {what}")]
    LocalRows {
        /// What is wrong with them.
        what: String,
    },
    /// Priorities were to be set from TD errors that are not finite or not as many as the transitions.
    #[error("{what}: no priority was changed")]
    WrongTdErrors {
        /// What is wrong with them.
        what: String,
    },
    /// Transitions were inserted after a batch was drawn, so its rows may be gone.
    #[error(
        "{n_inserted} transitions were inserted between the draw of a batch and its gathering: gather it first"
    )]
    InsertedSinceDrawn {
        /// Number of transitions inserted since.
        n_inserted: u64,
    },
    /// Every transition of the replay needs rows that are damaged.
    #[error(
        "no transition of the replay can be read any more: start a new run, or put back the replay's file"
    )]
    NoneReadable,
    /// The saved replay does not fit the run that restores it.
    #[error("the saved replay has {what} {found}, this run has {wanted}")]
    Mismatch {
        /// The quantity that differs.
        what: &'static str,
        /// Its value in the saved replay.
        found: usize,
        /// Its value in this run.
        wanted: usize,
    },
    /// The ratio of samples to inserts is not a finite number above 0.
    #[error("samples per insert of {found}: a finite number above 0 is needed")]
    SamplesPerInsert {
        /// The requested ratio.
        found: f64,
    },
    /// Sampling would wait for more transitions than the replay can hold.
    #[error("sampling waits for {wanted} transitions, and the replay holds {capacity} at most")]
    NeverSamples {
        /// Transitions that sampling waits for.
        wanted: u64,
        /// Transitions that the replay holds at most.
        capacity: u64,
    },
    /// The error buffer is so small that inserting and sampling can wait for each other.
    #[error(
        "an error buffer of {found} samples: below {least} (half of what one insertion and one batch move) inserting \
         and sampling can wait for each other"
    )]
    ErrorBuffer {
        /// The requested error buffer.
        found: f64,
        /// The smallest error buffer that cannot block.
        least: f64,
    },
    /// The bytes of a compressed chunk are not what an encoder writes.
    #[error("a compressed chunk cannot be read: {what}")]
    Undecodable {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A part of a replay file differs from what was written. The rest of the file can be read.
    #[error("{}: {damage}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is damaged, and where.
        damage: Damage,
    },
    /// Another version of this program wrote the replay file.
    #[error("{}: a replay file of version {found}, this program reads version {wanted}", path.display())]
    WrongVersion {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: u32,
        /// The version that this program reads.
        wanted: u32,
    },
    /// The numbers of the replay file are big-endian.
    #[error("{}: a replay file with big-endian numbers, replay files are little-endian", path.display())]
    WrongEndianness {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a replay file.
    #[error("{}: not a replay file: give a run's folder, or its replay.plr or streams.plr", path.display())]
    NotAReplayFile {
        /// The file.
        path: PathBuf,
    },
    /// Another process, or another writer of this process, writes the file.
    #[error("{}: the replay file is being written by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The replay file that a saved state refers to is not there.
    #[error(
        "{}: the replay file is missing, and the saved state refers to its rows: put back the file that was saved with it",
        path.display()
    )]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// The replay file is not the one that a state was saved with, or another commit of it.
    #[error("{}: {}", path.display(), of_other_history(*found, *wanted))]
    OtherHistory {
        /// The file.
        path: PathBuf,
        /// Commits of the file, or `None` if it is another file.
        found: Option<u64>,
        /// Commits of the file when the state was saved.
        wanted: u64,
    },
    /// A restored transition cannot be one of this run's.
    #[error("the saved replay does not fit this run: transition {number} is impossible: {what}")]
    ImpossibleTransition {
        /// The number of the transition since the run began.
        number: u64,
        /// What is impossible about it.
        what: &'static str,
    },
    /// The replay file ends before the end of what was committed.
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
        /// The length up to which it was committed.
        committed_bytes: u64,
    },
    /// The disk, a quota or a limit on the size of files leaves no room for a write. What was committed before stays.
    #[error("{}: cannot {action}: {source}; what was committed before is kept", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// The refused action.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// The options of a mapped replay name no file.
    #[error("a mapped replay needs a file to map")]
    NoFile,
    /// The system refused an action on a file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refused action.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Error {
    /// The error for an action on a file that the system refused.
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

fn of_other_history(found: Option<u64>, wanted: u64) -> String {
    let way_out = "put back the file that was saved with it, or the state that belongs to this file";
    match found {
        None => format!("the replay file of another run than the saved state's: {way_out}"),
        Some(found) if found < wanted => format!(
            "the replay file is older than the saved state (commit {found}, the state was saved with {wanted}): {way_out}"
        ),
        Some(found) => format!(
            "the replay file went on without the saved state (commit {found}, the state was saved with {wanted}): {way_out}"
        ),
    }
}

fn what_is_left(found_bytes: u64) -> &'static str {
    if found_bytes <= DATA_OFFSET {
        return "no rows are left in it";
    }
    "what is left can be read and copied to a new file"
}
