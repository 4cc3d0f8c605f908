//! Resolves the options of the replay and of the learner's pace.

use buffers::replay::ReplayOptions;

use super::run::seed_of;
use crate::config::Config;
use crate::envs::shape::shape;
use crate::run::learner_loop::LearningOptions;

/// The options of a run's replay and of its learner's pace. The replay's file is unset until the run has a folder.
pub(super) fn learning_options(config: &Config) -> LearningOptions {
    let (pace, replay) = (config.agent.pace(), &config.replay);
    let (_, local_width) = shape(config.run.environment);
    LearningOptions {
        pace,
        importance_sampling_exponent: replay.importance_sampling_exponent,
        environment_steps: config.run.environment_steps,
        prefetch: replay.prefetch,
        seed: seed_of(config.run.seed, 2),
        replay: ReplayOptions {
            capacity_transitions: replay.capacity,
            priority_exponent: replay.effective_priority_exponent(),
            n_environments: config.run.n_environments,
            local_width,
            copies_observations: !config.memory.managed,
            store: replay.store_options(None),
        },
    }
}
