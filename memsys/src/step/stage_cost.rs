//! What each stage of a network costs in each activation mode, and the few combinations worth offering.
//!
//! Bytes are straight lines over the micro-batch size, measured at two sizes by a pass of each uniform mode
//! ([`stage_trace`](crate::step::stage_trace)). A combination is predicted from the parts of those passes. The prediction
//! leaves out how neighbours share tensors: what one stage frees as its input, another may keep as its output. So a
//! combination that is to be used is measured itself, and the choice made again with what was found.

use crate::step::activation_mode::ActivationMode;
use crate::step::knapsack::{self, Choice};
use crate::step::stage_modes::StageModes;
use crate::step::stage_trace::{Section, StageTrace};

/// The most combinations that are offered for one micro-batch size.
const N_OFFERED: i64 = 12;

/// Spilling copies each byte to the kernel and back. No machine does that faster than this, and a clock that says so met
/// other work in the pass of `keep`.
const COPIED_BYTES_PER_MICRO: f64 = 10_000.0;

/// The traces of one activation mode, which all stages have, at two micro-batch sizes (which may be equal).
#[derive(Debug, Clone, PartialEq)]
pub struct ModeTraces {
    /// The mode of all stages.
    pub mode: ActivationMode,
    /// Pairs of micro-batch size and trace.
    pub traces: [(usize, StageTrace); 2],
}

/// A straight line over the micro-batch size.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    base: f64,
    slope: f64,
}

impl Line {
    /// The line through two points. If both sizes are equal, it is the line through the second point and 0.
    fn through(points: [(usize, i64); 2]) -> Self {
        let [(small, low), (large, high)] = points.map(|(size, bytes)| (size as f64, bytes as f64));
        let slope = if small < large { (high - low) / (large - small) } else { high / large };
        Self { base: high - slope * large, slope }
    }

    fn at(self, micro_batch: usize) -> i64 {
        (self.base + self.slope * micro_batch as f64).ceil() as i64
    }
}

#[derive(Debug, Clone, PartialEq)]
struct ModeOfStage {
    mode: ActivationMode,
    held: Line,
    /// In forward, in backward, and between this stage and the next. The largest counts.
    transients: [Line; 3],
    micros_per_sample: f64,
}

/// The costs of all stages of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct StageCosts {
    /// The peak before the first stage.
    first_peak: Line,
    /// What is held where the first stage begins.
    first_held: Line,
    /// The number of each stage and its modes, keep first, in the order of forward.
    stages: Vec<(usize, Vec<ModeOfStage>)>,
}

/// A combination of activation modes, as predicted for one micro-batch size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Combination {
    /// The mode of each stage.
    pub modes: StageModes,
    /// Peak bytes of tensors in a step, beyond those before it.
    pub peak_bytes: u64,
    /// Microseconds per sample beyond those of [`ActivationMode::Keep`].
    pub extra_micros_per_sample: f64,
}

impl StageCosts {
    /// The costs that the traces of the uniform modes give. `None` if [`ActivationMode::Keep`] is not among them, if there
    /// is nothing to choose, or if the passes went through different stages.
    #[must_use]
    pub fn new(traces: &[ModeTraces]) -> Option<Self> {
        let keep = traces.iter().find(|traces| traces.mode == ActivationMode::Keep)?;
        let n_stages = keep.traces[0].1.sections.len();
        let numbers = |trace: &StageTrace| -> Vec<usize> {
            trace.sections.iter().map(|section| section.stage).collect()
        };
        let expected = numbers(&keep.traces[0].1);
        let is_alike =
            |traces: &ModeTraces| traces.traces.iter().all(|(_, trace)| numbers(trace) == expected);
        if traces.len() < 2 || n_stages == 0 || !traces.iter().all(is_alike) {
            return None;
        }
        let stage = |index: usize| {
            let others = traces.iter().filter(|of| of.mode != ActivationMode::Keep);
            let of_mode = |of: &ModeTraces| ModeOfStage::new(of, keep, index);
            (expected[index], std::iter::once(keep).chain(others).map(of_mode).collect())
        };
        let line = |bytes: fn(&StageTrace) -> i64| {
            Line::through(keep.traces.each_ref().map(|(size, trace)| (*size, bytes(trace))))
        };
        Some(Self {
            first_peak: line(|trace| trace.first_peak_bytes),
            first_held: line(|trace| trace.sections[0].entry_bytes),
            stages: (0..n_stages).map(stage).collect(),
        })
    }

    /// Microseconds per sample that `mode` for all stages adds to [`ActivationMode::Keep`]; `None` if it was not measured.
    #[must_use]
    pub fn extra_micros_per_sample(&self, mode: ActivationMode) -> Option<f64> {
        let of_stage = |(_, modes): &(usize, Vec<ModeOfStage>)| {
            modes.iter().find(|of| of.mode == mode).map(|of| of.micros_per_sample)
        };
        self.stages.iter().map(of_stage).sum()
    }

