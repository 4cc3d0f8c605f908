//! Resolves the configuration into the options of each part of a run.
//!
//! Nothing below `train` sees the whole [`Config`]: [`resolve`] reads it once, and every part gets only its options.

mod agent;
mod market;
mod memory;
mod replay;
mod run;

use agents::exploration::ExplorationPlan;
use agents::settings::AgentConfig;
use memsys::libtorch::Runtime;
use memsys::system::recommend;
use tch::Device;

use crate::config::Config;
use crate::error::Result;
use crate::market::dataset::MarketOptions;
use crate::memory::options::{MemoryOptions, PlannedWork};
use crate::run::config::RunSettings;
use crate::run::learner_loop::LearningOptions;

pub use market::{market_options, sources};
pub use memory::{leave_out_unusable_spill, memory_options};
pub use run::{device, seed_of, threads};

/// The options of each part of a run.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The run: its environment, its length, its folder.
    pub run: RunSettings,
    /// The device of the tensors.
    pub device: Device,
    /// Number of threads that compute.
    pub threads: i32,
    /// The bars and the account.
    pub market: MarketOptions,
    /// The agent's network and update.
    pub agent: AgentConfig,
    /// The exploration plan.
    pub exploration: ExplorationPlan,
    /// The replay and the learner's pace.
    pub learning: LearningOptions,
    /// The memory limit and the means to stay below it.
    pub memory: MemoryOptions,
    /// The amount of work, for the plan.
    pub work: PlannedWork,
    /// The part of the configuration for which the memory system may recommend settings.
    pub settings: recommend::RunSettings,
    /// The names of the agent and its networks in a report.
    pub network_name: String,
}

/// Resolves a configuration.
///
/// # Errors
/// [`crate::Error::Config`] if a key asks for something that this machine does not have.
pub fn resolve(config: &Config, runtime: &Runtime) -> Result<Parts> {
    resolve_on(run::device(config.run.device, runtime)?, config)
}

/// Resolves a configuration for `device`, ignoring the device that the configuration names.
///
/// # Errors
/// [`crate::Error::Config`] if the device does not support what a key asks for.
pub fn resolve_on(device: Device, config: &Config) -> Result<Parts> {
    let agent = agent::agent_config(config, device)?;
    Ok(Parts {
        run: config.run.clone(),
        device,
        threads: run::threads(config.run.threads),
        market: market::market_options(config)?,
        exploration: agent::exploration_plan(config),
        learning: replay::learning_options(config),
        memory: memory::memory_options(config),
        work: memory::planned_work(config, &agent),
        settings: memory::run_settings(config),
        network_name: agent::network_name(config, &agent),
        agent,
    })
}
