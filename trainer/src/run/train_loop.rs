//! The loop of a run, synchronous or concurrent.
//!
//! ```text
//! synchronous     actor.advance ──vector step──> learner: take, learn what is due, evaluate, save    in turns
//! concurrent      actor's thread ══vector steps (bounded)══> learner's thread
//!                                <══weights, requests to save══
//! ```
//!
//! A synchronous run gives the same result to the bit for the same seed. In a concurrent run the actor runs ahead by
//! at most the queue's length, with older weights. The actor's state goes through the same queue as its steps, so
//! both halves of a checkpoint belong to the same moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use agents::Policy;
use crossbeam::channel::{Receiver, Sender, bounded};
use memsys::ledger::{self, Owner};
use memsys::nn::parameters::Weights;
use memsys::os::probe;
use memsys::os::processor_seconds;
use memsys::step::room::with_room;
use memsys::system::MemoryOptimizationSystem;
use tch::Tensor;

use crate::console::{Verbosity, tells};
use crate::envs::Environment;
use crate::error::{Error, Result};
use crate::format;
use crate::interrupt;
use crate::resolve::Parts;
use crate::run::actor_loop::{ActorLoop, ActorState, VectorStep};
use crate::run::checkpoint::{self, BestScore, Counters, Unfinished};
use crate::run::evaluation::{Evaluator, weights_of};
use crate::run::folder::RunFolder;
use crate::run::learner_loop::LearnerLoop;
use crate::run::metrics_window::MetricsWindow;
use crate::run::tensor_file::Metadata;
use crate::telemetry::metrics::{Kind, Metrics, MetricsWriter};
use crate::telemetry::progress::Progress;
use crate::telemetry::tensorboard::EventWriter;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The run took all its steps.
    Done,
    /// The run was asked to stop, and saved its state.
    Interrupted,
}

/// The approximate number of metrics rows in a whole run.
const N_ROWS: u64 = 200;

/// A running run.
#[derive(Debug)]
pub struct TrainLoop<E: Environment> {
    /// The actor's half.
    pub actor: ActorLoop<E>,
    /// The learner's half, with evaluation and everything that is written.
    pub state: RunState,
}

/// The learner's half of a run: learner, evaluator, and everything that is written.
#[derive(Debug)]
pub struct RunState {
    /// The options of each part of the run.
    pub parts: Parts,
    /// The resolved configuration, for the report.
    pub config_toml: String,
    /// The folder that the run writes to.
    pub folder: RunFolder,
    /// The replay and the learner.
    pub learner: LearnerLoop,
    /// Monitors memory, if memory is managed and counted.
    pub system: Option<MemoryOptimizationSystem>,
    /// Evaluates the agent.
    pub evaluator: Evaluator,
    /// The greedy policy that is evaluated.
    pub policy: Arc<dyn Policy>,
    /// The counters, as a checkpoint stores them.
    pub counters: Counters,
    /// The flat weights with the best validation score.
    pub best: Option<Tensor>,
    /// What the files of weights say about themselves.
    pub weight_facts: Metadata,
    /// `metrics.jsonl`.
    pub metrics: MetricsWriter,
    /// TensorBoard's event file.
    pub events: EventWriter,
    /// The progress line on the terminal.
    pub progress: Progress,
    /// When this session began. Each resume starts another session.
    pub began: Instant,
    /// Wall-clock seconds of the earlier sessions.
    pub seconds_before: f64,
}

/// What is due after a vector step.
#[derive(Debug, Clone, Copy)]
struct Due {
    save: bool,
    stop: bool,
}

