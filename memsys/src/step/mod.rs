//! A learner step under the memory limit: what each step configuration costs, and how a refused step is tried again.
//!
//! Reading order: [`activation_mode`], [`cost`], [`mode_choice`], [`advice`], `room`, `retry`.

pub mod activation_mode;
pub mod advice;
pub mod cost;
#[cfg(all(test, feature = "libtorch"))]
mod fake_device;
pub mod mode_choice;
#[cfg(feature = "libtorch")]
pub mod retry;
#[cfg(feature = "libtorch")]
pub mod room;
