//! What each step configuration costs, and which one to use under a memory limit.
//!
//! ```text
//! step configuration = micro-batch size (8, 16 … 512) × an activation mode for each stage (keep | recompute | spill)
//! peak bytes = base + bytes per sample × micro-batch size      one straight line for each mode, measured at two sizes
//! ```
//!
//! The choice is a pure function of what was measured. It takes the largest micro-batch size whose activations can be
//! kept. Where no size can keep them all, it takes the smallest size and the fastest modes that fit there: a smaller
//! micro-batch leaves fewer activations to recompute or to spill.
//!
//! Activation modes give the same bits; micro-batch sizes differ in rounding. Times differ from run to run, so they only
//! decide between modes. Bytes are the same in every run, so they decide the micro-batch size. In this way one seed
//! gives one result.
//!
//! The order of preference does not depend on the limit. So a higher limit never gives a step configuration of fewer bytes
//! or one that is slower by the estimate.

use crate::step::activation_mode::ActivationMode;
use crate::step::stage_cost::{Combination, StageCosts};
use crate::step::stage_modes::StageModes;

/// The micro-batch sizes to choose from. They are few because libraries prepare kernels for each shape they meet.
pub const MICRO_BATCH_SIZES: [usize; 7] = [8, 16, 32, 64, 128, 256, 512];

/// One way to compute a learner step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepConfig {
    /// Number of transitions that go through the network at once.
    pub micro_batch: usize,
    /// What becomes of the activations of each stage.
    pub modes: StageModes,
}

impl StepConfig {
    /// A micro-batch size with activation modes.
    #[must_use]
    pub fn new(micro_batch: usize, modes: impl Into<StageModes>) -> Self {
        Self { micro_batch, modes: modes.into() }
    }

    /// Whether every stage keeps its activations.
    #[must_use]
    pub fn keeps(self) -> bool {
        self.modes.uniform() == Some(ActivationMode::Keep)
    }
}

impl std::fmt::Display for StepConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} at a time, activations {}", self.micro_batch, self.modes)
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
    /// Step configurations whose peak was measured itself. It takes precedence over the line, and over the prediction for
    /// a combination where it is higher.
    pub measured: Vec<(StepConfig, u64)>,
    /// Pairs of micro-batch size and combination, if the stages were measured.
    pub combinations: Vec<(usize, Combination)>,
}

/// A step configuration in the order of preference.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    step_config: StepConfig,
    peak_bytes: u64,
    micros_per_sample: f64,
}

impl StepCosts {
    /// Adds the combinations of modes for each micro-batch size, and takes the times of all modes from the stages, so that
    /// they compare. `other_bytes` are held in a step beside what the stages were measured with.
    ///
    /// Stages are measured in bytes of tensors. Where the line of `keep` has more for the same passes, such as whole pages,
    /// the combinations have more in proportion.
    #[must_use]
    pub fn with_stages(mut self, stages: &StageCosts, other_bytes: u64) -> Self {
        let keep = self.costs.iter().find(|cost| cost.mode == ActivationMode::Keep).copied();
        let keep_micros = keep.map_or(0.0, |keep| keep.micros_per_sample);
        for cost in &mut self.costs {
            if let Some(extra) = stages.extra_micros_per_sample(cost.mode) {
                cost.micros_per_sample = keep_micros + extra;
            }
        }
        for size in sizes(self.smallest, self.largest) {
            let counted = keep.map_or(0, |keep| keep.peak_bytes(size).saturating_sub(other_bytes));
            let proportion = (counted as f64 / stages.kept_bytes(size).max(1) as f64).max(1.0);
            self.combinations.extend(stages.combinations(size).into_iter().map(|combination| {
                let peak_bytes = (combination.peak_bytes as f64 * proportion) as u64 + other_bytes;
                (size, Combination { peak_bytes, ..combination })
            }));
        }
        self
    }

