//! The composition root: market, environments, runs, reports and the command line.
//!
//! Reading order, from `plimsoll train` to the learner step: [`cli`], [`run::train`], [`run::session`],
//! [`run::actor_loop`] and [`run::learner_loop`], then `agents::dqn::learner`.

pub mod bench;
pub mod cartpole;
pub mod cli;
pub mod config;
pub mod environment;
pub mod error;
pub mod market;
mod output;
pub mod run;
mod signals;

pub use error::{Error, Result};

/// Rust's heap is counted, as every tensor is.
#[global_allocator]
static HEAP: memsys::libtorch::CountedHeap = memsys::libtorch::CountedHeap;
