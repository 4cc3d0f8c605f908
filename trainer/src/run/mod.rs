//! A run: its loop, its folder and its checkpoints.
//!
//! Reading order: [`build`] puts a run together and [`restore`] brings a resumed one back; [`train_loop`] is the loop;
//! [`actor_loop`] acts, [`learner_loop`] learns, [`checkpoint`] saves, and [`evaluation`] evaluates.

pub mod actor_loop;
pub mod build;
pub mod checkpoint;
pub mod config;
pub mod evaluation;
pub mod folder;
pub mod learner_loop;
pub mod restore;
pub mod train_loop;
