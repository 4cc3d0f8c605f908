//! Benchmarks of this program.
//!
//! Every figure is the median of several repeats on a stated number of threads. A shared machine drifts: compare
//! figures of one run, never those of two days. For that reason [`peers`] takes turns with the peers within one
//! run.

pub mod limit;
pub mod memory;
pub mod peers;
pub mod replay;
pub mod train;

pub use limit::BenchLimitArgs;
pub use memory::BenchMemoryArgs;
pub use replay::BenchReplayArgs;
pub use train::BenchTrainArgs;

use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use crate::console::say_always;
use crate::error::{Error, Result};
use crate::signals::{self, Caught};

/// A folder in `within` for the files of a bench. It is removed at the end of the bench, on an error, and on the first
/// signal that asks the bench to stop, such as Ctrl-C, which ends the program with status 130.
pub(crate) fn scratch_folder(within: &Path) -> Result<TempDir> {
    // A signal that comes before there is a folder waits until the folder can be removed.
    let caught = signals::catch().map_err(Error::io(within))?;
    let folder = scratch(within)?;
    end_on_signal(caught, within, Some(folder.path().to_owned()), || {})?;
    Ok(folder)
}

/// A folder in `within` that is removed where it is dropped.
fn scratch(within: &Path) -> Result<TempDir> {
    tempfile::Builder::new().prefix(".plimsoll-bench-").tempdir_in(within).map_err(Error::io(within))
}

/// On the first signal that asks the bench to stop calls `stop`, removes a folder, and ends the program with status 130.
fn end_on_signal(
    caught: Caught,
    within: &Path,
    removed: Option<PathBuf>,
    stop: impl Fn() + Send + 'static,
) -> Result<()> {
    let end = move |_request| {
        stop();
        if let Some(path) = &removed
            && let Err(error) = std::fs::remove_dir_all(path)
        {
            say_always(&format!("plimsoll: {}: {error}: to be removed by hand", path.display()));
        }
        // At once: others compute, and what a usual exit takes down they need.
        signal_hook::low_level::exit(130);
    };
    caught.act(end).map_err(Error::io(within))
}

/// Seconds of `work`, the median over `n_repeats` calls after one that warms up.
pub(crate) fn median_seconds<T>(n_repeats: usize, mut work: impl FnMut() -> Result<T>) -> Result<f64> {
    work()?;
    let mut seconds = Vec::with_capacity(n_repeats);
    for _ in 0..n_repeats {
        let began = Instant::now();
        work()?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    Ok(median(&mut seconds))
}

/// The middle of `values`, the upper one of two.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
