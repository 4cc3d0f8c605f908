//! Options of the memory limit, and the amount of work that the plan counts with.

use std::time::Duration;

use memsys::limit::MemoryLimit;
use memsys::nn::activations::{self, ActivationMode, StageModes};
use memsys::system::level::Thresholds;

/// The memory limit of a run, and the means to stay below it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryOptions {
    /// The limit as the user wrote it.
    pub limit: MemoryLimit,
    /// The limit of the run's GPU as the user wrote it. A share is of what is free there at the start.
    pub device_limit: MemoryLimit,
    /// If false, nothing is planned, counted or refused. This is the baseline for comparisons.
    pub is_managed: bool,
    /// If false, nothing is counted or refused. This measures the cost of counting.
    pub is_counted: bool,
    /// The allowed activation modes, the fastest first.
    pub modes: Vec<ActivationMode>,
    /// The options of the activations, except for the mode.
    pub activations: activations::Options,
    /// Transitions per learner step.
    pub batch: usize,
    /// The most transitions that go through the network at once.
    pub largest_micro_batch: usize,
    /// The fewest transitions that go through the network at once.
    pub smallest_micro_batch: usize,
    /// The warning level and the critical level.
    pub thresholds: Thresholds,
    /// Time between two readings of memory.
    pub interval: Duration,
    /// For tests: every n-th allocation of each thread is refused. 0 refuses none.
    pub refuse_every: u64,
}

impl MemoryOptions {
    /// The options of the activations under one mode for all stages, or one for each.
    #[must_use]
    pub fn activations(&self, modes: impl Into<StageModes>) -> activations::Options {
        activations::Options { modes: modes.into(), ..self.activations.clone() }
    }
}

/// The amount of work in a run, as far as the plan needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedWork {
    /// Whether the run loads bars.
    pub is_market: bool,
    /// Environment steps of the whole run.
    pub environment_steps: u64,
    /// Environments that act side by side.
    pub n_environments: usize,
    /// Whether the actor and the learner take turns.
    pub is_synchronous: bool,
    /// The larger of the validation and test parts, as a fraction of all bars.
    pub largest_evaluated_fraction: f64,
    /// The training part, as a fraction of all bars.
    pub trained_fraction: f64,
    /// The largest number of positions of which the learner keeps the target network's embeddings.
    pub most_kept_embeddings: u64,
}

impl PlannedWork {
    /// Positions of a market of `n_bars` whose embeddings by the target network the learner keeps, if memory allows.
    #[must_use]
    pub fn kept_embeddings(&self, n_bars: u64) -> u64 {
        if n_bars > self.most_kept_embeddings { 0 } else { (n_bars as f64 * self.trained_fraction) as u64 }
    }
}