    /// The modes for one micro-batch size, the preferred first: `keep`, then the others by time. One that needs no fewer
    /// bytes than a faster one is left out.
    fn candidates(&self, micro_batch: usize) -> Vec<Candidate> {
        let keep = self.costs.iter().find(|cost| cost.mode == ActivationMode::Keep);
        let least_micros = keep.map_or(0.0, |keep| keep.micros_per_sample);
        let uniform = self.costs.iter().map(|cost| {
            let is_keep = cost.mode == ActivationMode::Keep;
            let micros = if is_keep { least_micros } else { cost.micros_per_sample.max(least_micros) };
            (StageModes::all(cost.mode), micros)
        });
        let combined = self.combinations.iter().filter(|(size, _)| *size == micro_batch);
        let combined = combined
            .map(|(_, combination)| (combination.modes, least_micros + combination.extra_micros_per_sample));
        let mut candidates: Vec<Candidate> = uniform
            .chain(combined)
            .map(|(modes, micros_per_sample)| {
                let step_config = StepConfig { micro_batch, modes };
                let peak_bytes = self.peak_bytes(step_config).unwrap_or(0);
                Candidate { step_config, peak_bytes, micros_per_sample }
            })
            .collect();
        candidates.sort_by(|a, b| {
            let by_time = a.micros_per_sample.total_cmp(&b.micros_per_sample);
            let keep_first = b.step_config.keeps().cmp(&a.step_config.keeps());
            keep_first.then(by_time).then(a.peak_bytes.cmp(&b.peak_bytes))
        });
        let mut fewest_bytes = u64::MAX;
        candidates.retain(|candidate| {
            let is_leaner = candidate.peak_bytes < fewest_bytes;
            fewest_bytes = fewest_bytes.min(candidate.peak_bytes);
            is_leaner
        });
        candidates
    }

    /// Every step configuration with its peak bytes, the preferred first: larger micro-batch sizes before smaller ones; at
    /// one size `keep` first, then the other modes by their time per sample. Each needs fewer bytes than the one before it
    /// at the same size.
    #[must_use]
    pub fn step_configs(&self) -> Vec<(StepConfig, u64)> {
        let sizes = sizes(self.smallest, self.largest).into_iter();
        sizes
            .flat_map(|size| self.candidates(size))
            .map(|candidate| (candidate.step_config, candidate.peak_bytes))
            .collect()
    }

    /// The step configuration to begin with if `headroom_bytes` are free; `None` if not even the leanest fits.
    #[must_use]
    pub fn choose(&self, headroom_bytes: u64) -> Option<StepConfig> {
        self.choose_where(|_, peak_bytes| peak_bytes <= headroom_bytes)
    }

    /// The step configuration to begin with where `fits(step configuration, peak bytes)` tells which have room; `None` if
    /// none has.
    pub fn choose_where(&self, fits: impl Fn(StepConfig, u64) -> bool) -> Option<StepConfig> {
        let sizes = sizes(self.smallest, self.largest);
        let smallest = *sizes.last()?;
        let fits = |candidate: &Candidate| fits(candidate.step_config, candidate.peak_bytes);
        let preferred = sizes.into_iter().filter_map(|size| self.candidates(size).into_iter().next());
        let chosen = preferred.into_iter().find(fits);
        let chosen = chosen.or_else(|| self.candidates(smallest).into_iter().find(fits));
        chosen.map(|candidate| candidate.step_config)
    }

    /// Whether a step configuration with this micro-batch size was measured itself. All activation modes have the same
    /// shapes at one size.
    #[must_use]
    pub fn is_size_measured(&self, micro_batch: usize) -> bool {
        self.measured.iter().any(|(measured, _)| measured.micro_batch == micro_batch)
    }

    /// Whether the peak of a step configuration was measured itself.
    #[must_use]
    pub fn is_measured(&self, step_config: StepConfig) -> bool {
        self.measured.iter().any(|(measured, _)| *measured == step_config)
    }

    /// The step configuration with the lowest peak, and that peak in bytes.
    #[must_use]
    pub fn leanest(&self) -> Option<(StepConfig, u64)> {
        self.step_configs().into_iter().min_by_key(|(_, peak)| *peak)
    }

