//! Measures this program, and prints what it measured.
//!
//! Every figure is the median of several repeats on stated threads. A machine that is shared drifts: compare figures
//! of one run, never those of two days; [`peers`] therefore takes turns with the others within one run.

pub mod memory;
pub mod peers;
pub mod replay;
pub mod train;

pub use memory::BenchMemoryArgs;
pub use replay::BenchReplayArgs;
pub use train::BenchTrainArgs;

use std::time::Instant;

/// Seconds of `work`, the median over `n_repeats` calls after one that warms up.
pub(crate) fn median_seconds<T>(
    n_repeats: usize,
    mut work: impl FnMut() -> crate::error::Result<T>,
) -> crate::error::Result<f64> {
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
