//! What the memory of a run is told.

use std::time::Duration;

use memsys::limit::MemoryLimit;
use memsys::nn::activations::{self, ActivationMode};
use memsys::system::level::Thresholds;

/// The memory limit of a run, and what may be done to stay under it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryOptions {
    /// The limit as it was written.
    pub limit: MemoryLimit,
    /// false: the usual way, to compare with; nothing is planned, counted or refused.
    pub is_managed: bool,
    /// false: nothing is counted or refused, to measure what counting costs.
    pub is_counted: bool,
    /// The activation modes that may be used, the fastest first.
    pub modes: Vec<ActivationMode>,
    /// How activations are treated, but for the mode.
    pub activations: activations::Options,
    /// Transitions of a learner step.
    pub batch: usize,
    /// The most of them that go through the network at once.
    pub largest_micro_batch: usize,
    /// The fewest.
    pub smallest_micro_batch: usize,
    /// Where warnings and the critical level set in.
    pub thresholds: Thresholds,
    /// Time from one reading of memory to the next.
    pub interval: Duration,
    /// For tests: every n-th allocation of a learner step is refused; 0: none.
    pub refuse_every: u64,
}

impl MemoryOptions {
    /// How activations are treated under a mode.
    #[must_use]
    pub fn activations(&self, mode: ActivationMode) -> activations::Options {
        activations::Options { mode, ..self.activations.clone() }
    }
}

/// How much of everything a run will have: what the plan counts with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedWork {
    /// Whether bars are loaded.
    pub is_market: bool,
    /// Environment steps of the whole run.
    pub environment_steps: u64,
    /// Environments that act side by side.
    pub n_environments: usize,
    /// Whether actor and learner take turns.
    pub is_synchronous: bool,
    /// Share of the bars in the larger of the validation and the test part.
    pub largest_evaluated_fraction: f64,
}
