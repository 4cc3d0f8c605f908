//! The settings of whichever agent a run has. A new agent adds a variant here and a file beside itself.

use memsys::settings::{Check, Section};
use serde::{Deserialize, Serialize};

use crate::dqn::settings::DqnSettings;

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

/// The settings of one agent.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentSettings {
    /// Of a DQN.
    Dqn(DqnSettings),
}

impl AgentSettings {
    /// The defaults of `algorithm` for observations of `kind`.
    #[must_use]
    pub fn defaults(algorithm: Algorithm, kind: ObservationKind) -> Self {
        match (algorithm, kind) {
            (Algorithm::Dqn, ObservationKind::Market) => Self::Dqn(DqnSettings::default()),
            (Algorithm::Dqn, ObservationKind::Plain) => Self::Dqn(DqnSettings::plain()),
        }
    }

    /// Which agent they are of.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Dqn(_) => Algorithm::Dqn,
        }
    }

    /// How fast it learns, and from how much.
    #[must_use]
    pub fn pace(&self) -> Pace {
        match self {
            Self::Dqn(dqn) => Pace {
                batch: dqn.batch,
                micro_batch: dqn.micro_batch,
                n_step: dqn.n_step,
                discount: dqn.discount,
                learning_starts: dqn.learning_starts,
                samples_per_insert: dqn.samples_per_insert,
            },
        }
    }

    fn section(&self) -> &dyn Section {
        match self {
            Self::Dqn(dqn) => dqn,
        }
    }
}

/// What the loop around a learner needs to know of the agent's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Transitions of a learner step.
    pub batch: usize,
    /// The most of them that go through the network at once.
    pub micro_batch: usize,
    /// Rewards summed in a transition.
    pub n_step: usize,
    /// γ.
    pub discount: f64,
    /// Transitions before the first learner step.
    pub learning_starts: usize,
    /// Sampled transitions for each inserted one.
    pub samples_per_insert: f64,
}

impl Section for AgentSettings {
    fn about(&self) -> &'static str {
        self.section().about()
    }

    fn keys(&self) -> Vec<(&'static str, &'static str)> {
        self.section().keys()
    }

    fn table(&self) -> toml::Table {
        self.section().table()
    }

    fn set(&mut self, key: &str, value: toml::Value) -> Result<(), String> {
        match self {
            Self::Dqn(dqn) => dqn.set(key, value),
        }
    }

    fn checked(&self) -> Check {
        self.section().checked()
    }
}
