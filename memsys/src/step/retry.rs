//! A learner step as a transaction: if an allocation is refused, the step is tried again in fewer bytes.
//!
//! ```text
//! refused ──> collect caches of the place that refused ──> leaner activation modes, at once and for the next steps too
//!         ──> the leanest again, some times        all of these give the same bits
//!         ──> smaller micro-batches, for this step alone ──> … ──> error
//! ```
//!
//! The runner alone owns the step configuration. Activation modes give the same bits, so refusals, requests of the memory
//! system and clean steps may change them ([`mode_choice`](crate::step::mode_choice)). Another micro-batch rounds
//! differently: it is planned, nothing but a refusal at the leanest modes lowers it, and the next step begins with the
//! planned one.
//!
//! This module does not undo an attempt: a refused attempt must have changed nothing. A learner keeps to this because it
//! seeds its generators for each step, adds gradients into a separate buffer, and changes weights and moments only in
//! its last part, where nothing is refused ([`budget::commit`]).

use std::sync::Arc;

use crate::error::Error;
use crate::ledger;
use crate::ledger::budget;
use crate::libtorch::DeviceMemory;
use crate::nn::activations;
use crate::step::activation_mode::ActivationMode;
use crate::step::advice::StepAdvice;
use crate::step::cost::{StepConfig, StepCosts};
use crate::step::mode_choice::{ModeChoice, Place, PlaceBytes};
use crate::step::room;
use crate::step::room::SAME_ATTEMPTS;

/// Number of further attempts at the leanest step configuration before the step fails.
const LAST_ATTEMPTS: u32 = 2;

/// The run's GPU, and what step configurations cost there.
#[derive(Debug, Clone)]
struct OnDevice {
    memory: Arc<dyn DeviceMemory>,
    costs: StepCosts,
}

/// Runs learner steps at a step configuration that fits under the memory limit.
#[derive(Debug)]
pub struct StepRunner {
    costs: StepCosts,
    on_device: Option<OnDevice>,
    first: StepConfig,
    choice: ModeChoice,
    advice: Arc<StepAdvice>,
    /// Whether the latest step had room only in a smaller micro-batch.
    has_fallen: bool,
    n_retried: u64,
}

impl StepRunner {
    /// Begins at `first`, a step configuration of `costs`.
    #[must_use]
    pub fn new(costs: StepCosts, first: StepConfig) -> Self {
        let choice = ModeChoice::new(choices(&costs, None, first));
        let advice = Arc::default();
        Self { costs, on_device: None, first, choice, advice, has_fallen: false, n_retried: 0 }
    }

    /// States that tensors are on a device, where the step configurations cost `costs`, in the device's bytes.
    #[must_use]
    pub fn on_device(mut self, memory: Arc<dyn DeviceMemory>, costs: StepCosts) -> Self {
        self.choice = ModeChoice::new(choices(&self.costs, Some(&costs), self.first));
        self.on_device = Some(OnDevice { memory, costs });
        self
    }

