//! Memory: who holds how many bytes, the memory limit, learner steps that run inside it, and the border to libtorch.
//!
//! ```text
//! limit     the memory limit that the user states: a size, or a share of what the machine allows
//! ledger/   who holds how many bytes; reservations; the budget that refuses what would pass the limit
//! os/       the operating system: readings of memory, the global allocator, mapped files, the page cache
//! libtorch/ libtorch's C++: the tensors' allocator, scalar operations, devices
//! nn/       flat parameters, Adam, precision; activations that are kept, recomputed or spilled
//! step/     what a learner step costs, and how a refused one is tried again in fewer bytes
//! system/   `MemoryOptimizationSystem`: snapshot, policy, directive, collector, leaks, recommendations
//! ```
//!
//! Read the modules in this order. The crate uses no other crate of the project, and it knows neither agents nor
//! environments. Without the feature `libtorch`, which is on by default, `libtorch/`, `nn/`, `step::room` and
//! `step::retry` are left out and the crate needs no libtorch.

#![cfg_attr(
    not(feature = "libtorch"),
    allow(dead_code, reason = "what counts and refuses tensors has no caller")
)]

pub mod error;
pub mod ledger;
#[cfg(feature = "libtorch")]
pub mod libtorch;
pub mod limit;
#[cfg(feature = "libtorch")]
pub mod nn;
pub mod os;
pub mod settings;
pub mod step;
pub mod system;

pub use error::{Error, Result};
