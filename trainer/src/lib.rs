//! The composition root: market, environments, runs, reports and the command line.
//!
//! Reading order, from `plimsoll train` to the learner step: [`cli`], [`train`], [`run::build`], [`run::train_loop`],
//! [`run::actor_loop`] and [`run::learner_loop`], then `agents::dqn::learner`.

pub mod atomic_file;
pub mod bench;
pub mod cli;
pub mod config;
mod console;
pub mod envs;
pub mod error;
mod exact_f64;
pub mod export;
pub mod format;
pub mod interrupt;
pub mod market;
pub mod memory;
pub mod report;
pub mod resolve;
pub mod room_to_run;
pub mod run;
mod seal;
mod signals;
mod table_file;
pub mod telemetry;
pub mod train;

pub use error::{Error, Result};

/// Counts Rust's heap. Tensors are counted separately.
#[global_allocator]
static HEAP: memsys::os::CountedHeap = memsys::os::CountedHeap;
