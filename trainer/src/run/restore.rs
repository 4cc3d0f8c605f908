//! Restores a run from its last checkpoint.

use std::path::Path;
use std::sync::Arc;

use agents::update::UpdateCounters;
use buffers::frames::Dataset;
use memsys::step::room::with_room;
use tch::Tensor;

use crate::envs::Environment;
use crate::error::{Error, Result};
use crate::format;
use crate::run::actor_loop::ActorLoop;
use crate::run::checkpoint::{self, BEST, Counters};
use crate::run::config::RunSettings;
use crate::run::folder::RunFolder;
use crate::run::learner_loop::LearnerLoop;
use crate::telemetry::metrics;

/// Refuses to begin a resumed run anew, which has no checkpoint, where its metrics say that it had one.
///
/// # Errors
/// [`Error::File`] with what is missing; [`Error::Io`] and [`Error::Line`] if the metrics cannot be read.
pub fn require_nothing_lost(folder: &RunFolder, run: &RunSettings) -> Result<()> {
    let path = folder.metrics();
    if !path.exists() {
        return Ok(());
    }
    let last = metrics::read_all(&path)?.iter().map(|row| row.environment_steps).max().unwrap_or(0);
    let n_at_once = run.n_environments as u64;
    // Where the actor runs ahead, its steps before the first checkpoint are learned from while it gives its state.
    let n_ahead = if run.synchronous { 0 } else { (run.queue_batches as u64 + 2) * n_at_once };
    let first_save = run.checkpoint_interval_steps.next_multiple_of(n_at_once);
    if last <= first_save.saturating_add(n_ahead) {
        return Ok(());
    }
    let problem = format!(
        "is missing, and metrics.jsonl has rows up to environment step {}, past the first checkpoint at {}: put the \
         checkpoint back from a copy of the folder, or start a new run with another --out",
        format::count(last),
        format::count(first_save)
    );
    Err(Error::File { path: folder.checkpoint(), problem })
}

/// Restores counters, actor and learner from the checkpoint at `path`. Returns the flat weights with the best
/// validation score so far. `counters` must identify the same data as the checkpoint.
///
/// # Errors
/// If the checkpoint cannot be read, or belongs to other data.
pub fn restore<E: Environment>(
    path: &Path,
    counters: &mut Counters,
    actor: &mut ActorLoop<E>,
    learner: &mut LearnerLoop,
    dataset: &Arc<Dataset>,
) -> Result<Option<Tensor>> {
    // Free the empty replay first, so that there is room to read the saved one.
    learner.let_replay_go()?;
    let saved = with_room(|| checkpoint::load::<E>(path))?;
    if saved.counters.data_identity != counters.data_identity {
        let problem =
            "was saved by a run over other bars than those in data.json beside it: one of the two files \
                       belongs to another run"
                .to_owned();
        return Err(Error::File { path: path.to_owned(), problem });
    }
    *counters = saved.counters;
    actor.restore(saved.actor);
    learner.restore(saved.learner, Arc::clone(dataset))?;
    let tensors = checkpoint::open_tensors(path)?;
    for (name, tensor) in learner.agent().tensors() {
        with_room(|| tensors.copy_into(name, tensor))?;
    }
    let update = UpdateCounters {
        n_steps: counters.learner_steps,
        n_adam_steps: counters.n_adam_steps,
        loss_scale: counters.loss_scale,
    };
    learner.agent_mut().resume_at(update);
    if !tensors.holds(BEST)? {
        return Ok(None);
    }
    with_room(|| {
        let best = learner.agent().online().flat().f_zeros_like()?;
        tensors.copy_into(BEST, &best)?;
        Ok(Some(best))
    })
}
