//! What can go wrong, and how the program says so.

use std::path::{Path, PathBuf};

use memsys::ledger::refusal::{Refusal, RefusedBy};
use memsys::limit::MemoryLimit;

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
        MemoryLimit::Bytes(*smallest_limit_bytes),
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
    /// The device limit cannot hold the run.
    #[error(
        "memory.device_limit: a device limit of {} cannot hold this run; the smallest that can is {} (--device-memory {})",
        format::bytes(*limit_bytes),
        format::bytes(*smallest_limit_bytes),
        MemoryLimit::Bytes(*smallest_limit_bytes)
    )]
    DeviceLimitTooLow {
        /// The device limit.
        limit_bytes: u64,
        /// The smallest that would do.
        smallest_limit_bytes: u64,
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
    /// The memory limit did not hold in `bench limit`.
    #[error(
        "the memory limit did not hold in {n_passed} of {n_runs} runs, and {n_plans_failed} plans failed: the table says \
         where"
    )]
    LimitPassed {
        /// Runs that were killed, failed, or passed the limit.
        n_passed: usize,
        /// All runs.
        n_runs: usize,
        /// Configurations whose plan failed.
        n_plans_failed: usize,
    },
    /// The memory limit or the GPU refused an allocation, also after caches were given back and in the smallest blocks.
    #[error("{cause}; {way_out}")]
    OutOfRoom {
        /// What was refused.
        cause: String,
        /// What is saved, and what to do.
        way_out: String,
    },
    /// The process was asked to stop, and stopped before the work was done.
    #[error("stopped as asked, before the work was done")]
    Interrupted,
    /// The loss of the run is not a number any more.
    #[error("{cause}; {way_out}")]
    Diverged {
        /// At which step it happened.
        cause: String,
        /// What can be done.
        way_out: String,
    },
    /// A disk is full, or a file has the largest length that is allowed.
    #[error("{cause}; {way_out}")]
    DiskFull {
        /// What could not be written.
        cause: String,
        /// What is kept, and what to do.
        way_out: String,
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

/// The smallest step in which a larger memory limit is recommended.
const LIMIT_STEP_BYTES: u64 = 1 << 20;

impl Error {
    /// Whether the memory limit or the GPU refused an allocation for good.
    #[must_use]
    pub fn is_out_of_room(&self) -> bool {
        use memsys::Error::{Refused, RefusedByDevice};
        matches!(self, Error::OutOfRoom { .. })
            || matches!(self.of_memory(), Some(Refused(_) | RefusedByDevice { .. }))
    }

    /// Whether a write failed because there is no room for it on the disk.
    fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let source = match self {
            Error::Io { source, .. } | Error::Replay(buffers::Error::Io { source, .. }) => source,
            _ => return false,
        };
        matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge)
    }

    /// The error of the memory system, through whichever part it came.
    fn of_memory(&self) -> Option<&memsys::Error> {
        Some(match self {
            Error::Memory(error) | Error::Replay(buffers::Error::Memsys(error)) => error,
            #[cfg(feature = "libtorch")]
            Error::Agent(
                agents::Error::Memory(error)
                | agents::Error::Embedder(embedders::Error::Memory(error))
                | agents::Error::Replay(buffers::Error::Memsys(error)),
            ) => error,
            _ => return None,
        })
    }

    /// Adds to a refusal what is saved and what to do; other errors stay as they are. `saved` is the folder of the run that
    /// can go on.
    #[must_use]
    pub fn with_way_out(self, saved: Option<&Path>) -> Self {
        use memsys::Error::{Refused, RefusedByDevice};
        if self.is_disk_full() {
            let way_out = saved.map_or_else(
                || "free some of the disk, or raise the limit on file sizes, and start again".to_owned(),
                |folder| {
                    format!(
                        "the last whole checkpoint is kept: free some of the disk, or raise the limit on file sizes, and go \
                         on with: plimsoll train --resume {}",
                        folder.display()
                    )
                },
            );
            return Error::DiskFull { cause: self.to_string(), way_out };
        }
        let more = match self.of_memory() {
            Some(Refused(refusal)) if refusal.by == RefusedBy::Limit => Some(higher_limit(refusal)),
            // A higher limit does not help where the system or a device has no more.
            Some(Refused(_) | RefusedByDevice { .. }) => None,
            _ => return self,
        };
        let way_out = match (saved, more) {
            (Some(folder), Some(limit)) => format!(
                "the run is saved, go on with: plimsoll train --resume {} --memory {limit}",
                folder.display()
            ),
            (Some(folder), None) => format!(
                "the run is saved; once other programs have freed memory, go on with: plimsoll train --resume {}",
                folder.display()
            ),
            (None, Some(limit)) => format!("give --memory {limit} or more"),
            (None, None) => "end other programs that hold memory, and start again".to_owned(),
        };
        Error::OutOfRoom { cause: self.to_string(), way_out }
    }

    /// Adds to a divergence what can be done; other errors stay as they are. `saved` is the folder of the run if it has a
    /// checkpoint.
    #[cfg(feature = "libtorch")]
    #[must_use]
    pub fn with_divergence(self, learning_rate: &str, saved: Option<&Path>) -> Self {
        if !matches!(self, Error::Agent(agents::Error::Diverged { .. })) {
            return self;
        }
        let mut way_out = format!(
            "start a new run with a lower agent.learning_rate (this run has {learning_rate}) or a lower \
             agent.max_gradient_norm: resumed, this run would diverge again"
        );
        if let Some(folder) = saved {
            way_out.push_str(&format!(
                "; what it had learned before is judged by: plimsoll evaluate --run {}",
                folder.display()
            ));
        }
        Error::Diverged { cause: self.to_string(), way_out }
    }

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

