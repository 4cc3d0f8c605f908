//! Which activation modes the next learner step uses: lowered at once, raised after clean steps, with hysteresis.
//!
//! ```text
//! refused, or the memory system asks ──> a leaner choice at once
//! clean for `patience` steps, and at their peaks the bytes that a faster choice needs more were free ──> that choice
//! refused within `patience` steps after that ──> the patience doubles; later ──> it is the first again
//! ```
//!
//! All choices have the planned micro-batch and give the same bits, so refusals and readings may decide here. A step's
//! free bytes are measured at its peak, not against a level: a run that is planned to fill its memory limit has room for
//! the step configuration that it was planned with, however near the limit it stays. This is a plain state machine.

use crate::step::cost::StepConfig;

/// Clean steps after which a faster choice is tried at first.
const FIRST_PATIENCE_STEPS: u64 = 200;
/// The most clean steps after which a faster choice is tried.
const MOST_PATIENCE_STEPS: u64 = 64 * FIRST_PATIENCE_STEPS;

/// Where bytes are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The memory of the process.
    Host,
    /// The memory of the run's GPU.
    Device,
}

/// Bytes in each place. A run without a GPU needs 0 of its bytes, and all are free there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlaceBytes {
    /// Bytes of the process.
    pub host: u64,
    /// Bytes of the GPU.
    pub device: u64,
}

impl PlaceBytes {
    /// More bytes than any step needs.
    pub(crate) const MOST: Self = Self { host: u64::MAX, device: u64::MAX };

    /// The bytes in one place.
    #[must_use]
    pub fn of(self, place: Place) -> u64 {
        match place {
            Place::Host => self.host,
            Place::Device => self.device,
        }
    }

    fn min(self, other: Self) -> Self {
        Self { host: self.host.min(other.host), device: self.device.min(other.device) }
    }
}

/// The choices of one micro-batch size and the one in use.
#[derive(Debug)]
pub(crate) struct ModeChoice {
    /// With their peak bytes, the fastest first. Never empty.
    choices: Vec<(StepConfig, PlaceBytes)>,
    at: usize,
    /// Refusals since the step began that lowered the choice.
    n_lowered: u32,
    n_clean: u64,
    patience_steps: u64,
    /// Clean steps since the latest raise; `None` if the choice was lowered since.
    n_since_raise: Option<u64>,
    /// The fewest bytes that were free at the peak of a clean step since the latest change.
    free: PlaceBytes,
}

impl ModeChoice {
    /// Begins with the fastest of `choices`, which holds at least one.
    pub(crate) fn new(choices: Vec<(StepConfig, PlaceBytes)>) -> Self {
        debug_assert!(!choices.is_empty(), "a learner step has a step configuration");
        Self {
            choices,
            at: 0,
            n_lowered: 0,
            n_clean: 0,
            patience_steps: FIRST_PATIENCE_STEPS,
            n_since_raise: None,
            free: PlaceBytes::MOST,
        }
    }

    /// The step configuration in use.
    pub(crate) fn step_config(&self) -> StepConfig {
        self.choices[self.at].0
    }

    /// Whether a choice needs fewer bytes in `place`.
    pub(crate) fn has_leaner(&self, place: Place) -> bool {
        let now = self.choices[self.at].1.of(place);
        self.choices[self.at + 1..].iter().any(|(_, bytes)| bytes.of(place) < now)
    }

    /// Changes to a choice that needs fewer bytes in `place`, by at least `missing_bytes` if there is one. The second time
    /// within a step and later, it skips half of the leaner choices. Returns `false` and stays if there is no leaner one.
    pub(crate) fn lower(&mut self, place: Place, missing_bytes: u64) -> bool {
        let bytes = |at: usize| self.choices[at].1.of(place);
        let now = bytes(self.at);
        let leaner = || (self.at + 1..self.choices.len()).filter(|at| bytes(*at) < now);
        let Some(leanest) = leaner().min_by_key(|at| bytes(*at)) else { return false };
        let enough = leaner().find(|at| bytes(*at) <= now.saturating_sub(missing_bytes)).unwrap_or(leanest);
        let half = if self.n_lowered > 0 { leaner().nth(leaner().count() / 2) } else { None };
        self.at = enough.max(half.unwrap_or(0));
        self.n_lowered += 1;
        match self.n_since_raise.take() {
            Some(n_clean) if n_clean < self.patience_steps => {
                self.patience_steps = (2 * self.patience_steps).min(MOST_PATIENCE_STEPS);
            }
            Some(_) => self.patience_steps = FIRST_PATIENCE_STEPS,
            None => {}
        }
        self.begin_anew();
        true
    }

    /// Notes the end of a step in which something was refused.
    pub(crate) fn end_refused_step(&mut self) {
        self.n_lowered = 0;
        self.begin_anew();
    }