    /// Peak bytes of a step configuration; `None` if its activation modes were not measured.
    #[must_use]
    pub fn peak_bytes(&self, step_config: StepConfig) -> Option<u64> {
        let measured = self.measured.iter().find(|(measured, _)| *measured == step_config);
        let measured = measured.map(|(_, bytes)| *bytes);
        let StepConfig { micro_batch, modes } = step_config;
        if let Some(mode) = modes.uniform() {
            let cost = self.costs.iter().find(|cost| cost.mode == mode);
            return measured.or_else(|| Some(cost?.peak_bytes(micro_batch)));
        }
        // The higher of the two, so that the order of bytes does not depend on what was measured first.
        let mut combinations = self.combinations.iter();
        let predicted = combinations.find(|(size, of)| *size == micro_batch && of.modes == modes);
        predicted.map(|(_, predicted)| predicted.peak_bytes).max(measured)
    }

    /// Microseconds per sample by the measurements, at any micro-batch size; `None` if the activation modes were not
    /// measured.
    #[must_use]
    pub fn micros_per_sample(&self, step_config: StepConfig) -> Option<f64> {
        let candidates = self.candidates(step_config.micro_batch);
        let found = candidates.into_iter().find(|candidate| candidate.step_config == step_config);
        found.map(|candidate| candidate.micros_per_sample)
    }

    /// The preferred step configuration of those that need at least `fewer_bytes` (1 or more) less than `from` and have no
    /// larger micro-batch size, or else the leanest if it needs less. Another activation mode at the same size comes first,
    /// as it gives the same bits.
    #[must_use]
    pub fn lower(&self, from: StepConfig, fewer_bytes: u64) -> Option<StepConfig> {
        let peak = self.peak_bytes(from)?;
        let step_configs = self.step_configs();
        let lower = |(step_config, bytes): &&(StepConfig, u64)| {
            bytes.saturating_add(fewer_bytes) <= peak && step_config.micro_batch <= from.micro_batch
        };
        let lower = step_configs.iter().find(lower).map(|(step_config, _)| *step_config);
        lower.or_else(|| self.leanest().filter(|(_, bytes)| *bytes < peak).map(|(leanest, _)| leanest))
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
            ..StepCosts::default()
        }
    }

    fn step_config(micro_batch: usize, mode: ActivationMode) -> StepConfig {
        StepConfig::new(micro_batch, mode)
    }

    #[test]
    fn the_largest_size_that_can_keep_is_chosen() {
        let costs = costs();
        assert_eq!(costs.choose(1_000_000), Some(step_config(128, ActivationMode::Keep)));
        assert_eq!(costs.choose(13_799), Some(step_config(64, ActivationMode::Keep)));
        assert_eq!(costs.choose(1800), Some(step_config(8, ActivationMode::Keep)));
        assert_eq!(costs.choose(1799), Some(step_config(8, ActivationMode::Recompute)));
        assert_eq!(costs.choose(1239), Some(step_config(8, ActivationMode::Spill)));
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
        while let Some(next) = costs.lower(at, 1) {
            assert!(costs.peak_bytes(next) < costs.peak_bytes(at));
            if seen == 1 {
                assert_eq!(next, step_config(128, ActivationMode::Recompute), "the same bits first");
            }
            (at, seen) = (next, seen + 1);
        }
        assert_eq!(at, step_config(8, ActivationMode::Spill));
    }

    #[test]
    fn lowering_frees_what_is_missing_where_it_can() {
        let (costs, from) = (costs(), step_config(128, ActivationMode::Keep));
        assert_eq!(costs.lower(from, 8_960), Some(step_config(128, ActivationMode::Recompute)));
        assert_eq!(costs.lower(from, 8_961), Some(step_config(128, ActivationMode::Spill)));
        assert_eq!(costs.lower(from, u64::MAX), Some(step_config(8, ActivationMode::Spill)));
        assert_eq!(costs.lower(step_config(8, ActivationMode::Spill), 1), None);
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
