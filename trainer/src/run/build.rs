//! Builds a run from its parts, and restores it if it is resumed.

use std::sync::Arc;
use std::time::Instant;

use buffers::frames::Dataset;
use memsys::nn::activations::ActivationMode;
use memsys::step::room::with_room;

use crate::console::{Verbosity, say_always, tells};
use crate::envs::Environment;
use crate::error::Result;
use crate::export::metadata;
use crate::market::seen_bars::DataRecord;
use crate::memory::limit::{self, Applied};
use crate::resolve::Parts;
use crate::run::actor_loop::ActorLoop;
use crate::run::checkpoint::{self, Counters};
use crate::run::evaluation::Evaluator;
use crate::run::folder::RunFolder;
use crate::run::learner_loop::LearnerLoop;
use crate::run::restore::{require_nothing_lost, restore};
use crate::run::train_loop::{RunState, TrainLoop};
use crate::telemetry::metrics::MetricsWriter;
use crate::telemetry::progress::Progress;
use crate::telemetry::tensorboard::EventWriter;

/// What a run is built from: resolved options, measurements, opened folder and loaded data.
#[derive(Debug)]
pub struct Setting {
    /// The options of each part of the run.
    pub parts: Parts,
    /// The memory profile and plan, if memory is managed.
    pub applied: Option<Applied>,
    /// The folder that the run writes to.
    pub folder: RunFolder,
    /// When the command began.
    pub began: Instant,
    /// The streams that all environments share.
    pub dataset: Arc<Dataset>,
    /// Identifies the data, so that a checkpoint is never resumed over other data.
    pub identity: String,
    /// Which bars the run learns from, if it learns from bars.
    pub record: Option<DataRecord>,
    /// Evaluates the agent on the validation and test data.
    pub evaluator: Evaluator,
}

/// Builds a run, and restores its last checkpoint if `is_resumed`.
///
/// # Errors
/// If the memory limit has no room for the run, or the checkpoint belongs to another run.
pub fn build<E>(
    setting: Setting,
    config_toml: String,
    is_resumed: bool,
    environment: E,
    say: &(dyn Fn(&str) + Sync),
) -> Result<TrainLoop<E>>
where
    E: Environment + Clone + Send,
{
    let Setting { parts, applied, folder, began, dataset, identity, record, evaluator } = setting;
    let policy = parts.agent.policy();
    let environments = vec![environment; parts.run.n_environments];
    let mut actor = ActorLoop::new(
        environments,
        Arc::clone(&dataset),
        Arc::clone(&policy),
        parts.device,
        parts.exploration,
    );
    let mut agent = with_room(|| parts.agent.agent(Arc::clone(&dataset), parts.device))?;
    let saved = if is_resumed { checkpoint::find(&folder.checkpoint())? } else { None };
    if is_resumed && saved.is_none() {
        require_nothing_lost(&folder, &parts.run)?;
    }
    let saved_counters = saved.as_deref().map(checkpoint::load_counters).transpose()?;
    let keeps_embeddings = match (&saved_counters, &applied) {
        // What is embedded for itself and what is embedded in blocks differ by rounding.
        (Some(saved), _) => saved.keeps_embeddings,
        (None, Some(applied)) => applied.plan.kept_embeddings_bytes > 0,
        // Embeddings are kept by position in the streams, and a copied observation has none.
        (None, None) => parts.memory.is_managed,
    };
    if !keeps_embeddings {
        agent.disable_caches();
    }
    let layout = policy.layout();
    say(&format!("{} parameters", layout.n_parameters()));
    let mut steps = limit::steps(&parts.memory, applied.as_ref())?;
    let system = limit::watch(&parts.memory, &mut steps)?;
    say(&format!("learner steps: {}", steps.step_config()));
    let micro_batch = steps.first().micro_batch;
    if let Some(saved) = saved_counters.as_ref().filter(|saved| micro_batch < saved.micro_batch) {
        say(&format!(
            "the memory limit has no room for the micro-batch of {} that the run had: with {micro_batch} the results \
             differ by rounding from those of a run that never stopped",
            saved.micro_batch
        ));
    }
    if let Some(saved) = saved_counters.as_ref().filter(|saved| computes_otherwise(saved, &parts)) {
        say(&format!(
            "on {} with {} thread(s), and the run had {} before on {}: the results may differ by rounding from those of \
             a run that never stopped",
            device_name(&parts),
            parts.threads,
            saved.threads,
            saved.device
        ));
    }
    let mut options = parts.learning.clone();
    options.replay.store.file = Some(folder.replay());
    let activations = parts.memory.activations(ActivationMode::Keep);
    let mut learner =
        LearnerLoop::new(options, agent, steps, activations, Arc::clone(&dataset), &actor.observations())?;

    let mut counters = Counters { data_identity: identity, keeps_embeddings, ..Counters::default() };
    let mut best = None;
    let (metrics, events);
    if let Some(path) = &saved {
        best = restore(path, &mut counters, &mut actor, &mut learner, &dataset)?;
        let (steps, rows) = (counters.environment_steps, counters.metrics.as_ref());
        metrics = MetricsWriter::resume(&folder.metrics(), steps, rows, say_always)?;
        events = EventWriter::resume(folder.root(), counters.environment_steps)?;
        say(&format!("resumed at environment step {}", counters.environment_steps));
    } else {
        if is_resumed {
            say("it was stopped before its first checkpoint: it begins anew");
        }
        metrics = MetricsWriter::create(&folder.metrics())?;
        events = EventWriter::create(folder.root())?;
    }
    counters.run = folder.run_name();
    (counters.threads, counters.device) = (parts.threads, device_name(&parts));
    if let Some(record) = &record {
        folder.write_data(record)?;
    }
    // The configuration is written last: from here on nothing that the user gave can be refused.
    folder.write_config(&config_toml)?;
    let state = RunState {
        policy: Arc::clone(&policy),
        progress: Progress::new(parts.run.environment_steps, !tells(Verbosity::Usual)),
        seconds_before: counters.wall_seconds,
        began,
        folder,
        learner,
        system,
        evaluator,
        counters,
        best,
        weight_facts: metadata::of_run(&parts),
        metrics,
        events,
        parts,
        config_toml,
    };
    Ok(TrainLoop { actor, state })
}

fn device_name(parts: &Parts) -> String {
    format!("{:?}", parts.device)
}

fn computes_otherwise(saved: &Counters, parts: &Parts) -> bool {
    (saved.threads, &saved.device) != (parts.threads, &device_name(parts))
}
