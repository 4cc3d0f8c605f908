//! A learner step under the memory limit: what each step configuration costs, and how a refused step is tried again.
//!
//! Reading order: [`activation_mode`], [`stage_modes`], [`stage_trace`], `knapsack`, [`stage_cost`], [`cost`],
//! [`mode_choice`], [`advice`], `room`, `retry`.

pub mod activation_mode;
pub mod advice;
pub mod cost;
#[cfg(all(test, feature = "libtorch"))]
mod fake_device;
mod knapsack;
pub mod mode_choice;
#[cfg(feature = "libtorch")]
pub mod retry;
#[cfg(feature = "libtorch")]
pub mod room;
pub mod stage_cost;
pub mod stage_modes;
pub mod stage_trace;
