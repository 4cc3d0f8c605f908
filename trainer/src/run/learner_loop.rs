//! The learner's half of a run: it inserts steps into the replay and takes the learner steps that are due.
//!
//! A learner step is a transaction ([`memsys::step::retry`]): a refused attempt is repeated with the same batch.

use std::path::Path;
use std::sync::Arc;

use agents::settings::Pace;
use agents::{Agent, Outcome};
use buffers::frames::{Dataset, ObservationRef};
use buffers::replay::n_step::Accumulator;
use buffers::replay::{Prefetch, Replay, ReplayOptions, TensorBatch};
use memsys::ledger::Owner;
use memsys::nn::activations::{self, StageModes};
use memsys::step::cost::StepConfig;
use memsys::step::retry::StepRunner;
use memsys::step::room::with_room;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::console::say_always;
use crate::envs::observation::Observation;
use crate::error::{Error, Result};
use crate::run::actor_loop::VectorStep;
use crate::run::metrics_window::MetricsWindow;
use crate::run::spilling::Spilling;

/// Everything that later learner steps depend on, except weights and moments. A checkpoint stores it.
#[derive(Debug, Serialize, Deserialize)]
pub struct LearnerState {
    replay: Replay,
    accumulators: Vec<Accumulator>,
    standing: Vec<ObservationRef>,
    rng: Pcg64Mcg,
    /// The batch of the next step, if batches are drawn one step ahead.
    ahead: Option<TensorBatch>,
    /// Sums since the last metrics row.
    window: MetricsWindow,
}

impl LearnerState {
    /// The replay.
    #[must_use]
    pub fn replay(&self) -> &Replay {
        &self.replay
    }
}

/// The options of a run's replay and of its learner's pace.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningOptions {
    /// Batch size, n-step returns and the ratio of learner steps to inserted transitions.
    pub pace: Pace,
    /// The exponent β of the importance-sampling weights at the start. It rises to 1 by the end of the run.
    pub importance_sampling_exponent: f64,
    /// Environment steps of the whole run.
    pub environment_steps: u64,
    /// When a batch is drawn, and which thread gathers it.
    pub prefetch: Prefetch,
    /// Seed of the sampling.
    pub seed: u64,
    /// The options of the replay.
    pub replay: ReplayOptions,
}

/// The replay and the agent that learns from it.
#[derive(Debug)]
pub struct LearnerLoop {
    agent: Box<dyn Agent>,
    state: LearnerState,
    options: LearningOptions,
    steps: StepRunner,
    activations: activations::Options,
    batch_owner: Owner,
    activations_owner: Owner,
    spilling: Spilling,
    /// The batch of the current step. Its tensors are reused from step to step.
    sampled: TensorBatch,
}

impl LearnerLoop {
    /// A loop with an empty replay. `observations` holds the first observation of each environment, and `steps` runs
    /// the learner steps.
    ///
    /// # Errors
    /// If the memory limit has no room for the replay.
    pub fn new(
        options: LearningOptions,
        agent: Box<dyn Agent>,
        steps: StepRunner,
        activations: activations::Options,
        dataset: Arc<Dataset>,
        observations: &[Observation],
    ) -> Result<Self> {
        let make = || Replay::new(&options.replay, Arc::clone(&dataset));
        let mut replay = with_room(make).map_err(refused)?;
        let first = (0u16..).zip(observations);
        let standing = first.map(|(environment, observation)| begin(&mut replay, environment, observation));
        let standing = standing.collect::<buffers::Result<_>>().map_err(refused)?;
        with_room(|| replay.enforce_budget()).map_err(refused)?;
        let state = LearnerState {
            replay,
            accumulators: vec![
                Accumulator::new(options.pace.n_step, options.pace.discount);
                observations.len()
            ],
            standing,
            rng: Pcg64Mcg::seed_from_u64(options.seed),
            ahead: None,
            window: MetricsWindow::new(0),
        };
        Ok(Self {
            agent,
            state,
            options,
            steps,
            activations,
            batch_owner: Owner::named("run/learner/batch"),
            activations_owner: Owner::named("run/learner/activations"),
            spilling: Spilling::default(),
            sampled: TensorBatch::default(),
        })
    }

    /// Inserts one step of every environment into the replay.
    ///
    /// # Errors
    /// If the memory limit has no room for the next rows, or the replay's file cannot be written. The step is inserted even
    /// so, and the next one asks for the room again.
    pub fn take(&mut self, vector_step: &VectorStep) -> Result<()> {
        let LearnerState { replay, accumulators, standing, window, .. } = &mut self.state;
        window.add_vector_step(vector_step);
        for (environment, step) in (0u16..).zip(&vector_step.steps) {
            let index = usize::from(environment);
            let local = replay.append_local(environment, &step.to.local).map_err(refused)?;
            let to = observation_ref(environment, &step.to, local);
            let from = std::mem::replace(&mut standing[index], to);
            let insert = |transition| replay.insert(transition);
            let pushed = accumulators[index].push(from, step.action, step.reward, to, step.ending, insert);
            pushed.map_err(refused)?;
            if let Some(begins) = &step.begins {
                standing[index] = begin(replay, environment, begins).map_err(refused)?;
            }
        }
        with_room(|| replay.enforce_budget()).map_err(refused)?;
        Ok(())
    }

