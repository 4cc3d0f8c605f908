//! The LVN view: the nearest low-volume node, one row per 5-minute bar.

use crate::market::bar::Bar;
use crate::market::features::layout::LVN_WIDTH;
use crate::market::indicators::atr::{clipped_in_atr, magnitude_in_atr};
use crate::market::indicators::low_volume_node::NodeFinder;
use crate::market::indicators::tolerance::above;

/// The distance, in average true ranges, from which on a node is far.
const FAR_ATR: f64 = 5.0;

/// One row per bar, every number in [−1, 1] (REFERENCE.md, section 2); `atr` is that of `five`.
///
/// `[s, n, a(p − level), 1 if p > level else 0, s (1 − n)]` with s the node's strength and
/// n = min(|d| / (5 ATR), 1); zeros if there is no node. Defined from bar 99.
#[must_use]
pub fn rows(five: &[Bar], atr: &[f64]) -> Vec<[f32; LVN_WIDTH]> {
    let mut finder = NodeFinder::default();
    let n_window = finder.window_bars();
    let mut rows = Vec::with_capacity(five.len());
    for (t, bar) in five.iter().enumerate() {
        let row = if t + 1 < n_window {
            [f64::NAN; LVN_WIDTH]
        } else if let Some(node) = finder.find(&five[t + 1 - n_window..=t]) {
            let far = (magnitude_in_atr(node.distance, atr[t], bar.close) / FAR_ATR).min(1.0);
            let signed = clipped_in_atr(node.distance, atr[t], bar.close);
            let is_above = if above(bar.close, node.level) { 1.0 } else { 0.0 };
            [node.strength, far, signed, is_above, node.strength * (1.0 - far)]
        } else {
            [0.0; LVN_WIDTH]
        };
        rows.push(row.map(|cell| cell as f32));
    }
    rows
}
