//! Leak detection.

pub mod step_boundaries;
