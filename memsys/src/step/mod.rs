//! A learner step under the memory limit: what each step configuration costs, and how a refused step is tried again.
//!
//! Reading order: [`activation_mode`], [`cost`], `room`, `retry`, [`ceiling`].

pub mod activation_mode;
pub mod ceiling;
pub mod cost;
#[cfg(feature = "libtorch")]
pub mod retry;
#[cfg(feature = "libtorch")]
pub mod room;
