//! A run: it trains an agent and keeps its checkpoints and metrics in the run's folder.
//!
//! Reading order: [`build`] builds a run, [`train_loop`] drives it, [`actor_loop`] acts, [`learner_loop`] learns,
//! [`evaluation`] measures the agent, [`checkpoint`] saves a run and [`restore`] continues it.

pub mod actor_loop;
pub mod agent_backtests;
pub mod build;
pub mod checkpoint;
pub mod checkpoint_folder;
pub mod config;
pub mod counters;
pub mod evaluation;
pub mod folder;
pub mod learner_loop;
pub mod market_test;
mod metrics_window;
pub mod restore;
mod run_lock;
mod spilling;
mod state_file;
pub mod summed_file;
pub mod tensor_file;
pub mod train_loop;
