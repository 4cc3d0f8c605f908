//! A learner step under the memory limit: what each way to compute it costs, and how a refused one is retried.
//!
//! Reading order: [`activation_mode`], [`cost`], `retry`, [`ceiling`].

pub mod activation_mode;
pub mod ceiling;
pub mod cost;
#[cfg(feature = "libtorch")]
pub mod retry;