    /// Listens to the memory system.
    pub fn follow(&mut self, advice: Arc<StepAdvice>) {
        self.advice = advice;
        self.advice.set_can_use_fewer_bytes(self.choice.has_leaner(Place::Host));
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

    /// The step configuration with which the next step begins.
    #[must_use]
    pub fn step_config(&self) -> StepConfig {
        self.choice.step_config()
    }

    /// The step configuration of the first step, which is also the highest that the runner uses.
    #[must_use]
    pub fn first(&self) -> StepConfig {
        self.first
    }

    /// Number of steps that took more than one attempt.
    #[must_use]
    pub fn n_retried(&self) -> u64 {
        self.n_retried
    }

    /// Runs one step. Calls `attempt` with a step configuration, and again after each refused allocation. An attempt that
    /// fails must have changed nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::RefusedByDevice`] if the leanest step configuration is refused too; the error of
    /// `attempt` if it failed for another reason.
    pub fn step<T, E: From<Error>>(
        &mut self,
        mut attempt: impl FnMut(StepConfig) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.advice.take_request() && self.choice.lower(Place::Host, 1) {
            self.choice.end_refused_step();
        }
        let device = self.on_device.as_ref().map(|on_device| Arc::clone(&on_device.memory));
        let device = device.as_deref();
        let mut step_config = self.choice.step_config();
        let (mut n_refused, mut n_repeated, mut n_last) = (0, 0, 0);
        let outcome = loop {
            ledger::restart_tensor_peak();
            if let Some(device) = device {
                device.restart_peaks();
            }
            let denied_before = budget::n_denied();
            let failed = match room::attempt(device, n_refused, || attempt(step_config)) {
                Ok(done) => break Ok(done),
                Err(failed) => failed,
            };
            let Some((place, missing_bytes)) = failed.missing() else { break Err(failed.into_error()) };
            self.advice.count_answered(budget::n_denied() - denied_before);
            // Tensors that a failed backward leaves in the engine's queue would live until the next backward.
            if let Err(unreleased) = activations::release_failed_backward() {
                debug_assert!(false, "{unreleased}");
            }
            room::collect(place, device);
            n_refused += 1;
            match self.leaner(step_config, place, missing_bytes, n_repeated) {
                Some(leaner) => {
                    n_repeated = if leaner == step_config { n_repeated + 1 } else { 0 };
                    step_config = leaner;
                }
                None if n_last < LAST_ATTEMPTS => n_last += 1,
                None => break Err(failed.into_error()),
            }
        };
        if n_refused > 0 {
            self.n_retried += 1;
            self.has_fallen = step_config.micro_batch != self.first.micro_batch;
            self.choice.end_refused_step();
        } else if outcome.is_ok() {
            self.has_fallen = false;
            self.choice.end_clean_step(free_at_peak(device));
        }
        self.advice.set_can_use_fewer_bytes(self.choice.has_leaner(Place::Host));
        outcome
    }

    /// The step configuration of the next attempt, after `from` was tried again `n_repeated` times; `None` if there is none
    /// of fewer bytes.
    fn leaner(
        &mut self,
        from: StepConfig,
        place: Place,
        missing_bytes: u64,
        n_repeated: u32,
    ) -> Option<StepConfig> {
        if from.micro_batch == self.first.micro_batch {
            if self.choice.lower(place, missing_bytes) {
                return Some(self.choice.step_config());
            }
            // Other bits are the last resort. Where the step before needed it too, waiting would slow every step down.
            if n_repeated + 1 < if self.has_fallen { 1 } else { SAME_ATTEMPTS } {
                return Some(from);
            }
        }
        let costs = match (place, &self.on_device) {
            (Place::Device, Some(on_device)) => &on_device.costs,
            _ => &self.costs,
        };
        // At least an eighth fewer, so that a long list ends after a few attempts.
        let least_bytes = costs.peak_bytes(from)? / 8;
        costs.lower(from, missing_bytes.max(least_bytes))
    }
}

/// The step configurations with the micro-batch size of `first` from `first` on, with their bytes in both places. Where
/// there is a device, they are those that differ in its bytes.
fn choices(host: &StepCosts, device: Option<&StepCosts>, first: StepConfig) -> Vec<(StepConfig, PlaceBytes)> {
    let bytes = |costs: &StepCosts, step_config| costs.peak_bytes(step_config).unwrap_or(0);
    let with_bytes = |step_config: StepConfig| {
        let device = device.map_or(0, |device| bytes(device, step_config));
        (step_config, PlaceBytes { host: bytes(host, step_config), device })
    };
    let all = device.unwrap_or(host).step_configs().into_iter().map(|(step_config, _)| step_config);
    let of_size: Vec<_> = all.filter(|step_config| step_config.micro_batch == first.micro_batch).collect();
    let slower = of_size.iter().position(|step_config| *step_config == first).map_or(0, |at| at + 1);
    std::iter::once(first).chain(of_size[slower..].iter().copied()).map(with_bytes).collect()
}

/// The bytes that were free when the step that just ended held the most.
fn free_at_peak(device: Option<&dyn DeviceMemory>) -> PlaceBytes {
    let freed_since = ledger::peak_tensor_bytes().saturating_sub(ledger::tensor_bytes());
    let free_now = budget::headroom_bytes().saturating_add(budget::collectable_bytes());
    let on_device = |device: &dyn DeviceMemory| {
        let peak_bytes = device.statistics().map_or(u64::MAX, |statistics| statistics.peak_allocated_bytes);
        device.limit_bytes().saturating_sub(peak_bytes)
    };
    PlaceBytes { host: free_now.saturating_sub(freed_since), device: device.map_or(u64::MAX, on_device) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::cost::ModeCost;
    use crate::step::fake_device::FakeDevice;
    use crate::step::stage_modes::StageModes;

    /// Costs of micro-batches of 8 to 64: `bytes_per_sample` for keep, recompute and spill.
    fn costs(bytes_per_sample: [f64; 3]) -> StepCosts {
        let modes = [ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill];
        let cost = |(index, mode)| ModeCost {
            mode,
            base_bytes: 0.0,
            bytes_per_sample: bytes_per_sample[index],
            micros_per_sample: index as f64,
        };
        let costs = modes.into_iter().enumerate().map(cost).collect();
        StepCosts { smallest: 8, largest: 64, costs, ..StepCosts::default() }
    }

    const ON_DEVICE: [f64; 3] = [100.0, 40.0, 30.0];

    /// A runner whose device holds `limit_bytes`. The bytes of the process are the same in every mode.
    fn runner(limit_bytes: u64) -> (StepRunner, Arc<FakeDevice>) {
        let device = Arc::new(FakeDevice::new(limit_bytes));
        let first = StepConfig::new(64, ActivationMode::Keep);
        let runner = StepRunner::new(costs([10.0; 3]), first);
        (runner.on_device(Arc::clone(&device) as _, costs(ON_DEVICE)), device)
    }

    /// Runs a step that takes the planned bytes of the device. Returns the step configurations of its attempts.
    fn step(runner: &mut StepRunner, device: &FakeDevice) -> Result<Vec<StepConfig>, Error> {
        let mut attempts = Vec::new();
        runner.step(|step_config| {
            attempts.push(step_config);
            device.visit(costs(ON_DEVICE).peak_bytes(step_config).unwrap())
        })?;
        Ok(attempts)
    }

    #[test]
    fn a_device_without_room_lowers_the_mode_and_not_the_micro_batch() {
        let (mut runner, device) = runner(3000);
        let attempts = step(&mut runner, &device).unwrap();
        let modes: Vec<_> = attempts.iter().map(|step_config| step_config.modes.uniform().unwrap()).collect();
        assert_eq!(modes, [ActivationMode::Keep, ActivationMode::Recompute]);
        assert!(attempts.iter().all(|step_config| step_config.micro_batch == 64), "{attempts:?}");
        assert_eq!(step(&mut runner, &device).unwrap(), [attempts[1]], "the next step begins there");
    }

    #[test]
    fn a_smaller_micro_batch_is_for_one_step_alone() {
        let (mut runner, device) = runner(6400);
        device.allocate(5000).unwrap();
        let attempts = step(&mut runner, &device).unwrap();
        let last = attempts.last().unwrap();
        assert!(last.micro_batch < 64, "{attempts:?}");
        device.free(5000);
        let attempts = step(&mut runner, &device).unwrap();
        assert_eq!(attempts, [StepConfig::new(64, ActivationMode::Spill)]);
    }

    #[test]
    fn the_first_step_config_comes_back_once_its_bytes_are_free_on_the_device() {
        let (mut runner, device) = runner(6400);
        device.allocate(3000).unwrap();
        step(&mut runner, &device).unwrap();
        assert_eq!(runner.step_config().modes, StageModes::all(ActivationMode::Recompute));
        for _ in 0..1000 {
            step(&mut runner, &device).unwrap();
        }
        assert_eq!(
            runner.step_config().modes,
            StageModes::all(ActivationMode::Recompute),
            "its bytes are taken"
        );
        device.free(3000);
        for _ in 0..400 {
            step(&mut runner, &device).unwrap();
        }
        assert_eq!(runner.step_config(), runner.first());
        assert_eq!(runner.n_retried(), 1);
    }

    #[test]
    fn a_step_that_never_has_room_ends_with_the_devices_refusal() {
        let (mut runner, device) = runner(100);
        let error = step(&mut runner, &device).unwrap_err();
        assert!(
            matches!(error, Error::RefusedByDevice { device: "fake:1", limit_bytes: 100, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_request_of_the_memory_system_changes_the_mode_from_the_next_step_on() {
        let device = FakeDevice::new(u64::MAX);
        let first = StepConfig::new(64, ActivationMode::Keep);
        let mut runner = StepRunner::new(costs(ON_DEVICE), first);
        let advice: Arc<StepAdvice> = Arc::default();
        assert!(!advice.can_use_fewer_bytes(), "nobody listens");
        runner.follow(Arc::clone(&advice));
        for mode in [ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill] {
            assert!(advice.can_use_fewer_bytes());
            assert_eq!(step(&mut runner, &device).unwrap(), [StepConfig::new(64, mode)]);
            advice.ask_for_fewer_bytes();
        }
        assert!(!advice.can_use_fewer_bytes(), "nothing is leaner");
        assert_eq!(step(&mut runner, &device).unwrap().len(), 1);
    }
}
