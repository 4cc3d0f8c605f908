//! The statistics that the regime view rests on: pure functions of a window of numbers, one idea a file.
//!
//! Each takes the window whole and computes it anew, so that a number depends on its window alone and not on the
//! way that led there: nothing is kept by adding what enters and subtracting what leaves. Sums run in a fixed
//! order. They know no bars, no clock and no future.

pub mod amihud;
pub mod location;
pub mod mmd;
pub mod parkinson;
pub mod percentile;
pub mod time_of_day;
pub mod trend_test;
pub mod variance_ratio;
