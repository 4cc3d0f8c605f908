//! Whether the surroundings have room for a run, before it begins: threads, and bytes on the disk of its folder.
//!
//! What the system refuses later ends a run in its middle, and a library that gets no thread ends the process or waits for
//! ever. So both are asked for at the start, and a refusal says what to raise.

use std::path::Path;
use std::sync::mpsc;

use buffers::replay::Prefetch;
use buffers::store::Tier;
use memsys::os::free_bytes;

use crate::error::{Error, Result};
use crate::format;
use crate::memory::plan::replay_bytes;
use crate::resolve::Parts;

/// Stack of a thread that only waits.
const STACK_BYTES: usize = 64 << 10;
/// Threads of every run that computes: the monitor of memory and its alerts.
const WATCHING_THREADS: usize = 2;
/// Flat copies of the weights in a checkpoint: by name the last and the judged; online, target, two moments and the best.
const CHECKPOINT_COPIES: u64 = 7;
/// Checkpoints that lie on the disk while one takes the place of another.
const CHECKPOINTS: u64 = 2;
/// Metrics, events, the report and the configuration.
const OTHER_BYTES: u64 = 16 << 20;

/// Refuses a run for which the system allows too few threads. It starts as many as the run will have, and ends them again.
///
/// # Errors
/// [`Error::Config`] with how many there are.
pub fn require_threads(parts: &Parts) -> Result<()> {
    let helpers = usize::try_from(parts.threads).unwrap_or(1).saturating_sub(1);
    let learning = &parts.learning;
    // The actor computes on threads of its own, beside the learner's.
    let actor = if parts.work.is_synchronous { 0 } else { 1 + helpers };
    let gathering = usize::from(learning.prefetch == Prefetch::Ahead);
    let encoding = usize::from(learning.replay.store.tier != Tier::Hot);
    let needed = WATCHING_THREADS + helpers + actor + gathering + encoding;
    let (end, ended) = mpsc::channel::<()>();
    let ended = std::sync::Arc::new(std::sync::Mutex::new(ended));
    let wait = || {
        let ended = std::sync::Arc::clone(&ended);
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            let _ = ended.lock().map(|ended| ended.recv());
        })
    };
    let started: Vec<_> = std::iter::repeat_with(wait).take(needed).map_while(std::io::Result::ok).collect();
    let n_started = started.len();
    drop(end);
    for thread in started {
        let _ = thread.join();
    }
    if n_started == needed {
        return Ok(());
    }
    let problem = format!(
        "the system lets this process start {n_started} more threads, and this run needs {needed}: raise the limit \
         (ulimit -u, or pids.max of its control group), or give fewer --threads"
    );
    Err(Error::Config { key: "run.threads".to_owned(), problem })
}

/// Refuses a run whose checkpoints do not fit on the disk of its folder. `has_checkpoint` says whether one lies there.
///
/// # Errors
/// [`Error::File`] with how many bytes are free and needed.
pub fn require_disk(folder: &Path, parts: &Parts, flat_bytes: u64, has_checkpoint: bool) -> Result<()> {
    let Some(existing) = folder.ancestors().find(|folder| folder.is_dir()) else { return Ok(()) };
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    // A disk that does not tell is taken at its word when it is written to.
    let Ok(free) = free_bytes(existing) else { return Ok(()) };
    let checkpoint = CHECKPOINT_COPIES * flat_bytes + replay_bytes(parts);
    let n_missing = if has_checkpoint { CHECKPOINTS - 1 } else { CHECKPOINTS };
    let needed = n_missing * checkpoint + OTHER_BYTES;
    if free >= needed {
        return Ok(());
    }
    let problem = format!(
        "its disk has {} free, and the run needs {} for its checkpoints, of which two lie there while one is saved: free \
         some, give an --out on another disk, or a smaller replay.capacity",
        format::bytes(free),
        format::bytes(needed)
    );
    Err(Error::File { path: folder.to_path_buf(), problem })
}
