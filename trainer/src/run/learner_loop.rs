//! The learner's half of a run: takes in steps, keeps the replay, learns as often as it is due.
//!
//! A learner step is a transaction ([`memsys::step::retry`]): what a refused attempt drew from the replay is drawn again.

use std::sync::Arc;

use agents::settings::Pace;
use agents::{Agent, Outcome};
use buffers::frames::{Dataset, ObservationRef};
use buffers::replay::n_step::Accumulator;
use buffers::replay::{Prefetch, Replay, ReplayBuffer, ReplayOptions, TensorBatch};
use memsys::ledger::Owner;
use memsys::nn::activations;
use memsys::step::cost::StepConfig;
use memsys::step::retry::{Failure, StepRunner};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::console::say_always;
use crate::envs::observation::Observation;
use crate::error::{Error, Result};
use crate::run::actor_loop::VectorStep;

/// All that the learner's future depends on, beside weights and moments.
#[derive(Debug, Serialize, Deserialize)]
pub struct LearnerState {
    replay: Replay,
    accumulators: Vec<Accumulator>,
    standing: Vec<ObservationRef>,
    rng: Pcg64Mcg,
    /// The next step's batch, where it is drawn a step ahead.
    ahead: Option<TensorBatch>,
}

impl LearnerState {
    /// The replay.
    #[must_use]
    pub fn replay(&self) -> &Replay {
        &self.replay
    }
}

/// The replay of a run, and how often and from what its learner learns.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningOptions {
    /// TensorBatch, n-step returns and how often to learn.
    pub pace: Pace,
    /// How far weights make up for priorities at first; 1 at the end of the run.
    pub importance_sampling_exponent: f64,
    /// Environment steps of the whole run.
    pub environment_steps: u64,
    /// When a batch is drawn.
    pub prefetch: Prefetch,
    /// Seed of the draws.
    pub seed: u64,
    /// The replay.
    pub replay: ReplayOptions,
}

/// Replay and learner.
#[derive(Debug)]
pub struct LearnerLoop {
    agent: Box<dyn Agent>,
    state: LearnerState,
    options: LearningOptions,
    steps: StepRunner,
    activations: activations::Options,
    batch_owner: Owner,
    activations_owner: Owner,
    /// Sampled into again and again.
    sampled: TensorBatch,
}

impl LearnerLoop {
    /// A loop with an empty replay; `seen` is what each environment shows at first. Learner steps are made by `steps`;
    /// `file` is where the replay's rows go, where they go to a file.
    ///
    /// # Errors
    /// If the memory limit has no room for the replay.
    pub fn new(
        options: LearningOptions,
        agent: Box<dyn Agent>,
        steps: StepRunner,
        activations: activations::Options,
        dataset: Arc<Dataset>,
        seen: &[Observation],
    ) -> Result<Self> {
        let mut replay = Replay::new(&options.replay, dataset).map_err(refused)?;
        let standing = (0u16..)
            .zip(seen)
            .map(|(environment, seen)| observation_ref(&mut replay, environment, seen))
            .collect();
        replay.enforce_budget().map_err(refused)?;
        let state = LearnerState {
            replay,
            accumulators: vec![Accumulator::new(options.pace.n_step, options.pace.discount); seen.len()],
            standing,
            rng: Pcg64Mcg::seed_from_u64(options.seed),
            ahead: None,
        };
        Ok(Self {
            agent,
            state,
            options,
            steps,
            activations,
            batch_owner: Owner::named("run/learner/batch"),
            activations_owner: Owner::named("run/learner/activations"),
            sampled: TensorBatch::default(),
        })
    }

    /// Takes in a round of steps.
    ///
    /// # Errors
    /// If the memory limit has no room for the next rows, or the replay's file cannot be written.
    pub fn take(&mut self, vector_step: &VectorStep) -> Result<()> {
        let LearnerState { replay, accumulators, standing, .. } = &mut self.state;
        for (environment, step) in (0u16..).zip(&vector_step.steps) {
            let index = usize::from(environment);
            let to = observation_ref(replay, environment, &step.to);
            let from = std::mem::replace(&mut standing[index], to);
            accumulators[index].push(from, step.action, step.reward, to, step.ending, |t| replay.insert(t));
            if let Some(begins) = &step.begins {
                standing[index] = observation_ref(replay, environment, begins);
            }
        }
        replay.enforce_budget().map_err(refused)?;
        Ok(())
    }

    /// Learner steps that the inserted transitions allow and that were not taken yet.
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

