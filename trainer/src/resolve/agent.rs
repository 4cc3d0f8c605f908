//! The agent: its network, its update and its exploration.

use agents::dqn::settings::{DqnSettings, PrecisionChoice, TargetUpdateChoice};
use agents::dqn::{Body, DqnConfig, EpsilonSchedule, Precision, TargetUpdate};
use agents::settings::AgentSettings;
use embedders::Dropout;
use tch::Device;

use super::run::seed_of;
use crate::config::Config;
use crate::envs;
use crate::error::{Error, Result};
use crate::run::actor_loop::ExplorationPlan;
use crate::run::config::EnvironmentKind;

fn settings(config: &Config) -> &DqnSettings {
    let AgentSettings::Dqn(settings) = &config.agent;
    settings
}

/// The DQN of a run on `device`.
///
/// # Errors
/// [`Error::Config`] where the device does not compute in the precision that was asked for.
pub(super) fn dqn_config(config: &Config, device: Device) -> Result<DqnConfig> {
    let agent = settings(config);
    let (n_actions, local_width) = envs::shape(config.run.environment);
    let body = match config.run.environment {
        EnvironmentKind::Cartpole => Body::Plain,
        EnvironmentKind::Market => Body::Market {
            preset: config.embedders.preset,
            dropout: match config.embedders.dropout {
                Dropout::Fraction(fraction) => Some(fraction),
                Dropout::Preset => None,
            },
        },
    };
    let precision = match agent.precision {
        PrecisionChoice::F32 => Precision::F32,
        PrecisionChoice::Bf16 => Precision::Bf16,
        PrecisionChoice::F16 if device.is_cuda() => Precision::F16,
        PrecisionChoice::F16 => {
            let problem = "f16 is computed on a GPU alone; take bf16 or f32 on the CPU".to_owned();
            return Err(Error::Config { key: "agent.precision".to_owned(), problem });
        }
    };
    Ok(DqnConfig {
        body,
        hidden: agent.hidden as i64,
        n_actions: n_actions as i64,
        local_width: local_width as i64,
        double: agent.double,
        dueling: agent.dueling,
        learning_rate: agent.learning_rate,
        max_gradient_norm: agent.max_gradient_norm,
        target_update: match agent.target_update {
            TargetUpdateChoice::Periodic => TargetUpdate::Periodic { interval: agent.target_interval },
            TargetUpdateChoice::Soft => TargetUpdate::Soft { tau: agent.target_tau },
        },
        reward_scale: agent.reward_scale,
        batch: agent.batch as i64,
        precision,
        offload_gradients: config.memory.offload_gradients,
        seed: seed_of(config.run.seed, 0),
    })
}

/// The agent and its networks, as a report names them.
pub(super) fn network_name(config: &Config) -> String {
    match config.run.environment {
        EnvironmentKind::Market => format!("DQN · {} embedders", config.embedders.preset.word()),
        EnvironmentKind::Cartpole => "DQN".to_owned(),
    }
}

/// How a run's actor explores.
pub(super) fn exploration_plan(config: &Config) -> ExplorationPlan {
    let agent = settings(config);
    ExplorationPlan {
        epsilon: EpsilonSchedule {
            start: agent.epsilon_start,
            end: agent.epsilon_end,
            falls_over: (agent.epsilon_fraction * config.run.environment_steps as f64) as u64,
        },
        mean_hold: agent.exploration_hold,
        random_environment_steps: agent.learning_starts as u64,
        seed: seed_of(config.run.seed, 1),
    }
}
