//! The settings of a DQN as the user writes them, and the configuration that a run resolves from them.

use buffers::replay::n_step::MOST_N_STEP;
use documented::{Documented, DocumentedFields};
use embedders::{Dropout, Preset};
use memsys::settings::{Check, Settings, above, above_up_to};
use serde::{Deserialize, Serialize};

use crate::context::{AgentContext, Algorithm, ObservationKind};
use crate::exploration::{EpsilonSchedule, ExplorationPlan};
use crate::update::{Precision, UpdateOptions};

/// The floating-point type of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// 32-bit floating point.
    F32,
    /// bfloat16, by autocast.
    Bf16,
    /// IEEE half precision with a scaled loss, by autocast; on a GPU only.
    F16,
}

/// How the target network follows the online one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetUpdateChoice {
    /// A copy every `target_interval` learner steps.
    Periodic,
    /// A step of `target_tau` times the difference, every learner step.
    Soft,
}

/// The agent: how it explores, what it learns, and how fast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Documented, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct DqnSettings {
    /// The algorithm: `dqn`.
    pub algorithm: Algorithm,
    /// Double Q-learning: the online network selects the next action, the target network evaluates it.
    pub double: bool,
    /// Dueling heads: the network learns the state value and the advantages of the actions separately.
    pub dueling: bool,
    /// Number of rewards that a target sums before it bootstraps from a later state's value.
    pub n_step: usize,
    /// Discount per step (γ).
    pub discount: f64,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Gradients with a larger norm are scaled down to this norm.
    pub max_gradient_norm: f64,
    /// Transitions per learner step.
    pub batch: usize,
    /// The most transitions that go through the network at once. A larger batch is split into micro-batches, each
    /// weighted by its true size. The memory limit may make them smaller, down to `memory.smallest_micro_batch`.
    /// Smaller micro-batches need fewer bytes and give the same result except for rounding.
    pub micro_batch: usize,
    /// The floating-point type of matrix products while learning: `f32`, `bf16` (on a CPU or a GPU), or `f16` with a
    /// scaled loss (on a GPU only). Weights, sums and moments are always f32.
    pub precision: PrecisionChoice,
    /// How the target network follows the online network: `periodic` (a copy every `target_interval` steps) or `soft`
    /// (a small step at every learner step).
    pub target_update: TargetUpdateChoice,
    /// Interval between copies, if `target_update` is `periodic`.
    pub target_interval: u64,
    /// Share of the difference to the online network that the target moves by per learner step, if `target_update` is
    /// `soft` (τ).
    pub target_tau: f64,
    /// Share of random actions at the start (ε).
    pub epsilon_start: f64,
    /// Share of random actions at the end; at most `epsilon_start`.
    pub epsilon_end: f64,
    /// Part of the run over which ε falls linearly from `epsilon_start` to `epsilon_end`.
    pub epsilon_fraction: f64,
    /// Average number of steps for which a random action is repeated. 1 draws a new one at every step.
    pub exploration_hold: u32,
    /// Transitions in the replay before the first learner step; at most `replay.capacity`. Actions are random for the
    /// same number of environment steps.
    pub learning_starts: usize,
    /// Sampled transitions per inserted transition: how often a transition is sampled on average.
    pub samples_per_insert: f64,
    /// Rewards are multiplied by this factor for learning. Reports show the unscaled rewards.
    pub reward_scale: f64,
    /// Width of the value heads. In a plain environment, width of every layer of the network.
    pub hidden: usize,
}

impl Default for DqnSettings {
    /// The defaults for a market.
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Dqn,
            double: true,
            dueling: true,
            n_step: 3,
            discount: 0.97,
            learning_rate: 1e-3,
            max_gradient_norm: 10.0,
            batch: 128,
            micro_batch: 128,
            precision: PrecisionChoice::F32,
            target_update: TargetUpdateChoice::Periodic,
            target_interval: 100,
            target_tau: 0.005,
            epsilon_start: 1.0,
            epsilon_end: 0.1,
            epsilon_fraction: 0.5,
            exploration_hold: 24,
            learning_starts: 2000,
            samples_per_insert: 4.0,
            reward_scale: 0.1,
            hidden: 128,
        }
    }
}

impl DqnSettings {
    /// The configuration of the DQN in a run.
    #[must_use]
    pub fn resolve(&self, context: &AgentContext) -> DqnConfig {
        DqnConfig {
            body: match context.observations {
                ObservationKind::Plain => Body::Plain,
                ObservationKind::Market => Body::Market {
                    preset: context.embedders.preset,
                    dropout: match context.embedders.dropout {
                        Dropout::Fraction(fraction) => Some(fraction),
                        Dropout::Preset => None,
                    },
                },
            },
            hidden: self.hidden as i64,
            n_actions: context.n_actions as i64,
            local_width: context.local_width as i64,
            double: self.double,
            dueling: self.dueling,
            learning_rate: self.learning_rate,
            max_gradient_norm: self.max_gradient_norm,
            target_update: match self.target_update {
                TargetUpdateChoice::Periodic => TargetUpdate::Periodic { interval: self.target_interval },
                TargetUpdateChoice::Soft => TargetUpdate::Soft { tau: self.target_tau },
            },
            reward_scale: self.reward_scale,
            batch: self.batch as i64,
            precision: match self.precision {
                PrecisionChoice::F32 => Precision::F32,
                PrecisionChoice::Bf16 => Precision::Bf16,
                PrecisionChoice::F16 => Precision::F16,
            },
            offload_gradients: context.offload_gradients,
            seed: context.seed,
        }
    }

