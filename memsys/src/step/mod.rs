//! A learner step under the memory limit: what each way to compute it costs, and how a refused one is retried.
//!
//! Reading order: [`cost`], [`retry`], [`ceiling`].

pub mod ceiling;
pub mod cost;
pub mod retry;
