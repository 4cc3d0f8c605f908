//! What each step configuration costs, and which one to use under a memory limit.
//!
//! ```text
//! step configuration = micro-batch size (8, 16 … 512) × activation mode (keep | recompute | spill)
//! peak bytes = base + bytes per sample × micro-batch size      one straight line for each mode, measured at two sizes
//! ```
//!
//! The choice is a pure function of what was measured. It takes the largest micro-batch size whose activations can be
//! kept. Where no size can keep them, it takes the largest size at which another activation mode fits, and of several
//! modes the fastest.
//!
//! Activation modes give the same bits; micro-batch sizes differ in rounding. Times differ from run to run, so they only
//! decide between modes. Bytes are the same in every run, so they decide the micro-batch size. In this way one seed
//! gives one result.

use crate::step::activation_mode::ActivationMode;

/// The micro-batch sizes to choose from. They are few because libraries prepare kernels for each shape they meet.
pub const MICRO_BATCH_SIZES: [usize; 7] = [8, 16, 32, 64, 128, 256, 512];

/// One way to compute a learner step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepConfig {
    /// Number of transitions that go through the network at once.
    pub micro_batch: usize,
    /// What becomes of the activations.
    pub mode: ActivationMode,
}

impl std::fmt::Display for StepConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} at a time, activations {}", self.micro_batch, self.mode.word())
    }
}

/// The cost of an activation mode as a straight line over the micro-batch size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModeCost {
    /// The activation mode.
    pub mode: ActivationMode,
    /// Peak bytes of tensors in a step, beyond those before it, at a micro-batch size of 0.
    pub base_bytes: f64,
    /// Bytes that each sample adds to the peak.
    pub bytes_per_sample: f64,
    /// Microseconds per sample at the larger of the two measured sizes.
    pub micros_per_sample: f64,
}

impl ModeCost {
    /// The line through the peaks at two micro-batch sizes: pairs of size and bytes. Neither the slope nor the base is
    /// below 0.
    #[must_use]
    pub fn through(mode: ActivationMode, [small, large]: [(usize, u64); 2], micros_per_sample: f64) -> Self {
        let slope = (large.1 as f64 - small.1 as f64) / (large.0 as f64 - small.0 as f64);
        let bytes_per_sample = slope.max(0.0);
        let base_bytes = (small.1 as f64 - bytes_per_sample * small.0 as f64).max(0.0);
        Self { mode, base_bytes, bytes_per_sample, micros_per_sample }
    }

    /// Peak bytes of a step at this micro-batch size.
    #[must_use]
    pub fn peak_bytes(&self, micro_batch: usize) -> u64 {
        (self.base_bytes + self.bytes_per_sample * micro_batch as f64) as u64
    }
}

/// The measurements that the choice rests on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepCosts {
    /// The smallest micro-batch size allowed.
    pub smallest: usize,
    /// The largest micro-batch size allowed: at most the batch size.
    pub largest: usize,
    /// The activation modes allowed and what they cost.
    pub costs: Vec<ModeCost>,
    /// Step configurations whose peak was measured itself; it takes precedence over the line.
    pub measured: Vec<(StepConfig, u64)>,
}

impl StepCosts {
    /// Every step configuration with its peak bytes, the preferred first: larger micro-batch sizes before smaller ones; at
    /// one size `keep` first, then the other modes by their time per sample.
    #[must_use]
    pub fn step_configs(&self) -> Vec<(StepConfig, u64)> {
        let mut costs = self.costs.clone();
        let rank =
            |cost: &ModeCost| if cost.mode == ActivationMode::Keep { -1.0 } else { cost.micros_per_sample };
        costs.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
        let sizes = sizes(self.smallest, self.largest);
        let of_size = |micro_batch: usize| {
            let step_config = |cost: &ModeCost| {
                let step_config = StepConfig { micro_batch, mode: cost.mode };
                (step_config, self.peak_bytes(step_config).unwrap_or(0))
            };
            costs.iter().map(step_config).collect::<Vec<_>>()
        };
        sizes.into_iter().flat_map(of_size).collect()
    }

    /// The step configuration to begin with if `headroom_bytes` are free; `None` if not even the leanest fits.
    #[must_use]
    pub fn choose(&self, headroom_bytes: u64) -> Option<StepConfig> {
        let fits = |(_, peak): &(StepConfig, u64)| *peak <= headroom_bytes;
        self.prefer(self.step_configs().into_iter().filter(fits).map(|(step_config, _)| step_config))
    }

    /// The preferred of the step configurations that fit, which come in the order of [`Self::step_configs`]: the first that
    /// keeps activations, else the first.
    pub fn prefer(&self, fitting: impl IntoIterator<Item = StepConfig>) -> Option<StepConfig> {
        let fitting: Vec<StepConfig> = fitting.into_iter().collect();
        let keeps = |step_config: &&StepConfig| step_config.mode == ActivationMode::Keep;
        fitting.iter().find(keeps).or_else(|| fitting.first()).copied()
    }