    /// Learner steps that the inserted transitions allow and that have not been taken yet.
    #[must_use]
    pub fn n_due(&self) -> u64 {
        let Some(n_inserted) =
            self.state.replay.n_inserted().checked_sub(self.options.pace.learning_starts as u64)
        else {
            return 0;
        };
        let allowed =
            n_inserted as f64 * self.options.pace.samples_per_insert / self.options.pace.batch as f64;
        (allowed as u64).saturating_sub(self.agent.n_steps())
    }

    /// Takes one learner step. If the memory limit refuses an attempt, the same batch is computed again in fewer
    /// bytes. A step that fails has changed nothing that a saved state holds, so a resumed run takes the same step. With one
    /// exception: where a batch is drawn a step ahead and its rows are refused for good after the step, the step is taken,
    /// and a resumed run draws that batch anew.
    ///
    /// # Errors
    /// If no attempt fits the memory limit, or the replay or the agent fails.
    pub fn learn(&mut self, environment_steps: u64) -> Result<Outcome> {
        let rng = self.state.rng.clone();
        let drawn = self.state.ahead.take();
        let was_drawn = drawn.is_some();
        let n_steps = self.agent.n_steps();
        let learned = self.learn_from(drawn, environment_steps);
        if learned.is_err() && self.agent.n_steps() == n_steps {
            self.state.rng = rng;
            self.state.ahead = was_drawn.then(|| std::mem::take(&mut self.sampled));
        }
        learned
    }

    /// Learns from the batch that was drawn ahead, or from one that is drawn now.
    fn learn_from(&mut self, drawn: Option<TensorBatch>, environment_steps: u64) -> Result<Outcome> {
        let exponent = self.importance_sampling_exponent(environment_steps);
        let Self {
            agent, state, steps, activations, batch_owner, activations_owner, sampled, spilling, ..
        } = self;
        let LearnerState { replay, rng, ahead, window, .. } = state;
        let (n, prefetch) = (self.options.pace.batch, self.options.prefetch);
        let mut next = None;
        match drawn {
            // The next batch reuses the tensors of the previous one.
            Some(drawn) => next = Some(std::mem::replace(sampled, drawn)),
            None => {
                let _owner = batch_owner.enter();
                sample_readable(replay, rng, |replay, rng| replay.sample_into(n, exponent, rng, sampled))?;
            }
        }
        let mut attempt = |step_config: StepConfig| -> Result<Outcome> {
            let _owner = activations_owner.enter();
            let mut in_modes = |modes: StageModes| -> Result<Outcome> {
                activations.modes = modes;
                let _activations = activations::enter(activations)?;
                Ok(agent.step(sampled, step_config.micro_batch)?)
            };
            spilling.run(step_config.modes, &mut in_modes)
        };
        if prefetch == Prefetch::Off {
            let outcome = steps.step(attempt)?;
            window.add_outcome(&outcome);
            replay.update_priorities(&self.sampled.slots, &outcome.td_errors).map_err(refused)?;
            return Ok(outcome);
        }
        let mut next = next.unwrap_or_default();
        sample_readable(replay, rng, |replay, rng| replay.draw_into(n, exponent, rng, &mut next))?;
        let gather = |next: &mut TensorBatch| {
            let _owner = batch_owner.enter();
            replay.gather_into(next)
        };
        let (outcome, gathered) = if prefetch == Prefetch::Synchronous {
            let gathered = gather(&mut next);
            (steps.step(&mut attempt), gathered)
        } else {
            std::thread::scope(|scope| {
                let gathering = scope.spawn(|| gather(&mut next));
                let outcome = steps.step(&mut attempt);
                match gathering.join() {
                    Ok(gathered) => (outcome, gathered),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            })
        };
        let outcome = outcome?;
        // The memory limit may have had no room for the gathered rows during the step. What was drawn stays drawn.
        let mut gathered = match gathered {
            Err(error) if !matches!(error, buffers::Error::Damaged { .. }) => {
                Some(with_room(|| gather(&mut next)))
            }
            gathered => Some(gathered),
        };
        let readable = sample_readable(replay, rng, |replay, rng| match gathered.take() {
            Some(gathered) => gathered,
            // A drawn row cannot be read, and the transitions that need it were excluded.
            None => replay.sample_into(n, exponent, rng, &mut next),
        });
        // The step is taken, whatever became of the next batch.
        window.add_outcome(&outcome);
        replay.update_priorities(&self.sampled.slots, &outcome.td_errors).map_err(refused)?;
        readable?;
        *ahead = Some(next);
        Ok(outcome)
    }

    /// β at an environment step: from its first value to 1 by the end of the run.
    fn importance_sampling_exponent(&self, environment_steps: u64) -> f64 {
        let progress = (environment_steps as f64 / self.options.environment_steps as f64).min(1.0);
        let first = self.options.importance_sampling_exponent;
        first + (1.0 - first) * progress
    }

    /// The runner of the learner steps, with its step configuration and its count of refusals.
    #[must_use]
    pub fn steps(&self) -> &StepRunner {
        &self.steps
    }

    /// The agent that learns.
    #[must_use]
    pub fn agent(&self) -> &dyn Agent {
        &*self.agent
    }

    /// The agent, for restoring a checkpoint.
    pub fn agent_mut(&mut self) -> &mut dyn Agent {
        &mut *self.agent
    }

    /// The replay.
    #[must_use]
    pub fn replay(&self) -> &Replay {
        &self.state.replay
    }

    /// The sums since the last metrics row.
    pub(super) fn window_mut(&mut self) -> &mut MetricsWindow {
        &mut self.state.window
    }

    /// Transitions per batch.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.options.pace.batch
    }

