//! The agent: its network, its update and its exploration.

use agents::context::{AgentContext, ObservationKind};
use agents::exploration::ExplorationPlan;
use agents::settings::AgentConfig;
use tch::Device;

use super::run::seed_of;
use crate::config::Config;
use crate::envs::shape::shape;
use crate::error::{Error, Result};
use crate::run::config::EnvironmentKind;

/// The agent of a run on `device`.
///
/// # Errors
/// [`Error::Config`] if the device does not support the requested precision.
pub(super) fn agent_config(config: &Config, device: Device) -> Result<AgentConfig> {
    if config.agent.needs_gpu() && !device.is_cuda() {
        let problem = "f16 is computed on a GPU alone; take bf16 or f32 on the CPU".to_owned();
        return Err(Error::Config { key: "agent.precision".to_owned(), problem });
    }
    let (n_actions, local_width) = shape(config.run.environment);
    Ok(config.agent.resolve(&AgentContext {
        observations: match config.run.environment {
            EnvironmentKind::Market => ObservationKind::Market,
            EnvironmentKind::Cartpole => ObservationKind::Plain,
        },
        embedders: config.embedders,
        n_actions,
        local_width,
        offload_gradients: config.memory.offload_gradients,
        seed: seed_of(config.run.seed, 0),
    }))
}

/// The names of the agent and its networks in a report.
pub(super) fn network_name(config: &Config, agent: &AgentConfig) -> String {
    match config.run.environment {
        EnvironmentKind::Market => {
            format!("{} · {} embedders", agent.name(), config.embedders.preset.word())
        }
        EnvironmentKind::Cartpole => agent.name().to_owned(),
    }
}

/// The exploration plan of a run's actor.
pub(super) fn exploration_plan(config: &Config) -> ExplorationPlan {
    config.agent.exploration(config.run.environment_steps, seed_of(config.run.seed, 1))
}
