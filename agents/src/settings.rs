//! The settings of every agent, and what is built from them. A new agent adds a variant here and its own folder;
//! nothing else names it.

use std::sync::Arc;

use buffers::frames::Dataset;
use memsys::settings::{Check, Section};
use tch::Device;

use crate::agent::{Agent, Policy};
use crate::context::{AgentContext, Algorithm, ObservationKind};
use crate::dqn::config::{DqnSettings, PrecisionChoice};
use crate::dqn::{Actor, DqnConfig, Learner, Network};
use crate::error::Result;
use crate::exploration::ExplorationPlan;
use crate::update::Precision;

/// An agent that can be built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AgentConfig {
    /// A DQN.
    Dqn(DqnConfig),
}

impl AgentConfig {
    /// The policy that acts. It holds no weights.
    #[must_use]
    pub fn policy(&self) -> Arc<dyn Policy> {
        match self {
            Self::Dqn(config) => Arc::new(Actor::new(Network::new(config))),
        }
    }

    /// The agent that learns, over the streams of `dataset`.
    ///
    /// # Errors
    /// If libtorch refuses the memory.
    pub fn agent(&self, dataset: Arc<Dataset>, device: Device) -> Result<Box<dyn Agent>> {
        match self {
            Self::Dqn(config) => Ok(Box::new(Learner::new(*config, Network::new(config), dataset, device)?)),
        }
    }

    /// Whether matrix products are computed in bf16.
    #[must_use]
    pub fn is_bf16(&self) -> bool {
        match self {
            Self::Dqn(config) => config.precision == Precision::Bf16,
        }
    }

    /// The largest number of positions in the streams of which the learner keeps embeddings; 0 if it keeps none.
    #[must_use]
    pub fn most_kept_embeddings(&self) -> u64 {
        match self {
            Self::Dqn(config) => config.most_kept_embeddings(),
        }
    }

    /// What a program that reads the weights has to know of the network, by name: a file of weights carries it.
    #[must_use]
    pub fn network_facts(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Dqn(config) => config.network_facts(),
        }
    }

    /// The algorithm's name in a report.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dqn(_) => "DQN",
        }
    }
}

/// The settings of one agent.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentSettings {
    /// The settings of a DQN.
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

    /// The algorithm of the agent.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Dqn(_) => Algorithm::Dqn,
        }
    }

    /// The batch size and the pace of learning.
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

    /// The configuration of the agent in a run.
    #[must_use]
    pub fn resolve(&self, context: &AgentContext) -> AgentConfig {
        match self {
            Self::Dqn(dqn) => AgentConfig::Dqn(dqn.resolve(context)),
        }
    }

    /// Whether the chosen precision needs a GPU.
    #[must_use]
    pub fn needs_gpu(&self) -> bool {
        match self {
            Self::Dqn(dqn) => dqn.precision == PrecisionChoice::F16,
        }
    }

    /// The exploration plan in a run of `environment_steps`.
    #[must_use]
    pub fn exploration(&self, environment_steps: u64, seed: u64) -> ExplorationPlan {
        match self {
            Self::Dqn(dqn) => dqn.exploration(environment_steps, seed),
        }
    }

    fn section(&self) -> &dyn Section {
        match self {
            Self::Dqn(dqn) => dqn,
        }
    }
}

/// The agent's settings that the learner loop needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Transitions per learner step.
    pub batch: usize,
    /// The most transitions that go through the network at once.
    pub micro_batch: usize,
    /// The number of rewards that a transition sums.
    pub n_step: usize,
    /// The discount per step, γ.
    pub discount: f64,
    /// Transitions before the first learner step.
    pub learning_starts: usize,
    /// Sampled transitions per inserted one.
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

    fn set(&mut self, key: &str, value: toml::Value) -> std::result::Result<(), String> {
        match self {
            Self::Dqn(dqn) => dqn.set(key, value),
        }
    }

    fn checked(&self) -> Check {
        self.section().checked()
    }
}