    /// At most 12 combinations for a micro-batch size, the one of fewest bytes first. Each is the fastest of all that need
    /// no more bytes than it. [`ActivationMode::Keep`] for all stages is not among them.
    #[must_use]
    pub fn combinations(&self, micro_batch: usize) -> Vec<Combination> {
        let first = self.first_held.at(micro_batch);
        let stages = self.choices(micro_batch);
        let peak_of = |chosen: &[usize]| {
            let choices = chosen.iter().zip(&stages).map(|(index, choices)| choices[*index]);
            self.peak_of(micro_batch, choices)
        };
        let Some(leanest) = knapsack::leanest_bytes(first, &stages) else { return Vec::new() };
        let keep = peak_of(&vec![0; stages.len()]);
        let mut offered: Vec<Combination> = Vec::new();
        for step in 0..N_OFFERED {
            let budget = leanest + (keep - leanest).max(0) * step / N_OFFERED;
            let Some(chosen) = knapsack::fastest(first, &stages, budget) else { continue };
            let modes = self.modes(&chosen);
            let is_new = offered.iter().all(|combination| combination.modes != modes);
            if is_new && modes != StageModes::default() {
                let micros = chosen.iter().zip(&stages).map(|(index, choices)| choices[*index].micros);
                offered.push(Combination {
                    modes,
                    peak_bytes: u64::try_from(peak_of(&chosen)).unwrap_or(0),
                    extra_micros_per_sample: micros.sum(),
                });
            }
        }
        offered
    }

    /// The peak bytes of [`ActivationMode::Keep`] for all stages.
    #[must_use]
    pub fn kept_bytes(&self, micro_batch: usize) -> u64 {
        let choices = self.choices(micro_batch);
        let peak = self.peak_of(micro_batch, choices.iter().map(|choices| choices[0]));
        u64::try_from(peak).unwrap_or(0)
    }

    /// What each mode of each stage costs.
    fn choices(&self, micro_batch: usize) -> Vec<Vec<Choice>> {
        let of_stage = |(_, modes): &(usize, Vec<ModeOfStage>)| {
            modes.iter().map(|mode| mode.choice(micro_batch)).collect()
        };
        self.stages.iter().map(of_stage).collect()
    }

    fn peak_of(&self, micro_batch: usize, chosen: impl Iterator<Item = Choice>) -> i64 {
        let peak = knapsack::peak_bytes(self.first_held.at(micro_batch), chosen);
        peak.max(self.first_peak.at(micro_batch))
    }

    fn modes(&self, chosen: &[usize]) -> StageModes {
        let of_stages = chosen.iter().zip(&self.stages);
        of_stages.fold(StageModes::default(), |modes, (index, (number, of_stage))| {
            modes.with(*number, of_stage[*index].mode)
        })
    }
}

impl ModeOfStage {
    /// Stage number `index` of forward under the mode of `of`. The time of keep's forward is what recomputing adds.
    fn new(of: &ModeTraces, keep: &ModeTraces, index: usize) -> Self {
        let line = |bytes: fn(&Section) -> i64, of: &ModeTraces| {
            Line::through(of.traces.each_ref().map(|(size, trace)| (*size, bytes(&trace.sections[index]))))
        };
        let plus = |a: Line, b: Line| Line { base: a.base + b.base, slope: a.slope + b.slope };
        let held = line(|section| section.end_bytes - section.entry_bytes, of);
        // What lies between stages keeps its activations in every combination.
        let rest = line(|section| section.rest_peak_bytes - section.end_bytes, keep);
        let transients = [
            line(|section| section.forward_peak_bytes - section.entry_bytes, of),
            line(|section| section.backward_peak_bytes - section.entry_bytes, of),
            plus(held, rest),
        ];
        let (size, kept) = &keep.traces[1];
        let kept = &kept.sections[index];
        let timed = &of.traces[1].1.sections[index];
        let micros = match of.mode {
            ActivationMode::Keep => 0.0,
            ActivationMode::Recompute => kept.forward_micros,
            ActivationMode::Spill => {
                let spilled_bytes =
                    (kept.end_bytes - kept.entry_bytes) - (timed.end_bytes - timed.entry_bytes);
                let beyond_keep =
                    timed.forward_micros + timed.backward_micros - kept.forward_micros - kept.backward_micros;
                beyond_keep.max(2.0 * spilled_bytes as f64 / COPIED_BYTES_PER_MICRO)
            }
        };
        Self {
            mode: of.mode,
            held: plus(held, line(|section| section.rest_held_bytes, keep)),
            transients,
            micros_per_sample: micros.max(0.0) / *size as f64,
        }
    }

    fn choice(&self, micro_batch: usize) -> Choice {
        Choice {
            held_bytes: self.held.at(micro_batch),
            transient_bytes: self.transients.iter().map(|line| line.at(micro_batch)).max().unwrap_or(0),
            micros: self.micros_per_sample,
        }
    }
}