impl<E: Environment + Send> TrainLoop<E>
where
    E::State: Send,
{
    /// Runs to the end, or until it is asked to stop. In both cases it saves the last state.
    ///
    /// # Errors
    /// If learning or saving fails. If the memory limit refused something for good, the state was saved first, and a run
    /// that is resumed from it begins with what was refused.
    pub fn run(&mut self) -> Result<Ended> {
        let ended =
            if self.state.parts.run.synchronous { self.run_in_turns() } else { self.run_concurrently() };
        self.state.progress.finish();
        ended
    }

    fn run_in_turns(&mut self) -> Result<Ended> {
        match self.take_turns() {
            Err(Error::Interrupted) => {
                self.state.save(&self.actor.state())?;
                Ok(Ended::Interrupted)
            }
            Err(error) if error.is_out_of_room() => {
                self.state.save(&self.actor.state())?;
                Err(error)
            }
            ended => ended,
        }
    }

    fn take_turns(&mut self) -> Result<Ended> {
        let n_steps = self.state.parts.run.environment_steps;
        let mut due = self.state.finish_vector_step()?;
        loop {
            if due.save || due.stop {
                self.state.save(&self.actor.state())?;
            }
            if due.stop {
                return Ok(Ended::Interrupted);
            }
            if self.actor.environment_steps() >= n_steps {
                break;
            }
            let vector_step = {
                let _owner = Owner::named("run/actor").enter();
                self.actor.advance(self.state.learner.agent().online())?
            };
            due = self.state.take(&vector_step)?;
        }
        self.state.save(&self.actor.state())?;
        Ok(Ended::Done)
    }

    fn run_concurrently(&mut self) -> Result<Ended> {
        let TrainLoop { actor, state } = self;
        let copy_of_online = || {
            let _owner = Owner::named("run/actor").enter();
            let online = state.learner.agent().online().flat();
            weights_of(&*state.policy, online, online.device())
        };
        let weights = copy_of_online()?;
        let published = Mutex::new(Published { weights: copy_of_online()?, is_new: false });
        let (to_learner, from_actor) = bounded(state.parts.run.queue_batches);
        let (request, requested) = bounded(1);
        let n_steps = state.parts.run.environment_steps;
        let published = &published;
        std::thread::scope(|scope| {
            let acting =
                scope.spawn(move || act(actor, weights, n_steps, &to_learner, published, &requested));
            let learned = state.learn_from(&from_actor, published, &request);
            // The actor stops when its queue has no reader.
            drop(from_actor);
            let acted = acting.join().unwrap_or(Err(Error::ActorLost));
            learned.and_then(|ended| acted.map(|()| ended))
        })
    }
}

/// What the actor's thread sends to the learner.
enum FromActor<E: Environment> {
    VectorStep(VectorStep),
    State(ActorState<E>),
}

/// The weights on their way from the learner to the actor. The two exchange what they hold, so publishing allocates nothing
/// and the memory limit cannot refuse it.
struct Published {
    weights: Weights,
    /// Whether the actor has not taken them yet.
    is_new: bool,
}

fn act<E: Environment>(
    actor: &mut ActorLoop<E>,
    mut weights: Weights,
    n_steps: u64,
    to_learner: &Sender<FromActor<E>>,
    published: &Mutex<Published>,
    requested: &Receiver<()>,
) -> Result<()> {
    memsys::libtorch::adopt_threads()?;
    let _stack = memsys::os::count_stack();
    let _owner = Owner::named("run/actor").enter();
    while actor.environment_steps() < n_steps {
        {
            let mut published = published.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut published.is_new) {
                std::mem::swap(&mut weights, &mut published.weights);
            }
        }
        if requested.try_recv().is_ok() && to_learner.send(FromActor::State(actor.state())).is_err() {
            return Ok(());
        }
        let vector_step = match actor.advance(&weights) {
            Ok(vector_step) => vector_step,
            Err(error) => {
                // The actor stands before the step that was refused, and the learner saves it there.
                let _ = to_learner.send(FromActor::State(actor.state()));
                return Err(error);
            }
        };
        if to_learner.send(FromActor::VectorStep(vector_step)).is_err() {
            return Ok(());
        }
    }
    // The send fails only if the learner has failed, and then the learner's error is reported.
    let _ = to_learner.send(FromActor::State(actor.state()));
    Ok(())
}

impl RunState {
    fn learn_from<E: Environment>(
        &mut self,
        from_actor: &Receiver<FromActor<E>>,
        published: &Mutex<Published>,
        request: &Sender<()>,
    ) -> Result<Ended> {
        let (mut stop, mut refused) = (false, None);
        let resumed = self.finish_vector_step();
        self.heed(resumed, &mut stop, &mut refused, request)?;
        for message in from_actor {
            match message {
                // After a refusal, or a signal, the actor's steps up to its state are kept for the run that is resumed.
                FromActor::VectorStep(vector_step) if stop || refused.is_some() => {
                    match self.insert(&vector_step) {
                        Err(error) if !error.is_out_of_room() => return Err(error),
                        _ => {}
                    }
                }
                FromActor::VectorStep(vector_step) => {
                    let n_before = self.learner.agent().n_steps();
                    let taken = self.take(&vector_step);
                    self.heed(taken, &mut stop, &mut refused, request)?;
                    if self.learner.agent().n_steps() > n_before {
                        let mut published = published.lock().unwrap_or_else(PoisonError::into_inner);
                        if !published.is_new {
                            published.weights.copy_from(self.learner.agent().online())?;
                            published.is_new = true;
                        }
                    }
                }
                FromActor::State(state) => {
                    self.save(&state)?;
                    if let Some(error) = refused {
                        return Err(error);
                    }
                    if stop {
                        return Ok(Ended::Interrupted);
                    }
                }
            }
        }
        Ok(Ended::Done)
    }

