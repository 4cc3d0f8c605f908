//! A run: from a configuration to a trained agent, its report and its folder.
//!
//! Reading order: [`train`] puts a run together, [`session`] is its loop, [`actor_loop`] acts, [`learner_loop`]
//! learns, [`checkpoint`] saves and restores, [`evaluation`] judges, [`summary`] and [`report`] tell.

pub mod actor_loop;
pub mod build;
pub mod checkpoint;
pub mod config;
pub mod evaluation;
pub mod folder;
pub mod learner_loop;
pub mod restore;
pub mod train_loop;
