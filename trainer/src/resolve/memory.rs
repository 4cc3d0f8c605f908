//! Resolves the options of the memory limit, and the amount of work that the plan counts with.

use std::time::Duration;

use memsys::nn::activations;
use memsys::system::config::ActivationChoice;
use memsys::system::level::Thresholds;
use memsys::system::recommend;

use crate::config::Config;
use crate::memory::options::{MemoryOptions, PlannedWork};
use crate::run::config::EnvironmentKind;

/// The memory options of a run.
#[must_use]
pub fn memory_options(config: &Config) -> MemoryOptions {
    let (memory, pace) = (&config.memory, config.agent.pace());
    let largest = pace.micro_batch.min(pace.batch);
    let of_run = || config.run.out.clone().filter(|out| out.is_dir());
    MemoryOptions {
        limit: memory.limit,
        device_limit: memory.device_limit,
        is_managed: memory.managed,
        is_counted: memory.counted,
        modes: memory.activations.modes(),
        activations: activations::Options {
            mode: activations::ActivationMode::Keep,
            segments: memory.checkpoint_segments,
            threshold_bytes: memory.spill_threshold,
            spill_folder: memory.spill_folder.clone().or_else(of_run).unwrap_or_else(|| ".".into()),
        },
        batch: pace.batch,
        largest_micro_batch: largest,
        smallest_micro_batch: memory.smallest_micro_batch.min(largest),
        thresholds: Thresholds {
            warning_fraction: memory.memory_warning_threshold,
            critical_fraction: memory.memory_critical_threshold,
            ..Thresholds::default()
        },
        interval: Duration::from_secs_f64(memory.monitoring_interval),
        refuse_every: memory.refuse_every,
    }
}

/// The amount of work in a run.
pub(super) fn planned_work(config: &Config) -> PlannedWork {
    PlannedWork {
        is_market: config.run.environment == EnvironmentKind::Market,
        environment_steps: config.run.environment_steps,
        n_environments: config.run.n_environments,
        is_synchronous: config.run.synchronous,
        largest_evaluated_fraction: config
            .data
            .validation_fraction
            .max(1.0 - config.data.train_fraction - config.data.validation_fraction),
    }
}

/// The part of the configuration for which the memory system may recommend settings.
pub(super) fn run_settings(config: &Config) -> recommend::RunSettings {
    recommend::RunSettings {
        replay_capacity_transitions: config.replay.capacity as u64,
        n_environments: config.run.n_environments as u64,
        micro_batch: config.agent.pace().micro_batch as u64,
        activations: match config.memory.activations {
            ActivationChoice::Auto => None,
            one => one.modes().first().copied(),
        },
    }
}
