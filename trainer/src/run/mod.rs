//! A run: from a configuration to a trained agent, its report and its folder.
//!
//! Reading order: [`train`] puts a run together, [`session`] is its loop, [`actor_loop`] acts, [`learner_loop`]
//! learns, [`checkpoint`] saves and restores, [`evaluation`] judges, [`summary`] and [`report`] tell.

pub mod actor_loop;
pub mod backtest;
pub mod baselines;
pub mod checkpoint;
pub mod evaluation;
pub mod events;
pub mod files;
pub mod folder;
pub mod human;
pub mod learner_loop;
pub mod memory;
pub mod metrics;
pub mod performance;
pub mod plan;
pub mod progress;
pub mod report;
pub mod session;
pub mod summary;
pub mod survey;
pub mod train;
