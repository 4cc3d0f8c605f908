//! Brings a run back to its last checkpoint.

use std::path::Path;
use std::sync::Arc;

use buffers::frames::Dataset;
use memsys::nn::precision::LossScale;
use tch::Tensor;

use crate::envs::Environment;
use crate::error::{Error, Result};
use crate::run::actor_loop::ActorLoop;
use crate::run::checkpoint::{self, Counters};
use crate::run::learner_loop::LearnerLoop;

/// Restores counters, actor and learner from the checkpoint at `path`; returns the flat weights of the best
/// validation so far. `counters` name the data at hand, which must be the checkpoint's.
///
/// # Errors
/// Where the checkpoint cannot be read, or was saved over other data.
pub fn restore<E: Environment>(
    path: &Path,
    counters: &mut Counters,
    actor: &mut ActorLoop<E>,
    learner: &mut LearnerLoop,
    dataset: &Arc<Dataset>,
) -> Result<Option<Tensor>> {
    // The empty replay goes first, so that there is room to read the saved one.
    learner.let_replay_go()?;
    let saved = checkpoint::load::<E>(path)?;
    if saved.counters.data_identity != counters.data_identity {
        let problem = "was saved by a run over other bars; give the files of that run".to_owned();
        return Err(Error::File { path: path.to_owned(), problem });
    }
    *counters = saved.counters;
    actor.restore(saved.actor);
    learner.restore(saved.learner, Arc::clone(dataset))?;
    let [first_moment, second_moment] = &saved.tensors.moments;
    let device = learner.learner().online().flat().device();
    learner.learner_mut().restore(
        &saved.tensors.online,
        &saved.tensors.target,
        [first_moment, second_moment],
        counters.learner_steps,
    )?;
    learner.learner_mut().restore_loss_scale(LossScale::of_state(counters.loss_scale));
    Ok(saved.tensors.best.map(|best| best.to_device(device)))
}
