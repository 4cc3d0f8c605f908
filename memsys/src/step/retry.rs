//! A learner step as a transaction: if the memory limit refuses an attempt, the step is tried again in fewer bytes.
//!
//! ```text
//! attempt ── refused ──> collect caches, same step configuration ── refused ──> the next lower one ── … ──> error
//! after 200 clean steps, if there is room: a higher step configuration, at most the one chosen at first
//! ```
//!
//! This module does not undo an attempt: a refused attempt must have changed nothing. A learner keeps to this because it
//! seeds its generators for each step, adds gradients into a separate buffer, and changes weights and moments only in
//! its last part, where nothing is refused ([`budget::commit`]).

use std::sync::Arc;

use crate::error::Error;
use crate::ledger;
use crate::ledger::budget;
use crate::nn::activations;
use crate::step::activation_mode::ActivationMode;
use crate::step::ceiling::StepCeiling;
use crate::step::cost::{StepConfig, StepCosts};
use crate::step::room;
use crate::step::room::Failed;

/// Number of steps without a refusal after which a higher step configuration is tried.
const PATIENCE_STEPS: u64 = 200;
/// Number of attempts at the leanest step configuration before the step fails.
const LAST_ATTEMPTS: u32 = 8;

/// Runs learner steps at a step configuration that fits under the memory limit.
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
    /// Begins at `first`, a step configuration of `costs`.
    #[must_use]
    pub fn new(costs: StepCosts, first: StepConfig) -> Self {
        Self { costs, first, step_config: first, ceiling: None, n_clean: 0, n_retried: 0, peak_bytes: 0 }
    }

    /// Keeps under a ceiling that the memory system moves. It declares the activation modes of the first micro-batch size
    /// only: the ceiling moves with the time of readings, and that must not change a result.
    pub fn follow(&mut self, ceiling: Arc<StepCeiling>) {
        let modes = self.modes();
        if let [.., (_, above), (_, highest)] = modes.as_slice() {
            ceiling.declare(modes.len() as u32);
            ceiling.set_raise_bytes(highest - above);
            self.ceiling = Some(ceiling);
        }
    }

    /// The step configurations with the micro-batch size of the first one, the leanest first.
    fn modes(&self) -> Vec<(StepConfig, u64)> {
        let mut step_configs = self.costs.step_configs();
        step_configs.retain(|(step_config, _)| step_config.micro_batch == self.first.micro_batch);
        step_configs.sort_by_key(|(_, peak)| *peak);
        step_configs
    }

    /// Lowers the step configuration to the ceiling if it lies above.
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

    /// Runs every step at one micro-batch size and keeps activations: there is no other step configuration.
    #[must_use]
    pub fn fixed(micro_batch: usize) -> Self {
        let step_config = StepConfig::new(micro_batch, ActivationMode::Keep);
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

    /// The step configuration of the first step, which is also the highest that the runner uses.
    #[must_use]
    pub fn first(&self) -> StepConfig {
        self.first
    }

    /// The step configurations and what they cost.
    #[must_use]
    pub fn costs(&self) -> &StepCosts {
        &self.costs
    }

    /// Number of steps that took more than one attempt.
    #[must_use]
    pub fn n_retried(&self) -> u64 {
        self.n_retried
    }

    /// The most bytes of tensors that any step held beyond those before it.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// Runs one step. Calls `attempt` with a step configuration, and again after each refused allocation. An attempt that
    /// fails must have changed nothing.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) if the leanest step configuration is refused too; the error of `attempt`
    /// if it failed for another reason or a device had no room.
    pub fn step<T, E: From<Error>>(
        &mut self,
        mut attempt: impl FnMut(StepConfig) -> Result<T, E>,
    ) -> Result<T, E> {
        self.keep_under_ceiling();
        let (mut n_refused, mut n_last) = (0, 0);
        loop {
            let tensors_before = ledger::tensor_bytes();
            ledger::restart_tensor_peak();
            let failed = match room::attempt(n_refused, || attempt(self.step_config)) {
                Ok(done) => {
                    let peak = ledger::peak_tensor_bytes().saturating_sub(tensors_before);
                    self.peak_bytes = self.peak_bytes.max(peak);
                    self.after_step(n_refused);
                    return Ok(done);
                }
                Err(failed @ Failed::Refused(..)) => failed,
                Err(failed) => return Err(failed.into_error()),
            };
            // Tensors that a failed backward leaves in the engine's queue would live until the next backward.
            if let Err(unreleased) = activations::release_failed_backward() {
                debug_assert!(false, "{unreleased}");
            }
            budget::collect(u64::MAX);
            if n_refused >= 1 {
                match self.costs.lower(self.step_config) {
                    Some(lower) => self.step_config = lower,
                    None if n_last < LAST_ATTEMPTS => n_last += 1,
                    None => return Err(failed.into_error()),
                }
            }
            n_refused += 1;
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
        // A tenth to spare, so that the higher step configuration is not refused again at once.
        let fits = |(_, peak): &&(StepConfig, u64)| peak + peak / 10 <= room;
        if let Some((higher, _)) = step_configs[top..at].iter().rev().find(fits) {
            self.step_config = *higher;
        }
    }
}
