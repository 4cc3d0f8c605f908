//! The tactical view: five hours of price action, one row per 5-minute bar.

use crate::market::bar::Bar;
use crate::market::features::layout::TACTICAL_WIDTH;
use crate::market::indicators::atr::{ATR_BARS, AverageTrueRange, clipped_in_atr};
use crate::market::indicators::fair_value_gap::{FairValueGaps, GapOptions, Side};
use crate::market::indicators::smoothing::ExponentialMean;

/// A mitigation is remembered for this many bars, its own included.
const MITIGATION_BARS: usize = 5;
/// Bars over which momentum is taken.
const MOMENTUM_BARS: usize = 5;
/// Decay rate of the nearest gap with its age, per bar.
const AGE_DECAY: f64 = 0.1;
/// α of the volume's mean.
const VOLUME_RATE: f64 = 0.02;

/// The view's rows, one bar after another: every number in [−1, 1] (REFERENCE.md, section 2).
///
/// 0. bullish gap active, 1. bearish gap active: from bar 61, when every gap that could be active was seen to form
/// 2. nearest gap edge: a(edge − p), 3. its gap's age: exp(−0.1 age); 0 if there is no gap, from bar 61
/// 4. a gap mitigated in bars t − 4 … t, from bar 65
/// 5. momentum: a(p − p₋₅), from bar 13
/// 6. volume ratio: tanh(ln(volume / m)), m the exponential mean; −1 for a bar without volume in a market with it,
///    0 while there was no volume at all, from bar 0
#[derive(Debug)]
pub struct TacticalRows {
    atr: AverageTrueRange,
    gaps: FairValueGaps,
    /// The first bar at which every gap that could be active was seen to form.
    gaps_from: usize,
    mean_volume: ExponentialMean,
    last_mitigation: Option<usize>,
}

impl Default for TacticalRows {
    fn default() -> Self {
        let options = GapOptions::default();
        Self {
            atr: AverageTrueRange::new(ATR_BARS),
            // The oldest active gap formed max_age_bars ago and rests on body_bars + 1 bars before that one.
            gaps_from: options.max_age_bars + options.body_bars + 1,
            gaps: FairValueGaps::new(options),
            mean_volume: ExponentialMean::new(VOLUME_RATE),
            last_mitigation: None,
        }
    }
}

impl TacticalRows {
    /// The row at the close of the last of `bars`, all bars up to and with it. Call it for every bar, in order.
    pub fn push(&mut self, bars: &[Bar]) -> [f32; TACTICAL_WIDTH] {
        let Some((bar, before)) = bars.split_last() else { return [f32::NAN; TACTICAL_WIDTH] };
        let t = before.len();
        let atr = self.atr.push(bar);
        if self.gaps.update(bars) > 0 {
            self.last_mitigation = Some(t);
        }
        let is_active = |side| indicator(self.gaps.active().iter().any(|gap| gap.side == side));
        let (edge, age) = match self.gaps.nearest_edge(bar.close) {
            Some((gap, edge)) => (
                clipped_in_atr(edge - bar.close, atr, bar.close),
                (-AGE_DECAY * (t - gap.formed) as f64).exp(),
            ),
            None => (0.0, 0.0),
        };
        let mitigated = indicator(self.last_mitigation.is_some_and(|at| t - at < MITIGATION_BARS));
        let momentum = match t.checked_sub(MOMENTUM_BARS) {
            Some(start) => clipped_in_atr(bar.close - bars[start].close, atr, bar.close),
            None => f64::NAN,
        };
        let row = [
            defined_from(self.gaps_from, t, is_active(Side::Bullish)),
            defined_from(self.gaps_from, t, is_active(Side::Bearish)),
            defined_from(self.gaps_from, t, edge),
            defined_from(self.gaps_from, t, age),
            defined_from(self.gaps_from + MITIGATION_BARS - 1, t, mitigated),
            momentum,
            volume_ratio(bar.volume, self.mean_volume.update(bar.volume)),
        ];
        row.map(|cell| cell as f32)
    }
}

/// tanh(ln(volume / mean)); −1 without volume, 0 where the mean is none either.
fn volume_ratio(volume: f64, mean: f64) -> f64 {
    if mean <= 0.0 { 0.0 } else { (volume / mean).ln().tanh() }
}

/// 1 for true, 0 for false.
fn indicator(is_true: bool) -> f64 {
    if is_true { 1.0 } else { 0.0 }
}

/// `value` from bar `from` on, NaN before.
fn defined_from(from: usize, t: usize, value: f64) -> f64 {
    if t < from { f64::NAN } else { value }
}
