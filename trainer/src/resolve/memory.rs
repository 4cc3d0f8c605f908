//! Resolves the options of the memory limit, and the amount of work that the plan counts with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agents::settings::AgentConfig;
use memsys::nn::activations::{self, ActivationMode};
use memsys::system::config::ActivationChoice;
use memsys::system::level::Thresholds;
use memsys::system::recommend;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::memory::options::{MemoryOptions, PlannedWork};
use crate::run::config::EnvironmentKind;

/// The memory options of a run.
#[must_use]
pub fn memory_options(config: &Config) -> MemoryOptions {
    let (memory, pace) = (&config.memory, config.agent.pace());
    let largest = pace.micro_batch.min(pace.batch);
    MemoryOptions {
        limit: memory.limit,
        device_limit: memory.device_limit,
        is_managed: memory.managed,
        is_counted: memory.counted,
        modes: memory.activations.modes(),
        activations: activations::Options {
            modes: activations::StageModes::default(),
            threshold_bytes: memory.spill_threshold,
            spill_folder: memory.spill_folder.clone().unwrap_or_else(|| folder_above(config)),
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

/// The nearest folder that exists at or above the run's own. Networks are measured before the run's folder is made, and
/// the two lie in one file system.
fn folder_above(config: &Config) -> PathBuf {
    let out = config.run.out.as_deref().unwrap_or(Path::new("runs"));
    out.ancestors().find(|folder| folder.is_dir()).map_or_else(|| ".".into(), Path::to_path_buf)
}

/// Leaves the mode `spill` out of the modes that a run may use if nothing can be spilled into its folder, and says so once.
/// A run that would not have used the mode then goes on as if its folder were fine.
///
/// # Errors
/// [`Error::Config`] if `spill` is the only mode that the run may use.
pub fn leave_out_unusable_spill(memory: &mut MemoryOptions, say: &dyn Fn(&str)) -> Result<()> {
    let is_offered = memory.is_managed && memory.is_counted && memory.modes.contains(&ActivationMode::Spill);
    let checked = || activations::check_spill_folder(&memory.activations.spill_folder);
    let Some(error) = is_offered.then(checked).and_then(memsys::Result::err) else { return Ok(()) };
    memory.modes.retain(|mode| *mode != ActivationMode::Spill);
    if memory.modes.is_empty() {
        let problem = format!("{error}; name a folder on a disk, or set memory.activations=auto");
        return Err(Error::Config { key: "memory.spill_folder".to_owned(), problem });
    }
    say(&format!("activations are not spilled: {error}; memory.spill_folder takes a folder on a disk"));
    Ok(())
}

/// The amount of work in a run.
pub(super) fn planned_work(config: &Config, agent: &AgentConfig) -> PlannedWork {
    PlannedWork {
        is_market: config.run.environment == EnvironmentKind::Market,
        environment_steps: config.run.environment_steps,
        n_environments: config.run.n_environments,
        is_synchronous: config.run.synchronous,
        largest_evaluated_fraction: config
            .data
            .validation_fraction
            .max(1.0 - config.data.train_fraction - config.data.validation_fraction),
        trained_fraction: config.data.train_fraction,
        most_kept_embeddings: agent.most_kept_embeddings(),
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