/// A memory limit that would have had room for what was refused.
fn higher_limit(refusal: &Refusal) -> MemoryLimit {
    let missing = refusal.wanted_bytes.saturating_sub(refusal.left_bytes);
    let needed = refusal.limit_bytes.saturating_add(missing).saturating_add(1);
    MemoryLimit::Bytes(needed.checked_next_multiple_of(LIMIT_STEP_BYTES).unwrap_or(needed))
}

/// True of a replay file that cannot be used as it is.
fn is_bad_file(error: &buffers::Error) -> bool {
    use buffers::Error::{
        Damaged, ImpossibleTransition, Io, Locked, MissingFile, NotAReplayFile, OtherHistory,
    };
    use buffers::Error::{Truncated, WrongEndianness, WrongVersion};
    match error {
        ImpossibleTransition { .. } | MissingFile { .. } | OtherHistory { .. } => true,
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

/// A message of libtorch without the list of C++ frames that stands below it.
#[must_use]
pub fn without_frames(message: &str) -> &str {
    let ends = ["\nException raised from", "\nframe #"].map(|mark| message.find(mark));
    message[..ends.into_iter().flatten().min().unwrap_or(message.len())].trim_end()
}

#[cfg(all(test, feature = "libtorch"))]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_libtorch_is_told_without_its_frames() {
        let said = "a refused allocation\nException raised from allocate at a.cpp:1\nframe #0: c10::Error";
        assert_eq!(without_frames(said), "a refused allocation");
        assert_eq!(without_frames("one line"), "one line");
        assert_eq!(without_frames("a table:\n  of two lines"), "a table:\n  of two lines");
    }

    #[test]
    fn a_divergence_says_what_can_be_done() {
        let diverged = || Error::Agent(agents::Error::Diverged { learner_step: 7, loss: f64::NAN });
        let said = diverged().with_divergence("0.001", Some(Path::new("runs/x"))).to_string();
        for word in [
            "the loss of learner step 7 is NaN: learning has diverged; start a new run with a lower agent.learning_rate",
            "(this run has 0.001)",
            "plimsoll evaluate --run runs/x",
        ] {
            assert!(said.contains(word), "{said}");
        }
        assert!(!diverged().with_divergence("0.001", None).to_string().contains("evaluate"));
        assert!(matches!(Error::ActorLost.with_divergence("0.001", None), Error::ActorLost));
    }

    #[test]
    fn a_refusal_anywhere_names_a_limit_that_would_do_and_the_way_to_go_on() {
        let refusal = Refusal {
            owner: memsys::ledger::Owner::named("run/actor"),
            by: RefusedBy::Limit,
            wanted_bytes: 12 << 20,
            left_bytes: 3 << 20,
            limit_bytes: 300 << 20,
        };
        let refused = || memsys::Error::Refused(refusal);
        for error in [
            Error::Memory(refused()),
            Error::Replay(refused().into()),
            Error::Agent(agents::Error::Memory(refused())),
            Error::Agent(agents::Error::Replay(refused().into())),
            Error::Agent(agents::Error::Embedder(refused().into())),
        ] {
            let said = error.with_way_out(Some(Path::new("runs/x"))).to_string();
            assert!(said.starts_with("out of memory: run/actor asked for 12.0 MiB"), "{said}");
            assert!(said.ends_with("go on with: plimsoll train --resume runs/x --memory 310MiB"), "{said}");
            assert_eq!(said.lines().count(), 1);
        }
        let by_system = Error::Memory(memsys::Error::Refused(Refusal { by: RefusedBy::System, ..refusal }));
        let said = by_system.with_way_out(Some(Path::new("runs/x"))).to_string();
        assert!(said.contains("the system gave no memory"), "{said}");
        assert!(
            said.ends_with("freed memory, go on with: plimsoll train --resume runs/x"),
            "a higher limit does not help: {said}"
        );
        let by_device = || {
            let (allocated_bytes, limit_bytes) = (7 << 30, 8 << 30);
            Error::Memory(memsys::Error::RefusedByDevice { device: "cuda:0", allocated_bytes, limit_bytes })
        };
        assert!(by_device().is_out_of_room(), "such a run is saved too");
        let said = by_device().with_way_out(Some(Path::new("runs/x"))).to_string();
        assert!(
            said.starts_with("out of memory on cuda:0: 7.00 GiB of the device limit of 8.00 GiB"),
            "{said}"
        );
        assert!(said.ends_with("go on with: plimsoll train --resume runs/x"), "{said}");
        let other = Error::ActorLost.with_way_out(None);
        assert!(matches!(other, Error::ActorLost) && !other.is_out_of_room());
    }
}
