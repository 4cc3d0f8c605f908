//! A DQN's configuration. The program that parses the user's configuration checks the ranges.

use embedders::Preset;

use crate::update::{Precision, UpdateOptions};

/// The part of the network before the value heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Body {
    /// The four embedders over market windows.
    Market {
        /// Widths of the embedders.
        preset: Preset,
        /// Dropout while learning, in [0, 1). `None` keeps the preset's.
        dropout: Option<f64>,
    },
    /// Two linear layers over the local row.
    Plain,
}

/// How the target network follows the online network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TargetUpdate {
    /// A copy of the online weights at regular learner steps.
    Periodic {
        /// Learner steps from one copy to the next.
        interval: u64,
    },
    /// `target += tau (online − target)` at every learner step.
    Soft {
        /// In (0, 1].
        tau: f64,
    },
}

/// All that defines a DQN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DqnConfig {
    /// The part of the network before the value heads.
    pub body: Body,
    /// Width of the hidden layer of the value heads, and of the plain body's layers.
    pub hidden: i64,
    /// Number of actions.
    pub n_actions: i64,
    /// Numbers in the local row.
    pub local_width: i64,
    /// Double DQN: the online network selects the action whose target value is bootstrapped.
    pub double: bool,
    /// Dueling heads: state value and advantages are learned apart.
    pub dueling: bool,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Norm over all parameters to which a longer gradient is scaled down.
    pub max_gradient_norm: f64,
    /// How the target network follows the online network.
    pub target_update: TargetUpdate,
    /// Factor on rewards before they are learned from.
    pub reward_scale: f64,
    /// Transitions per batch.
    pub batch: i64,
    /// The kind of number of matrix products.
    pub precision: Precision,
    /// Whether each gradient moves to the host's memory as soon as it is complete.
    pub offload_gradients: bool,
    /// Seed of the initial weights and of dropout.
    pub seed: u64,
}

impl DqnConfig {
    /// The options of the update step.
    #[must_use]
    pub fn update_options(&self) -> UpdateOptions {
        UpdateOptions {
            learning_rate: self.learning_rate,
            max_gradient_norm: self.max_gradient_norm,
            precision: self.precision,
            offload_gradients: self.offload_gradients,
            seed: self.seed,
        }
    }
}
