//! Leak detection: owners that grow and never fall. Leaks are reported; nothing is freed here.

pub mod step_boundaries;