    /// Asks the actor for its state where the run is to be saved: because it is due, because a signal asked the run to
    /// stop, or because the memory limit refused something for good.
    fn heed(
        &self,
        taken: Result<Due>,
        stop: &mut bool,
        refused: &mut Option<Error>,
        request: &Sender<()>,
    ) -> Result<()> {
        let save = match taken {
            Ok(due) => {
                *stop |= due.stop;
                due.save || due.stop
            }
            Err(Error::Interrupted) => {
                *stop = true;
                true
            }
            Err(error) if error.is_out_of_room() => {
                *refused = Some(error);
                true
            }
            Err(error) => return Err(error),
        };
        if save {
            // If a request is still waiting, that one is enough.
            let _ = request.try_send(());
        }
        Ok(())
    }

    /// Inserts a vector step, then takes the learner steps, evaluations and metrics rows that are due.
    fn take(&mut self, vector_step: &VectorStep) -> Result<Due> {
        self.insert(vector_step)?;
        self.finish_vector_step()
    }

    fn insert(&mut self, vector_step: &VectorStep) -> Result<()> {
        let since = self.counters.environment_steps;
        self.counters.unfinished.get_or_insert(Unfinished { since, has_row: false });
        self.counters.environment_steps = vector_step.environment_steps;
        self.learner.take(vector_step)
    }

    fn take_due_steps(&mut self, since: u64, environment_steps: u64) -> Result<()> {
        let n_due = self.learner.n_due();
        if n_due > 0 && self.learner.agent().n_steps() == 0 {
            // Steps before learning begins are acting alone, many times as fast.
            self.learner.window_mut().restart_clock(since);
        }
        for _ in 0..n_due {
            interrupt::check()?;
            self.learner.learn(environment_steps)?;
            if let Some(system) = &self.system {
                system.mark_step();
            }
        }
        Ok(())
    }

    /// Takes the learner steps, evaluations and metrics rows that are due since the last vector step was inserted. Where it
    /// is refused or interrupted, a later call goes on where this one ended, also in a run that is resumed.
    fn finish_vector_step(&mut self) -> Result<Due> {
        let Some(Unfinished { since, has_row }) = self.counters.unfinished else {
            return Ok(Due { save: false, stop: false });
        };
        let now = self.counters.environment_steps;
        let (learning, processor) = (Instant::now(), processor_seconds());
        let learned = self.take_due_steps(since, now);
        // The steps that were taken count with their time, also where one after them was refused.
        self.counters.learner_seconds += learning.elapsed().as_secs_f64();
        self.counters.learner_processor_seconds += processor_seconds() - processor;
        self.counters.learner_steps = self.learner.agent().n_steps();
        learned?;

        let run = &self.parts.run;
        let crosses = |interval: u64| since / interval != now / interval;
        let is_last = now >= run.environment_steps;
        let (save, evaluate) =
            (crosses(run.checkpoint_interval_steps), crosses(run.evaluation_interval_steps));
        let row = crosses((run.environment_steps / N_ROWS).max(1));
        if (row || is_last) && !has_row {
            self.write_row()?;
        }
        self.counters.unfinished = Some(Unfinished { since, has_row: true });
        if (evaluate || is_last) && self.counters.learner_steps > 0 {
            self.evaluate()?;
        }
        self.counters.unfinished = None;
        Ok(Due { save, stop: interrupt::is_asked() })
    }

