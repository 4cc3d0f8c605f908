//! Whichever agent a run has: its settings, and what is built from them. A new agent adds a variant here and a folder
//! of its own; nothing else names it.

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

/// An agent that can be built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AgentConfig {
    /// A DQN.
    Dqn(DqnConfig),
}

impl AgentConfig {
    /// What acts. It holds no weights.
    #[must_use]
    pub fn policy(&self) -> Arc<dyn Policy> {
        match self {
            Self::Dqn(config) => Arc::new(Actor::new(Network::new(config))),
        }
    }

    /// What learns, over the streams of `dataset`.
    ///
    /// # Errors
    /// If libtorch refuses the memory.
    pub fn agent(&self, dataset: Arc<Dataset>, device: Device) -> Result<Box<dyn Agent>> {
        match self {
            Self::Dqn(config) => Ok(Box::new(Learner::new(*config, Network::new(config), dataset, device)?)),
        }
    }

    /// The algorithm's name, as a report has it.
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

    /// The agent that they describe in a run.
    #[must_use]
    pub fn resolve(&self, context: &AgentContext) -> AgentConfig {
        match self {
            Self::Dqn(dqn) => AgentConfig::Dqn(dqn.resolve(context)),
        }
    }

    /// Whether the precision that they ask for is computed on a GPU alone.
    #[must_use]
    pub fn needs_gpu(&self) -> bool {
        match self {
            Self::Dqn(dqn) => dqn.precision == PrecisionChoice::F16,
        }
    }

    /// How the agent explores in a run of `environment_steps`.
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

    fn set(&mut self, key: &str, value: toml::Value) -> std::result::Result<(), String> {
        match self {
            Self::Dqn(dqn) => dqn.set(key, value),
        }
    }

    fn checked(&self) -> Check {
        self.section().checked()
    }
}
