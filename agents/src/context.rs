//! What an agent must know of the run that it is part of.

use embedders::EmbedderSettings;
use serde::{Deserialize, Serialize};

/// What an agent learns by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Deep Q-learning.
    Dqn,
}

/// How an agent's observations are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservationKind {
    /// Windows over a market's bars, and an account.
    Market,
    /// Only the environment's local numbers.
    Plain,
}

/// What an agent must know of the run that it is part of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgentContext {
    /// How observations are made.
    pub observations: ObservationKind,
    /// The market's networks.
    pub embedders: EmbedderSettings,
    /// Number of actions.
    pub n_actions: usize,
    /// Numbers in an environment's local row.
    pub local_width: usize,
    /// Whether gradients leave the device as soon as each is whole.
    pub offload_gradients: bool,
    /// Seed of the initial weights and of dropout.
    pub seed: u64,
}
