//! Settings of a run: its environment, its length, its device and its folder.

use std::fmt;
use std::path::PathBuf;

use documented::{Documented, DocumentedFields};
use memsys::settings::{Check, Settings, optional};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The environment that an agent acts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentKind {
    /// Bars of one or more instruments, and an account.
    Market,
    /// The pole on a cart, with the physics of Gymnasium's CartPole-v1.
    Cartpole,
}

impl EnvironmentKind {
    /// The environment's name in a configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Market => "market",
            Self::Cartpole => "cartpole",
        }
    }
}

/// The device of the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first usable GPU, or the CPU if there is none.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this index, counted from 0.
    Cuda(u32),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let index = text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
        match (text.as_str(), index) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(index)) => Ok(Self::Cuda(index)),
            _ => {
                let problem = format!("`{text}` is no device: write auto, cpu, or cuda:N with N from 0");
                Err(serde::de::Error::custom(problem))
            }
        }
    }
}

/// The run: its environment, its length, its device, and where its results go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Documented, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// The environment: `market` or `cartpole`. The defaults of other keys depend on it.
    pub environment: EnvironmentKind,
    /// Length of the run, summed over all environments.
    pub environment_steps: u64,
    /// Number of environments that step together, in one batch.
    pub n_environments: usize,
    /// `true`: the actor and the learner take turns, and the same seed gives the same result to the bit.
    /// `false`: they run concurrently, and results differ from run to run.
    pub synchronous: bool,
    /// Seed of all randomness in the run: initial weights, exploration, sampling, episodes.
    pub seed: u64,
    /// Threads that compute; 0 uses all cores. The `compact` networks gain nothing from a second thread.
    pub threads: usize,
    /// The device of the tensors: `auto` (a usable GPU, or the CPU if there is none), `cpu`, or `cuda:N` with N from
    /// 0.
    pub device: DeviceChoice,
    /// Interval between checkpoints. A killed run loses at most this many steps.
    pub checkpoint_interval_steps: u64,
    /// Interval between evaluations on the validation part.
    pub evaluation_interval_steps: u64,
    /// The run's folder. If empty, the run creates a new one under `runs/`.
    #[serde(with = "optional")]
    pub out: Option<PathBuf>,
    /// Batches of transitions that may wait between the actor and the learner. Used only if `synchronous` is `false`.
    pub queue_batches: usize,
}

impl Default for RunSettings {
    /// The defaults for a market.
    fn default() -> Self {
        Self {
            environment: EnvironmentKind::Market,
            environment_steps: 32_000,
            n_environments: 16,
            synchronous: true,
            seed: 1,
            threads: 1,
            device: DeviceChoice::Auto,
            checkpoint_interval_steps: 10_000,
            evaluation_interval_steps: 8_000,
            out: None,
            queue_batches: 4,
        }
    }
}

impl Settings for RunSettings {
    fn check(&self, check: &mut Check) {
        check.range("environment_steps", self.environment_steps, 1.., "environment steps");
        check.range("n_environments", self.n_environments, 1..=4096, "environments");
        check.range("seed", self.seed, 0.., "any whole number");
        check.range("threads", self.threads, 0..=1024, "threads");
        check.range("checkpoint_interval_steps", self.checkpoint_interval_steps, 1.., "environment steps");
        check.range("evaluation_interval_steps", self.evaluation_interval_steps, 1.., "environment steps");
        check.range("queue_batches", self.queue_batches, 1..=1024, "batches");
    }
}
