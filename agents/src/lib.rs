//! Algorithms: what to do with an observation, what to learn from a batch.
//!
//! One folder an algorithm, the same file names in each: `config`, `network`, `loss`, `actor`, `learner`. An
//! algorithm reads top to bottom without knowing where its batches come from or that memory is managed.

pub mod agent;
pub mod dqn;
pub mod embedding_cache;
pub mod error;
pub mod exploration;
pub mod seed;
pub mod update;

pub use agent::{Agent, Outcome, Policy};
pub use error::{Error, Result};

#[cfg(test)]
mod tests;
