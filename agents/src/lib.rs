//! Algorithms: which action to take on an observation, and what to learn from a batch.
//!
//! Each algorithm is a folder with the same file names: `config`, `network`, `loss`, `actor`, `learner`. It implements
//! [`Policy`] and [`Agent`], and its loss goes through the update step that all share ([`update`]). It does not know
//! where batches come from, nor that memory is managed.
//!
//! Reading order: [`agent`], [`dqn`], [`update`], then [`exploration`], [`embedding_cache`] and [`seed`].

pub mod agent;
pub mod context;
pub mod dqn;
pub mod embedding_cache;
pub mod error;
pub mod exploration;
pub mod seed;
pub mod settings;
pub mod update;

pub use agent::{Agent, Outcome, Policy};
pub use error::{Error, Result};

#[cfg(test)]
mod tests;
