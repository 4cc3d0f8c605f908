//! The structure view: a day of market structure, one row per 30-minute bar.

use std::f64::consts::TAU;

use crate::market::bar::{Bar, DAY_MILLIS};
use crate::market::features::layout::STRUCTURE_WIDTH;
use crate::market::indicators::atr::{ATR_BARS, AverageTrueRange, clipped_in_atr, magnitude_in_atr};
use crate::market::indicators::low_volume_node::NodeFinder;
use crate::market::indicators::mlmi::{MlmiOptions, MomentumIndex};
use crate::market::indicators::nwrqk::{KernelOptions, KernelRegression};
use crate::market::indicators::smoothing::ZScore;

/// α of the slope's z score.
const SLOPE_RATE: f64 = 0.05;
/// Slopes beyond this many deviations are clipped.
const SLOPE_CLIP: f64 = 2.0;

/// The view's rows, one bar after another: every number in [−1, 1] (REFERENCE.md, section 2), distances in the ATR
/// of these bars:
///
/// 0. `mlmi_value`, 1. `mlmi_signal` in {−1, 0, 1}: defined from bar 39
/// 2. `nwrqk_value`: a(v − p), v the kernel regression, from bar 24
/// 3. `nwrqk_slope`: clip(z(v / v₋₁ − 1), ±2) / 2, from bar 25
/// 4. `lvn_distance`: exp(−|d| / ATR), 5. `lvn_strength`; 0 if there is no node, from bar 99
/// 6. sin, 7. cos of 2π h / 24, h the hour of the close, from bar 0
#[derive(Debug)]
pub struct StructureRows {
    atr: AverageTrueRange,
    momentum: MomentumIndex,
    regression: KernelRegression,
    /// The regression at the last bar; NaN before the first.
    regression_before: f64,
    slope_score: ZScore,
    finder: NodeFinder,
}

impl Default for StructureRows {
    fn default() -> Self {
        Self {
            atr: AverageTrueRange::new(ATR_BARS),
            momentum: MomentumIndex::new(&MlmiOptions::default()),
            regression: KernelRegression::new(&KernelOptions::default()),
            regression_before: f64::NAN,
            slope_score: ZScore::new(SLOPE_RATE),
            finder: NodeFinder::default(),
        }
    }
}

impl StructureRows {
    /// The row at the close of the last of `bars`, all bars up to and with it. Call it for every bar, in order.
    pub fn push(&mut self, bars: &[Bar]) -> [f32; STRUCTURE_WIDTH] {
        let Some(bar) = bars.last() else { return [f32::NAN; STRUCTURE_WIDTH] };
        let atr = self.atr.push(bar);
        let momentum = self.momentum.push(bar);
        let regression = self.regression.push(bar.close);
        let slope = regression / self.regression_before - 1.0;
        self.regression_before = regression;
        let slope = if slope.is_finite() {
            self.slope_score.update(slope).clamp(-SLOPE_CLIP, SLOPE_CLIP) / SLOPE_CLIP
        } else {
            f64::NAN
        };
        let window = bars.len().checked_sub(self.finder.window_bars()).map(|from| &bars[from..]);
        let (node_distance, node_strength) = match window.map(|window| self.finder.find(window)) {
            None => (f64::NAN, f64::NAN),
            Some(None) => (0.0, 0.0),
            Some(Some(node)) => ((-magnitude_in_atr(node.distance, atr, bar.close)).exp(), node.strength),
        };
        let angle = TAU * bar.close_millis.rem_euclid(DAY_MILLIS) as f64 / DAY_MILLIS as f64;
        let row = [
            momentum.value,
            momentum.signal,
            clipped_in_atr(regression - bar.close, atr, bar.close),
            slope,
            node_distance,
            node_strength,
            angle.sin(),
            angle.cos(),
        ];
        row.map(|cell| cell as f32)
    }
}