    fn write_row(&mut self) -> Result<()> {
        let mean = |sum: f64, n: u64| (n > 0).then(|| sum / n as f64);
        let next = MetricsWindow::new(self.counters.environment_steps);
        let window = std::mem::replace(self.learner.window_mut(), next);
        let seconds = window.seconds().max(1e-9);
        let n_steps = self.counters.environment_steps - window.environment_steps;
        let is_market = matches!(self.evaluator, Evaluator::Market(_));
        let mean_reward = mean(window.reward, window.n_steps);
        let episode_return = mean(window.returns.iter().sum(), window.returns.len() as u64);
        let metrics = Metrics {
            mean_reward: mean_reward.filter(|_| !is_market),
            mean_reward_bps: mean_reward.filter(|_| is_market),
            episode_return: episode_return.filter(|_| !is_market),
            episode_return_bps: episode_return.filter(|_| is_market),
            loss: mean(window.loss, window.n_learned),
            td_error: mean(window.td_error, window.n_learned),
            gradient_norm: mean(window.gradient_norm, window.n_learned),
            epsilon: Some(window.epsilon),
            samples_per_second: Some(window.n_learned as f64 * self.learner.batch() as f64 / seconds),
            environment_steps_per_second: (self.counters.learner_steps > 0)
                .then_some(n_steps as f64 / seconds),
            replay_transitions: Some(self.learner.replay().len() as u64),
            ..self.row(Kind::Train)?
        };
        self.metrics.write(&metrics)?;
        let scalars = [
            ("train/mean_reward", metrics.mean_reward),
            ("train/mean_reward_bps", metrics.mean_reward_bps),
            ("train/episode_return", metrics.episode_return),
            ("train/episode_return_bps", metrics.episode_return_bps),
            ("train/loss", metrics.loss),
            ("train/td_error", metrics.td_error),
            ("train/gradient_norm", metrics.gradient_norm),
            ("train/epsilon", metrics.epsilon),
            ("speed/samples_per_second", metrics.samples_per_second),
            ("speed/environment_steps_per_second", metrics.environment_steps_per_second),
            ("memory/resident_bytes", Some(metrics.resident_bytes as f64)),
        ];
        for (tag, value) in scalars {
            if let Some(value) = value {
                self.events.scalar(tag, metrics.environment_steps, value)?;
            }
        }
        self.progress.update(&metrics);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<()> {
        let _owner = Owner::named("run/evaluation").enter();
        let agent = self.learner.agent();
        let Some(score) = self.evaluator.validate(&*self.policy, agent.online())? else { return Ok(()) };
        // Among equal scores the latest wins, because it has learned from more.
        if self.counters.best.is_none_or(|best| score >= best.score) {
            match &mut self.best {
                Some(best) => tch::no_grad(|| best.f_copy_(agent.online().flat()))?,
                none => *none = Some(with_room(|| agent.online().snapshot())?),
            }
            self.counters.best =
                Some(BestScore { score, environment_steps: self.counters.environment_steps });
        }
        let is_market = matches!(self.evaluator, Evaluator::Market(_));
        let metrics = Metrics {
            validation_log_return: is_market.then_some(score),
            episode_return: (!is_market).then_some(score),
            ..self.row(Kind::Validation)?
        };
        self.metrics.write(&metrics)?;
        let tag = if is_market { "eval/log_return" } else { "eval/mean_return" };
        self.events.scalar(tag, metrics.environment_steps, score)?;
        self.progress.update(&metrics);
        Ok(())
    }

    fn row(&mut self, kind: Kind) -> Result<Metrics> {
        self.counters.wall_seconds = self.seconds_before + self.began.elapsed().as_secs_f64();
        Ok(Metrics {
            kind,
            environment_steps: self.counters.environment_steps,
            learner_steps: self.counters.learner_steps,
            wall_seconds: self.counters.wall_seconds,
            resident_bytes: probe::resident_bytes()?,
            counted_bytes: self.system.as_ref().map(|_| ledger::counted_bytes()),
            ..Metrics::default()
        })
    }

    /// Writes the checkpoint.
    fn save<E: Environment>(&mut self, actor: &ActorState<E>) -> Result<()> {
        self.counters.learner_steps = self.learner.agent().n_steps();
        self.counters.wall_seconds = self.seconds_before + self.began.elapsed().as_secs_f64();
        self.counters.peak_resident_bytes =
            self.counters.peak_resident_bytes.max(probe::peak_resident_bytes()?);
        self.folder.require_in_place()?;
        self.metrics.sync()?;
        self.events.flush()?;
        self.counters.metrics = Some(self.metrics.sum());
        checkpoint::save(
            &self.folder.checkpoint(),
            &self.counters,
            &self.folder.sealed_config(&self.config_toml),
            actor,
            &mut self.learner,
            self.best.as_ref(),
            &self.weight_facts,
        )?;
        if tells(Verbosity::Verbose) {
            let steps = format::count(self.counters.environment_steps);
            self.progress.say(&format!("checkpoint at environment step {steps}"));
        }
        if let Some(system) = &self.system {
            system.notify("checkpoint");
        }
        Ok(())
    }

    /// The weights that the report evaluates: those with the best validation score, or the last ones if there was no
    /// validation.
    ///
    /// # Errors
    /// If libtorch refuses the memory.
    pub fn evaluated_weights(&self) -> Result<Weights> {
        let online = self.learner.agent().online().flat();
        weights_of(&*self.policy, self.best.as_ref().unwrap_or(online), online.device())
    }
}
