//! From the configuration to what each part of a run is told, in that part's own terms.
//!
//! Nothing below `train` sees the whole [`Config`]: [`resolve`] reads it once, and every part gets its own options.

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

pub use market::{import_options, market_options};
pub use memory::memory_options;
pub use run::{device, seed_of, threads};

/// What each part of a run is to do.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The run: its environment, its length, its folder.
    pub run: RunSettings,
    /// Where tensors live.
    pub device: Device,
    /// Threads that compute.
    pub threads: i32,
    /// The bars and the account.
    pub market: MarketOptions,
    /// Network and update.
    pub agent: AgentConfig,
    /// How actions are explored.
    pub exploration: ExplorationPlan,
    /// The replay, and how often it is learned from.
    pub learning: LearningOptions,
    /// The memory limit and what may be done to stay under it.
    pub memory: MemoryOptions,
    /// How much of everything there will be, for the plan.
    pub work: PlannedWork,
    /// What the memory system may recommend settings of.
    pub settings: recommend::RunSettings,
    /// What the networks are called in a report.
    pub network_name: String,
}

/// Resolves a configuration.
///
/// # Errors
/// [`crate::Error::Config`] if a key asks for what this machine does not have.
pub fn resolve(config: &Config, runtime: &Runtime) -> Result<Parts> {
    resolve_on(run::device(config.run.device, runtime)?, config)
}

/// Resolves a configuration for a device, whatever device it names.
///
/// # Errors
/// [`crate::Error::Config`] if the device does not do what a key asks for.
pub fn resolve_on(device: Device, config: &Config) -> Result<Parts> {
    let agent = agent::agent_config(config, device)?;
    Ok(Parts {
        run: config.run.clone(),
        device,
        threads: run::threads(config.run.threads),
        market: market::market_options(config),
        exploration: agent::exploration_plan(config),
        learning: replay::learning_options(config),
        memory: memory::memory_options(config),
        work: memory::planned_work(config),
        settings: memory::run_settings(config),
        network_name: agent::network_name(config, &agent),
        agent,
    })
}