    /// Notes the end of a step in which nothing was refused, with the bytes that were free at its peak. Changes to a faster
    /// choice if it is time and the bytes that it needs more were free.
    pub(crate) fn end_clean_step(&mut self, free: PlaceBytes) {
        self.n_lowered = 0;
        self.n_clean += 1;
        self.free = self.free.min(free);
        self.n_since_raise = self.n_since_raise.map(|n| n + 1);
        if self.n_clean < self.patience_steps {
            return;
        }
        let now = self.choices[self.at].1;
        let fits = |(_, needed): &(StepConfig, PlaceBytes)| {
            [Place::Host, Place::Device]
                .iter()
                .all(|place| needed.of(*place).saturating_sub(now.of(*place)) <= self.free.of(*place))
        };
        if let Some(faster) = self.choices[..self.at].iter().position(fits) {
            self.at = faster;
            self.n_since_raise = Some(0);
        }
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        self.n_clean = 0;
        self.free = PlaceBytes::MOST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::activation_mode::ActivationMode;

    const MIB: u64 = 1 << 20;

    /// Keep with 100 MiB, recompute with 60, spill with 40; on the device 1000, 500 and 500.
    fn choice() -> ModeChoice {
        let one = |mode, host: u64, device: u64| {
            let step_config = StepConfig::new(64, mode);
            (step_config, PlaceBytes { host: host * MIB, device: device * MIB })
        };
        ModeChoice::new(vec![
            one(ActivationMode::Keep, 100, 1000),
            one(ActivationMode::Recompute, 60, 500),
            one(ActivationMode::Spill, 40, 500),
        ])
    }

    fn mode(choice: &ModeChoice) -> ActivationMode {
        choice.step_config().modes.uniform().unwrap()
    }

    /// Ends `n` clean steps at whose peak `free_mib` of the host were free.
    fn clean(choice: &mut ModeChoice, n: u64, free_mib: u64) {
        let free = PlaceBytes { host: free_mib * MIB, ..PlaceBytes::MOST };
        (0..n).for_each(|_| choice.end_clean_step(free));
    }

    #[test]
    fn the_first_choice_comes_back_as_soon_as_its_planned_bytes_fit_however_near_the_limit_is() {
        let mut choice = choice();
        assert!(choice.lower(Place::Host, 1));
        choice.end_refused_step();
        assert_eq!(mode(&choice), ActivationMode::Recompute);
        // Keep needs 40 MiB more, and 39 are free.
        clean(&mut choice, 1000, 39);
        assert_eq!(mode(&choice), ActivationMode::Recompute);
        clean(&mut choice, FIRST_PATIENCE_STEPS - 1, 40);
        assert_eq!(mode(&choice), ActivationMode::Recompute);
        clean(&mut choice, 1, 40);
        assert_eq!(mode(&choice), ActivationMode::Keep);
    }

    #[test]
    fn one_step_without_room_begins_the_wait_anew() {
        let mut choice = choice();
        choice.lower(Place::Host, 1);
        clean(&mut choice, 100, 50);
        clean(&mut choice, 1, 5);
        clean(&mut choice, 100, 50);
        assert_eq!(mode(&choice), ActivationMode::Recompute);
        clean(&mut choice, 199, 50);
        assert_eq!(mode(&choice), ActivationMode::Keep);
    }

    #[test]
    fn the_leaner_choice_is_one_that_frees_what_is_missing() {
        let mut choice = choice();
        assert!(choice.lower(Place::Host, 50 * MIB));
        assert_eq!(mode(&choice), ActivationMode::Spill);
        assert!(!choice.lower(Place::Host, 1), "nothing is leaner");
    }

    #[test]
    fn a_refusal_of_the_device_is_answered_in_the_bytes_of_the_device() {
        let mut choice = choice();
        assert!(choice.lower(Place::Device, 1));
        assert_eq!(mode(&choice), ActivationMode::Recompute);
        assert!(!choice.lower(Place::Device, 1), "spilling frees nothing on this device");
        assert!(choice.lower(Place::Host, 1));
        assert_eq!(mode(&choice), ActivationMode::Spill);
    }

    #[test]
    fn a_raise_that_is_soon_refused_doubles_the_patience_up_to_a_bound() {
        let mut choice = choice();
        let mut waits = Vec::new();
        for _ in 0..9 {
            choice.lower(Place::Host, 1);
            choice.end_refused_step();
            let mut wait = 0;
            while mode(&choice) == ActivationMode::Recompute {
                clean(&mut choice, 1, 50);
                wait += 1;
            }
            waits.push(wait);
        }
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12_800, 12_800, 12_800]);
        // The raise held: the next refusal is not blamed on it.
        clean(&mut choice, MOST_PATIENCE_STEPS, 50);
        choice.lower(Place::Host, 1);
        clean(&mut choice, FIRST_PATIENCE_STEPS, 50);
        assert_eq!(mode(&choice), ActivationMode::Keep);
    }

    #[test]
    fn a_long_list_of_choices_is_left_after_a_few_refusals_of_one_step() {
        let one = |index: u64| {
            let step_config = StepConfig::new(index as usize, ActivationMode::Keep);
            (step_config, PlaceBytes { host: 1000 - index, device: 0 })
        };
        let mut choice = ModeChoice::new((0..60).map(one).collect());
        let mut seen = Vec::new();
        while choice.lower(Place::Host, 1) {
            seen.push(choice.step_config().micro_batch);
        }
        assert_eq!(seen, [1, 31, 46, 53, 57, 59]);
    }
}
