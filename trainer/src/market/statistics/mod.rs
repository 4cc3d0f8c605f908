//! The statistics that the regime view rests on: pure functions of a window of numbers, one idea a file.
//!
//! Each function computes its whole window anew, so that a number depends on its window alone: nothing is kept by
//! adding what enters and subtracting what leaves. Sums run in a fixed order. No function knows bars, a clock or
//! the future.

pub mod amihud;
pub mod location;
pub mod mmd;
pub mod parkinson;
pub mod percentile;
pub mod time_of_day;
pub mod trend_test;
pub mod variance_ratio;