    /// Writes the replay's new rows to its file, if it has one. A state that is saved afterwards refers to that file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn commit(&mut self) -> Result<()> {
        if let Some(error) = self.state.replay.commit().map_err(refused)? {
            say_always(&format!(
                "the replay's file keeps rows of no use, which a later checkpoint removes: {error}"
            ));
        }
        Ok(())
    }

    /// The state to save. Call [`commit`](Self::commit) first.
    #[must_use]
    pub fn state(&self) -> &LearnerState {
        &self.state
    }

    /// Frees the replay's bytes, so that there is room to read a saved one.
    ///
    /// # Errors
    /// If the memory limit has no room for an empty replay.
    pub fn let_replay_go(&mut self) -> Result<()> {
        let least = ReplayOptions { capacity_transitions: 1, ..self.options.replay.clone() };
        self.state.replay = with_room(|| Replay::new(&least, Arc::default())).map_err(refused)?;
        Ok(())
    }

    /// Restores a saved state.
    ///
    /// # Errors
    /// If a run of another size saved the state, or the replay's file lacks committed rows.
    pub fn restore(&mut self, state: LearnerState, dataset: Arc<Dataset>) -> Result<()> {
        // This frees the first replay before the saved one reads its rows.
        self.state = state;
        let replay = &mut self.state.replay;
        let opened = replay.reattach(&self.options.replay, dataset).map_err(refused)?;
        with_room(|| replay.enforce_budget()).map_err(refused)?;
        if opened.torn_bytes > 0 || !opened.damages.is_empty() {
            let file = self.options.replay.store.file.as_deref().unwrap_or(Path::new("the replay's file"));
            say_always(&format!("{}: {opened}", file.display()));
        }
        Ok(())
    }
}

/// Samples. If the memory limit has no room, samples the same again. If a chunk of the replay's file is damaged, excludes
/// the transitions that need it and samples others.
fn sample_readable(
    replay: &mut Replay,
    rng: &mut Pcg64Mcg,
    mut sample: impl FnMut(&Replay, &mut Pcg64Mcg) -> buffers::Result<()>,
) -> Result<()> {
    loop {
        let sampled = with_room(|| {
            let mut drawn = rng.clone();
            sample(replay, &mut drawn)?;
            *rng = drawn;
            Ok(())
        });
        match sampled {
            Err(buffers::Error::Damaged { path, damage }) => {
                let n_excluded = replay.exclude(&path, &damage);
                if n_excluded == 0 && !replay.owns_file(&path) {
                    let problem = format!(
                        "{damage}; the market's streams are computed anew when a run is resumed: go on with --resume"
                    );
                    return Err(Error::File { path, problem });
                }
                let error = buffers::Error::Damaged { path, damage };
                if n_excluded == 0 {
                    return Err(refused(error));
                }
                say_always(&format!("{error}: {n_excluded} transitions are not drawn any more"));
            }
            other => return other.map_err(refused),
        }
    }
}

/// Reports a refusal by the memory limit as a memory error, and everything else as a replay error.
fn refused(error: buffers::Error) -> Error {
    match error {
        buffers::Error::Memsys(refused @ memsys::Error::Refused(_)) => Error::Memory(refused),
        other => Error::Replay(other),
    }
}

/// Appends the first observation of an episode.
fn begin(
    replay: &mut Replay,
    environment: u16,
    observation: &Observation,
) -> buffers::Result<ObservationRef> {
    let local = replay.begin_episode(environment, &observation.local)?;
    Ok(observation_ref(environment, observation, local))
}

fn observation_ref(environment: u16, observation: &Observation, local: u32) -> ObservationRef {
    ObservationRef { instrument: observation.instrument, environment, t: observation.t, local }
}