    /// One learner step. A refused attempt is made again in fewer bytes; its batch stays.
    ///
    /// # Errors
    /// If the learner fails.
    pub fn learn(&mut self, environment_steps: u64) -> Result<Outcome> {
        let progress = (environment_steps as f64 / self.options.environment_steps as f64).min(1.0);
        let first = self.options.importance_sampling_exponent;
        let exponent = first + (1.0 - first) * progress;
        let Self { agent, state, steps, activations, batch_owner, activations_owner, sampled, .. } = self;
        let LearnerState { replay, rng, ahead, .. } = state;
        let (n, prefetch) = (self.options.pace.batch, self.options.prefetch);
        let mut next = None;
        match ahead.take() {
            // The room of the batch before is drawn into next.
            Some(drawn) => next = Some(std::mem::replace(sampled, drawn)),
            None => {
                let _owner = batch_owner.enter();
                sample_readable(replay, rng, |replay, rng| replay.sample_into(n, exponent, rng, sampled))?;
            }
        }
        let mut attempt = |step_config: StepConfig| -> Result<Outcome> {
            let _owner = activations_owner.enter();
            activations.mode = step_config.mode;
            let _activations = activations::enter(activations)?;
            Ok(agent.step(sampled, step_config.micro_batch)?)
        };
        let outcome = if prefetch == Prefetch::Off {
            steps.step(attempt)
        } else {
            let next = next.get_or_insert_default();
            sample_readable(replay, rng, |replay, rng| replay.draw_into(n, exponent, rng, next))?;
            let gather = |next: &mut TensorBatch| {
                let _owner = batch_owner.enter();
                replay.gather_into(next)
            };
            let (outcome, gathered) = if prefetch == Prefetch::Synchronous {
                let gathered = gather(next);
                (steps.step(&mut attempt), gathered)
            } else {
                std::thread::scope(|scope| {
                    let gathering = scope.spawn(|| gather(next));
                    let outcome = steps.step(&mut attempt);
                    match gathering.join() {
                        Ok(gathered) => (outcome, gathered),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                })
            };
            if gathered.is_err() {
                // What was drawn cannot be read, or the memory limit had no room for it beside the step.
                let mut drawn_before = Some(gathered);
                sample_readable(replay, rng, |replay, rng| match drawn_before.take() {
                    Some(failed @ Err(buffers::Error::Damaged { .. })) => failed,
                    _ => replay.sample_into(n, exponent, rng, next),
                })?;
            }
            outcome
        };
        let outcome = outcome.map_err(|failure| match failure {
            Failure::Refused(refusal) => Error::Memory(memsys::Error::Refused(refusal)),
            Failure::Other(error) => error,
        })?;
        *ahead = next;
        self.state.replay.update_priorities(&self.sampled.slots, &outcome.td_errors);
        Ok(outcome)
    }

    /// The steps' step configuration, and what they met with.
    #[must_use]
    pub fn steps(&self) -> &StepRunner {
        &self.steps
    }

    /// What learns.
    #[must_use]
    pub fn agent(&self) -> &dyn Agent {
        &*self.agent
    }

    /// The agent, to be restored.
    pub fn agent_mut(&mut self) -> &mut dyn Agent {
        &mut *self.agent
    }

    /// The replay.
    #[must_use]
    pub fn replay(&self) -> &Replay {
        &self.state.replay
    }

    /// Transitions of a batch.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.options.pace.batch
    }

    /// Who can be asked for bytes of the replay.
    #[must_use]
    pub fn buffer(&self) -> Arc<ReplayBuffer> {
        self.state.replay.buffer()
    }

    /// Brings what is new in the replay to its file, where it has one: a state saved after that refers to it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn commit(&mut self) -> Result<()> {
        self.state.replay.commit().map_err(refused)
    }

    /// All that the future depends on, beside weights and moments. To be saved, it must have been committed.
    #[must_use]
    pub fn state(&self) -> &LearnerState {
        &self.state
    }

    /// Gives the replay's bytes back, so that there is room to read a saved one.
    ///
    /// # Errors
    /// If the memory limit has no room for an empty replay.
    pub fn let_replay_go(&mut self) -> Result<()> {
        let least = ReplayOptions { capacity_transitions: 1, ..self.options.replay.clone() };
        self.state.replay = Replay::new(&least, Arc::default()).map_err(refused)?;
        Ok(())
    }

    /// Goes back to a saved state.
    ///
    /// # Errors
    /// If it was saved by a run of another size, or the replay's file lacks what was committed.
    pub fn restore(&mut self, state: LearnerState, dataset: Arc<Dataset>) -> Result<()> {
        // The replay that it began with gives its bytes back before those of the saved one are held.
        self.state = state;
        let opened = self.state.replay.reattach(&self.options.replay, dataset).map_err(refused)?;
        if opened.torn_bytes > 0 || !opened.damages.is_empty() {
            say_always(&format!("the replay's file: {opened}"));
        }
        Ok(())
    }
}

/// Samples, and where a chunk of the replay's file is damaged excludes what needs it and samples again.
fn sample_readable(
    replay: &mut Replay,
    rng: &mut Pcg64Mcg,
    mut sample: impl FnMut(&Replay, &mut Pcg64Mcg) -> buffers::Result<()>,
) -> Result<()> {
    loop {
        match sample(replay, rng) {
            Err(buffers::Error::Damaged { path, damage }) => {
                let n_excluded = replay.exclude(&damage);
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

/// What the memory limit refused is told as such.
fn refused(error: buffers::Error) -> Error {
    match error {
        buffers::Error::Memsys(refused @ memsys::Error::Refused(_)) => Error::Memory(refused),
        other => Error::Replay(other),
    }
}

fn observation_ref(replay: &mut Replay, environment: u16, seen: &Observation) -> ObservationRef {
    let local = replay.append_local(environment, &seen.local);
    ObservationRef { instrument: seen.instrument, environment, t: seen.t, local }
}
