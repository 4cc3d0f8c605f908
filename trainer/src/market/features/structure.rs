//! The structure view: a day of market structure, one row per 30-minute bar.

use std::f64::consts::TAU;

use crate::market::bar::{Bar, DAY_MILLIS};
use crate::market::features::layout::STRUCTURE_WIDTH;
use crate::market::indicators::atr::{ATR_BARS, average_true_range, clipped_in_atr, magnitude_in_atr};
use crate::market::indicators::low_volume_node::NodeFinder;
use crate::market::indicators::mlmi::{MlmiOptions, mlmi};
use crate::market::indicators::nwrqk::{KernelOptions, kernel_regression};
use crate::market::indicators::smoothing::ZScore;

/// α of the slope's z score.
const SLOPE_RATE: f64 = 0.05;
/// Slopes beyond this many deviations are clipped.
const SLOPE_CLIP: f64 = 2.0;

/// One row per bar, every number in [−1, 1] (REFERENCE.md, section 2), distances in the ATR of these bars:
///
/// 0. `mlmi_value`, 1. `mlmi_signal` in {−1, 0, 1}: defined from bar 39
/// 2. `nwrqk_value`: a(v − p), v the kernel regression, from bar 24
/// 3. `nwrqk_slope`: clip(z(v / v₋₁ − 1), ±2) / 2, from bar 25
/// 4. `lvn_distance`: exp(−|d| / ATR), 5. `lvn_strength`; 0 if there is no node, from bar 99
/// 6. sin, 7. cos of 2π h / 24, h the hour of the close, from bar 0
#[must_use]
pub fn rows(thirty: &[Bar]) -> Vec<[f32; STRUCTURE_WIDTH]> {
    let atr = average_true_range(thirty, ATR_BARS);
    let momentum = mlmi(thirty, &MlmiOptions::default());
    let closes: Vec<f64> = thirty.iter().map(|bar| bar.close).collect();
    let regression = kernel_regression(&closes, &KernelOptions::default());
    let mut slope_score = ZScore::new(SLOPE_RATE);
    let mut finder = NodeFinder::default();
    let n_window = finder.window_bars();

    let mut rows = Vec::with_capacity(thirty.len());
    for (t, bar) in thirty.iter().enumerate() {
        let slope = if t > 0 { regression[t] / regression[t - 1] - 1.0 } else { f64::NAN };
        let slope = if slope.is_finite() {
            slope_score.update(slope).clamp(-SLOPE_CLIP, SLOPE_CLIP) / SLOPE_CLIP
        } else {
            f64::NAN
        };
        let (node_distance, node_strength) = if t + 1 < n_window {
            (f64::NAN, f64::NAN)
        } else if let Some(node) = finder.find(&thirty[t + 1 - n_window..=t]) {
            ((-magnitude_in_atr(node.distance, atr[t], bar.close)).exp(), node.strength)
        } else {
            (0.0, 0.0)
        };
        let angle = TAU * bar.close_millis.rem_euclid(DAY_MILLIS) as f64 / DAY_MILLIS as f64;
        let row = [
            momentum.value[t],
            momentum.signal[t],
            clipped_in_atr(regression[t] - bar.close, atr[t], bar.close),
            slope,
            node_distance,
            node_strength,
            angle.sin(),
            angle.cos(),
        ];
        rows.push(row.map(|cell| cell as f32));
    }
    rows
}