    /// The exploration plan in a run of `environment_steps`.
    #[must_use]
    pub fn exploration(&self, environment_steps: u64, seed: u64) -> ExplorationPlan {
        ExplorationPlan {
            epsilon: EpsilonSchedule {
                start: self.epsilon_start,
                end: self.epsilon_end,
                falls_over: (self.epsilon_fraction * environment_steps as f64) as u64,
            },
            mean_hold: self.exploration_hold,
            random_environment_steps: self.learning_starts as u64,
            seed,
        }
    }

    /// The defaults for a plain environment, such as CartPole.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            discount: 0.99,
            target_interval: 500,
            batch: 64,
            exploration_hold: 1,
            epsilon_end: 0.04,
            epsilon_fraction: 0.16,
            learning_starts: 1_000,
            samples_per_insert: 64.0,
            reward_scale: 1.0,
            hidden: 256,
            ..Self::default()
        }
    }
}

impl Settings for DqnSettings {
    fn check(&self, check: &mut Check) {
        check.range("n_step", self.n_step, 1..=MOST_N_STEP, "environment steps");
        check.range("discount", self.discount, 0.0..1.0, "factor per step");
        check.range("learning_rate", self.learning_rate, above_up_to(0.0, 1.0), "step size");
        check.range("max_gradient_norm", self.max_gradient_norm, above(0.0), "norm over all parameters");
        check.range("batch", self.batch, 1..=65_536, "transitions");
        check.range("micro_batch", self.micro_batch, 1..=65_536, "transitions");
        check.range("target_interval", self.target_interval, 1.., "learner steps");
        check.range("target_tau", self.target_tau, above_up_to(0.0, 1.0), "share of the way");
        check.range("epsilon_start", self.epsilon_start, 0.0..=1.0, "share of the actions");
        check.range("epsilon_end", self.epsilon_end, 0.0..=1.0, "share of the actions");
        let of_run = "share of run.environment_steps";
        check.range("epsilon_fraction", self.epsilon_fraction, 0.0..=1.0, of_run);
        check.range("exploration_hold", self.exploration_hold, 1..=100_000, "environment steps");
        check.range("learning_starts", self.learning_starts, 1.., "transitions");
        check.range(
            "samples_per_insert",
            self.samples_per_insert,
            above(0.0),
            "sampled transitions per inserted one",
        );
        check.range("reward_scale", self.reward_scale, above(0.0), "factor");
        check.range("hidden", self.hidden, 1..=16_384, "units");
        let (start, end) = (self.epsilon_start, self.epsilon_end);
        check.agree(["epsilon_end", "epsilon_start"], end <= start, || {
            format!("epsilon_end {end} is above epsilon_start {start}: the share of random actions falls")
        });
    }
}

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

/// Everything that defines a DQN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DqnConfig {
    /// The part of the network before the value heads.
    pub body: Body,
    /// Width of the hidden layer of the value heads, and of the plain body's layers.
    pub hidden: i64,
    /// Number of actions.
    pub n_actions: i64,
    /// Values per local row.
    pub local_width: i64,
    /// Double DQN: the online network selects the action whose target value is bootstrapped.
    pub double: bool,
    /// Dueling heads: the network learns the state value and the advantages separately.
    pub dueling: bool,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Norm over all parameters to which a longer gradient is scaled down.
    pub max_gradient_norm: f64,
    /// How the target network follows the online network.
    pub target_update: TargetUpdate,
    /// Factor on rewards for learning.
    pub reward_scale: f64,
    /// Transitions per batch.
    pub batch: i64,
    /// The floating-point type of matrix products.
    pub precision: Precision,
    /// Whether each gradient moves to the host's memory as soon as it is complete.
    pub offload_gradients: bool,
    /// Seed of the initial weights and of dropout.
    pub seed: u64,
}

impl DqnConfig {
    /// The largest number of positions in the streams of which the learner keeps the target network's embeddings. A block
    /// of positions is embedded when the first of them is sampled, so a target interval must sample twice as many
    /// transitions as there are positions. A soft update changes the weights at every step and leaves nothing to keep.
    #[must_use]
    pub fn most_kept_embeddings(&self) -> u64 {
        match (self.target_update, self.body) {
            (TargetUpdate::Periodic { interval }, Body::Market { .. }) => {
                interval.saturating_mul(self.batch as u64).saturating_sub(1) / 2
            }
            _ => 0,
        }
    }

    /// What a program that reads the weights has to know of the network, by name.
    #[must_use]
    pub fn network_facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("algorithm", "dqn".to_owned()),
            ("heads", if self.dueling { "dueling" } else { "plain" }.to_owned()),
            ("hidden", self.hidden.to_string()),
            ("n_actions", self.n_actions.to_string()),
            ("local_width", self.local_width.to_string()),
            ("reward_scale", self.reward_scale.to_string()),
        ];
        if let Body::Market { preset, .. } = self.body {
            facts.push(("preset", preset.word().to_owned()));
        }
        facts
    }

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
