//! The step as a transaction: an attempt that the memory limit has no room for is made again, with nothing changed, in fewer
//! bytes.
//!
//! ```text
//! attempt on the step configuration ── refused ──> collect what is cached, same step configuration ── refused ──> one step configuration lower ── … ──> error
//! after many steps without a refusal, and room for it: one step configuration up, at most to the one chosen at first
//! ```
//!
//! Undoing an attempt is its maker's part: a learner's step draws from generators seeded for it, adds gradients into
//! a buffer of its own and changes weights and moments only in its last part, where nothing is refused
//! ([`budget::commit`]).

use std::sync::Arc;

use crate::ledger;
use crate::ledger::budget;
use crate::ledger::refusal::Refusal;
use crate::libtorch;
use crate::nn::activations;
use crate::step::activation_mode::ActivationMode;
use crate::step::ceiling::StepCeiling;
use crate::step::cost::{StepConfig, StepCosts};

/// Steps without a refusal after which a higher step configuration is tried.
const PATIENCE_STEPS: u64 = 200;
/// Attempts on the leanest step configuration before the step is given up.
const LAST_ATTEMPTS: u32 = 8;

/// Why a step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure<E> {
    /// The memory limit has no room for it on any step configuration.
    Refused(Refusal),
    /// It failed for another reason.
    Other(E),
}

/// Makes steps, on the step configuration that fits.
#[derive(Debug)]
pub struct StepRunner {
    costs: StepCosts,
    first: StepConfig,
    step_config: StepConfig,
    ceiling: Option<Arc<StepCeiling>>,
    n_clean: u64,
    n_retried: u64,
    peak_bytes: u64,
}

impl StepRunner {
    /// Begins on `first`, a step configuration of `costs`.
    #[must_use]
    pub fn new(costs: StepCosts, first: StepConfig) -> Self {
        Self { costs, first, step_config: first, ceiling: None, n_clean: 0, n_retried: 0, peak_bytes: 0 }
    }

    /// Keeps under a ceiling that the memory system moves. It chooses among the activation modes of one micro-batch, which give
    /// the same bits: readings come by the clock, and what they lead to must not change a result.
    pub fn follow(&mut self, ceiling: Arc<StepCeiling>) {
        let modes = self.modes();
        if let [.., (_, above), (_, highest)] = modes.as_slice() {
            ceiling.declare(modes.len() as u32);
            ceiling.set_raise_bytes(highest - above);
            self.ceiling = Some(ceiling);
        }
    }

    /// The step configurations of the first one's micro-batch, the leanest first.
    fn modes(&self) -> Vec<(StepConfig, u64)> {
        let mut step_configs = self.costs.step_configs();
        step_configs.retain(|(step_config, _)| step_config.micro_batch == self.first.micro_batch);
        step_configs.sort_by_key(|(_, peak)| *peak);
        step_configs
    }

    /// Comes down where the ceiling has.
    fn keep_under_ceiling(&mut self) {
        let Some(ceiling) = self.ceiling.as_ref().map(|ceiling| ceiling.ceiling() as usize) else { return };
        let modes = self.modes();
        let at = modes.iter().position(|(step_config, _)| *step_config == self.step_config);
        if let (Some(at), Some((lower, _))) = (at, modes.get(ceiling))
            && at > ceiling
        {
            self.step_config = *lower;
            self.n_clean = 0;
        }
    }

    /// Steps at one micro-batch, activations kept: nothing is measured and there is no step configuration below.
    #[must_use]
    pub fn fixed(micro_batch: usize) -> Self {
        let step_config = StepConfig { micro_batch, mode: ActivationMode::Keep };
        Self::new(
            StepCosts { smallest: micro_batch, largest: micro_batch, ..StepCosts::default() },
            step_config,
        )
    }

    /// The step configuration of the next attempt.
    #[must_use]
    pub fn step_config(&self) -> StepConfig {
        self.step_config
    }

    /// The step configuration it began on, and goes up to at most.
    #[must_use]
    pub fn first(&self) -> StepConfig {
        self.first
    }

    /// The step configurations and what they cost.
    #[must_use]
    pub fn costs(&self) -> &StepCosts {
        &self.costs
    }

    /// Steps that were attempted more than once.
    #[must_use]
    pub fn n_retried(&self) -> u64 {
        self.n_retried
    }

    /// The most bytes of tensors that a step held beyond those before it.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// Makes one step. `attempt` is called with a step configuration, and again where it was refused memory; an attempt that fails
    /// must have changed nothing.
    ///
    /// # Errors
    /// [`Failure::Refused`] where the leanest step configuration is refused too, [`Failure::Other`] as `attempt` failed.
    pub fn step<T, E>(
        &mut self,
        mut attempt: impl FnMut(StepConfig) -> Result<T, E>,
    ) -> Result<T, Failure<E>> {
        self.keep_under_ceiling();
        let mut n_attempts = 0;
        let mut n_last = 0;
        loop {
            let tensors_before = ledger::tensor_bytes();
            ledger::restart_tensor_peak();
            let denied_before = budget::n_denied();
            let refused_before = libtorch::n_refused_by_devices();
            let _ = budget::take_refusal();
            let outcome = budget::with_injected_refusals(n_attempts, || attempt(self.step_config));
            let error = match outcome {
                Ok(done) => {
                    let peak = ledger::peak_tensor_bytes().saturating_sub(tensors_before);
                    self.peak_bytes = self.peak_bytes.max(peak);
                    self.after_step(n_attempts);
                    return Ok(done);
                }
                Err(error) => error,
            };
            // A thread of libtorch's own may have been refused in this one's place.
            let refusal = budget::take_refusal();
            let refusal =
                refusal.or_else(|| (budget::n_denied() > denied_before).then(budget::last_refusal).flatten());
            if refusal.is_none() && libtorch::n_refused_by_devices() == refused_before {
                return Err(Failure::Other(error));
            }
            // What a failed backward pass left in the engine's queue would live until the next one.
            if let Err(unreleased) = activations::release_failed_backward() {
                debug_assert!(false, "{unreleased}");
            }
            budget::collect(u64::MAX);
            if n_attempts >= 1 {
                match self.costs.lower(self.step_config) {
                    Some(lower) => self.step_config = lower,
                    None if n_last < LAST_ATTEMPTS => n_last += 1,
                    None => return Err(refusal.map_or(Failure::Other(error), Failure::Refused)),
                }
            }
            n_attempts += 1;
        }
    }

    fn after_step(&mut self, n_refused: u32) {
        if n_refused > 0 {
            self.n_retried += 1;
            self.n_clean = 0;
            return;
        }
        self.n_clean += 1;
        if self.step_config == self.first || !self.n_clean.is_multiple_of(PATIENCE_STEPS) {
            return;
        }
        let room = budget::headroom_bytes() + ledger::CACHE.bytes();
        let step_configs = self.costs.step_configs();
        let (Some(at), Some(top)) = (
            step_configs.iter().position(|(step_config, _)| *step_config == self.step_config),
            step_configs.iter().position(|(step_config, _)| *step_config == self.first),
        ) else {
            return;
        };
        // The nearest step configuration above that fits with a tenth to spare.
        let fits = |(_, peak): &&(StepConfig, u64)| peak + peak / 10 <= room;
        if let Some((higher, _)) = step_configs[top..at].iter().rev().find(fits) {
            self.step_config = *higher;
        }
    }
}
