//! What a DQN is made of and how it learns. All values are checked where the user's configuration is parsed.

use embedders::Preset;

use crate::update::{Precision, UpdateOptions};

/// What stands before the value heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Body {
    /// The four embedders over market windows.
    Market {
        /// Widths of the embedders.
        preset: Preset,
        /// Dropout while learning; `None` keeps the preset's own.
        dropout: Option<f64>,
    },
    /// Two layers over the environment's local numbers.
    Plain,
}

/// How the target network follows the online one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TargetUpdate {
    /// A copy every so many learner steps.
    Periodic {
        /// Learner steps from one copy to the next.
        interval: u64,
    },
    /// A fraction of the way at every learner step.
    Soft {
        /// The fraction.
        tau: f64,
    },
}

/// A DQN's configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DqnConfig {
    /// What stands before the value heads.
    pub body: Body,
    /// Width of the value heads, and of the plain body's layers.
    pub hidden: i64,
    /// Actions.
    pub n_actions: i64,
    /// Numbers in the environment's local row.
    pub local_width: i64,
    /// The online network chooses the action whose value is bootstrapped.
    pub double: bool,
    /// Value and advantage are learned apart.
    pub dueling: bool,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Longest gradient, by norm over all parameters.
    pub max_gradient_norm: f64,
    /// How the target follows.
    pub target_update: TargetUpdate,
    /// Rewards are multiplied by it before they are learned from.
    pub reward_scale: f64,
    /// Transitions of a batch.
    pub batch: i64,
    /// The numbers that matrix products are computed in.
    pub precision: Precision,
    /// Whether gradients leave the device as soon as each is whole.
    pub offload_gradients: bool,
    /// Seed of the first weights and of dropout.
    pub seed: u64,
}

impl DqnConfig {
    /// The part of it that the update step needs.
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