    /// The step configuration with the lowest peak, and that peak in bytes.
    #[must_use]
    pub fn leanest(&self) -> Option<(StepConfig, u64)> {
        self.step_configs().into_iter().min_by_key(|(_, peak)| *peak)
    }

    /// Peak bytes of a step configuration; `None` if its activation mode was not measured.
    #[must_use]
    pub fn peak_bytes(&self, step_config: StepConfig) -> Option<u64> {
        if let Some((_, bytes)) = self.measured.iter().find(|(measured, _)| *measured == step_config) {
            return Some(*bytes);
        }
        let cost = self.costs.iter().find(|cost| cost.mode == step_config.mode)?;
        Some(cost.peak_bytes(step_config.micro_batch))
    }

    /// The preferred step configuration of those that need fewer bytes than `from` and have no larger micro-batch size.
    /// Another activation mode at the same size comes first, as it gives the same bits.
    #[must_use]
    pub fn lower(&self, from: StepConfig) -> Option<StepConfig> {
        let peak = self.peak_bytes(from)?;
        let step_configs = self.step_configs();
        let lower = |(step_config, bytes): &&(StepConfig, u64)| {
            *bytes < peak && step_config.micro_batch <= from.micro_batch
        };
        step_configs.iter().find(lower).map(|(step_config, _)| *step_config)
    }
}

/// The allowed [`MICRO_BATCH_SIZES`], the largest first. `largest` itself always comes first, whether or not it is one
/// of them.
#[must_use]
pub fn sizes(smallest: usize, largest: usize) -> Vec<usize> {
    let within = MICRO_BATCH_SIZES.into_iter().rev().filter(|size| *size < largest && *size >= smallest);
    std::iter::once(largest).chain(within).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs() -> StepCosts {
        let cost = |mode, bytes_per_sample, micros_per_sample| ModeCost {
            mode,
            base_bytes: 1000.0,
            bytes_per_sample,
            micros_per_sample,
        };
        StepCosts {
            smallest: 8,
            largest: 128,
            costs: vec![
                cost(ActivationMode::Spill, 20.0, 40.0),
                cost(ActivationMode::Keep, 100.0, 10.0),
                cost(ActivationMode::Recompute, 30.0, 13.0),
            ],
            measured: Vec::new(),
        }
    }

    fn step_config(micro_batch: usize, mode: ActivationMode) -> StepConfig {
        StepConfig { micro_batch, mode }
    }

    #[test]
    fn the_largest_size_that_can_keep_is_chosen() {
        let costs = costs();
        assert_eq!(costs.choose(1_000_000), Some(step_config(128, ActivationMode::Keep)));
        assert_eq!(costs.choose(13_799), Some(step_config(64, ActivationMode::Keep)));
        assert_eq!(costs.choose(1800), Some(step_config(8, ActivationMode::Keep)));
        assert_eq!(costs.choose(1799), Some(step_config(32, ActivationMode::Spill)));
        assert_eq!(costs.choose(1250), Some(step_config(8, ActivationMode::Recompute)));
        assert_eq!(costs.choose(1159), None);
        assert_eq!(costs.leanest(), Some((step_config(8, ActivationMode::Spill), 1160)));
    }

    #[test]
    fn a_measured_peak_takes_precedence_over_the_line() {
        let costs = StepCosts { measured: vec![(step_config(128, ActivationMode::Keep), 12_000)], ..costs() };
        assert_eq!(costs.choose(12_500), Some(step_config(128, ActivationMode::Keep)));
        assert_eq!(costs.peak_bytes(step_config(64, ActivationMode::Keep)), Some(7400));
    }

    #[test]
    fn lowering_ends_at_the_leanest_step_config_and_needs_less_each_time() {
        let costs = costs();
        let (mut at, mut seen) = (step_config(128, ActivationMode::Keep), 1);
        while let Some(next) = costs.lower(at) {
            assert!(costs.peak_bytes(next) < costs.peak_bytes(at));
            if seen == 1 {
                assert_eq!(next, step_config(128, ActivationMode::Recompute), "the same bits first");
            }
            (at, seen) = (next, seen + 1);
        }
        assert_eq!(at, step_config(8, ActivationMode::Spill));
    }

    #[test]
    fn the_largest_size_comes_first_even_if_it_is_not_listed() {
        assert_eq!(sizes(8, 100), [100, 64, 32, 16, 8]);
        assert_eq!(sizes(8, 5), [5]);
        assert_eq!(sizes(128, 128), [128]);
    }

    #[test]
    fn a_line_through_two_peaks_gives_both() {
        let cost = ModeCost::through(ActivationMode::Keep, [(8, 1800), (16, 2600)], 1.0);
        assert_eq!((cost.peak_bytes(8), cost.peak_bytes(64)), (1800, 7400));
    }
}
