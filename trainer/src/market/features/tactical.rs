//! The tactical view: five hours of price action, one row per 5-minute bar.

use crate::market::bar::Bar;
use crate::market::features::layout::TACTICAL_WIDTH;
use crate::market::indicators::atr::clipped_in_atr;
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

/// One row per bar, every number in [−1, 1] (REFERENCE.md, section 2); `atr` is that of `five`.
///
/// 0. bullish gap active, 1. bearish gap active: from bar 61, when every gap that could be active was seen to form
/// 2. nearest gap edge: a(edge − p), 3. its gap's age: exp(−0.1 age); 0 if there is no gap, from bar 61
/// 4. a gap mitigated in bars t − 4 … t, from bar 65
/// 5. momentum: a(p − p₋₅), from bar 13
/// 6. volume ratio: tanh(ln(volume / m)), m the exponential mean; −1 for a bar without volume in a market with it,
///    0 while there was no volume at all, from bar 0
#[must_use]
pub fn rows(five: &[Bar], atr: &[f64]) -> Vec<[f32; TACTICAL_WIDTH]> {
    let options = GapOptions::default();
    // The oldest active gap formed max_age_bars ago and rests on body_bars + 1 bars before that one.
    let gaps_from = options.max_age_bars + options.body_bars + 1;
    let mut gaps = FairValueGaps::new(options);
    let mut mean_volume = ExponentialMean::new(VOLUME_RATE);
    let mut last_mitigation: Option<usize> = None;

    let mut rows = Vec::with_capacity(five.len());
    for (t, bar) in five.iter().enumerate() {
        if gaps.update(&five[..=t]) > 0 {
            last_mitigation = Some(t);
        }
        let is_active = |side| indicator(gaps.active().iter().any(|gap| gap.side == side));
        let (edge, age) = match gaps.nearest_edge(bar.close) {
            Some((gap, edge)) => (
                clipped_in_atr(edge - bar.close, atr[t], bar.close),
                (-AGE_DECAY * (t - gap.formed) as f64).exp(),
            ),
            None => (0.0, 0.0),
        };
        let mitigated = indicator(last_mitigation.is_some_and(|at| t - at < MITIGATION_BARS));
        let momentum = match t.checked_sub(MOMENTUM_BARS) {
            Some(before) => clipped_in_atr(bar.close - five[before].close, atr[t], bar.close),
            None => f64::NAN,
        };
        let row = [
            defined_from(gaps_from, t, is_active(Side::Bullish)),
            defined_from(gaps_from, t, is_active(Side::Bearish)),
            defined_from(gaps_from, t, edge),
            defined_from(gaps_from, t, age),
            defined_from(gaps_from + MITIGATION_BARS - 1, t, mitigated),
            momentum,
            volume_ratio(bar.volume, mean_volume.update(bar.volume)),
        ];
        rows.push(row.map(|cell| cell as f32));
    }
    rows
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
