//! What an agent needs to know about its run.

use embedders::EmbedderSettings;
use serde::{Deserialize, Serialize};

/// The algorithm that an agent learns by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Deep Q-learning.
    Dqn,
}

/// The kind of an agent's observations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservationKind {
    /// Windows over a market's bars, and an account.
    Market,
    /// Only the environment's local row.
    Plain,
}

/// What an agent needs to know about its run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgentContext {
    /// The kind of the observations.
    pub observations: ObservationKind,
    /// The settings of the market's embedders.
    pub embedders: EmbedderSettings,
    /// Number of actions.
    pub n_actions: usize,
    /// Values per local row.
    pub local_width: usize,
    /// Whether each gradient moves to host memory as soon as it is complete.
    pub offload_gradients: bool,
    /// Seed of the initial weights and of dropout.
    pub seed: u64,
}
