//! Rungs: how a learner step may be computed in fewer bytes, and which way fits.
//!
//! ```text
//! step configuration = micro-batch size (8, 16 … 512) × what becomes of activations (keep | recompute | spill)
//! peak of a step configuration = base + bytes a sample × micro-batch            a line for each activation mode, measured at two sizes
//! ```
//!
//! The choice is a pure function of what was measured. It prefers the largest micro-batch whose activations can be
//! kept; where not even the smallest can keep them, the largest at which another activation mode fits, and of several activation modes
//! the fastest. Policies give the same bits, micro-batches the same result but for rounding: therefore clocks decide
//! between activation modes alone, and bytes, which are the same in every run, decide the micro-batch. One seed stays one
//! result.

use crate::step::activation_mode::ActivationMode;

/// The micro-batches of the ladder: shapes come from few sizes, so that kernels prepared for a shape are not prepared
/// without end.
pub const LADDER: [usize; 7] = [8, 16, 32, 64, 128, 256, 512];

/// One way to compute a learner step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepConfig {
    /// Transitions that go through the network at once.
    pub micro_batch: usize,
    /// What becomes of their activations.
    pub mode: ActivationMode,
}

impl std::fmt::Display for StepConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} at a time, activations {}", self.micro_batch, self.mode.word())
    }
}

/// What an activation mode costs, as a straight line over the micro-batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModeCost {
    /// The activation mode.
    pub mode: ActivationMode,
    /// Bytes of tensors at the peak of a step beyond those before it, at a micro-batch of none.
    pub base_bytes: f64,
    /// Bytes that each sample of a micro-batch adds.
    pub bytes_per_sample: f64,
    /// Microseconds a sample at the larger of the sizes measured.
    pub micros_per_sample: f64,
}

impl ModeCost {
    /// The line through the peaks at two micro-batches.
    #[must_use]
    pub fn through(mode: ActivationMode, [small, large]: [(usize, u64); 2], micros_per_sample: f64) -> Self {
        let slope = (large.1 as f64 - small.1 as f64) / (large.0 as f64 - small.0 as f64);
        let bytes_per_sample = slope.max(0.0);
        let base_bytes = (small.1 as f64 - bytes_per_sample * small.0 as f64).max(0.0);
        Self { mode, base_bytes, bytes_per_sample, micros_per_sample }
    }

    /// Bytes at the peak of a step at a micro-batch.
    #[must_use]
    pub fn peak_bytes(&self, micro_batch: usize) -> u64 {
        (self.base_bytes + self.bytes_per_sample * micro_batch as f64) as u64
    }
}

/// What the choice rests on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepCosts {
    /// The smallest micro-batch allowed.
    pub smallest: usize,
    /// The largest micro-batch allowed: the batch itself, or less.
    pub largest: usize,
    /// The activation modes allowed and what they cost.
    pub costs: Vec<ModeCost>,
    /// Rungs whose own peak was measured: it stands before the line through other sizes.
    pub measured: Vec<(StepConfig, u64)>,
}

impl StepCosts {
    /// Every step configuration with its peak, the preferred first: larger micro-batches before smaller, of one size the faster
    /// activation mode before the slower, `keep` before both.
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

    /// The step configuration to begin with where `headroom_bytes` are free, or none where not even the leanest fits.
    #[must_use]
    pub fn choose(&self, headroom_bytes: u64) -> Option<StepConfig> {
        let step_configs = self.step_configs();
        let fits = |(_, peak): &&(StepConfig, u64)| *peak <= headroom_bytes;
        let keeps = |(step_config, _): &&(StepConfig, u64)| step_config.mode == ActivationMode::Keep;
        let chosen = step_configs.iter().filter(fits).find(keeps).or_else(|| step_configs.iter().find(fits));
        chosen.map(|(step_config, _)| *step_config)
    }

    /// The leanest step configuration and its peak.
    #[must_use]
    pub fn leanest(&self) -> Option<(StepConfig, u64)> {
        self.step_configs().into_iter().min_by_key(|(_, peak)| *peak)
    }

    /// The peak of a step configuration.
    #[must_use]
    pub fn peak_bytes(&self, step_config: StepConfig) -> Option<u64> {
        if let Some((_, bytes)) = self.measured.iter().find(|(measured, _)| *measured == step_config) {
            return Some(*bytes);
        }
        let cost = self.costs.iter().find(|cost| cost.mode == step_config.mode)?;
        Some(cost.peak_bytes(step_config.micro_batch))
    }

    /// The next step configuration down: the preferred one of those that need less than `from`. Another activation mode at the same size
    /// comes first, as it gives the same bits.
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

/// Sizes of the ladder from the largest allowed to the smallest. A largest size that is none of the ladder's stands at
/// its top.
#[must_use]
pub fn sizes(smallest: usize, largest: usize) -> Vec<usize> {
    let within = LADDER.into_iter().rev().filter(|size| *size < largest && *size >= smallest);
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
    fn what_was_measured_stands_before_the_line() {
        let costs = StepCosts { measured: vec![(step_config(128, ActivationMode::Keep), 12_000)], ..costs() };
        assert_eq!(costs.choose(12_500), Some(step_config(128, ActivationMode::Keep)));
        assert_eq!(costs.peak_bytes(step_config(64, ActivationMode::Keep)), Some(7400));
    }

    #[test]
    fn every_way_down_ends_at_the_leanest_step_config_and_needs_less_at_each_step() {
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
    fn a_batch_that_is_no_power_of_two_stands_at_the_top() {
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
