//! The LVN view: the nearest low-volume node, one row per 5-minute bar.

use crate::market::bar::Bar;
use crate::market::features::layout::LVN_WIDTH;
use crate::market::indicators::atr::{ATR_BARS, AverageTrueRange, clipped_in_atr, magnitude_in_atr};
use crate::market::indicators::low_volume_node::NodeFinder;
use crate::market::indicators::tolerance::above;

/// The distance, in average true ranges, from which on a node is far.
const FAR_ATR: f64 = 5.0;

/// The view's rows, one bar after another: every number in [−1, 1] (REFERENCE.md, section 2).
///
/// `[s, n, a(p − level), 1 if p > level else 0, s (1 − n)]` with s the node's strength and
/// n = min(|d| / (5 ATR), 1); zeros if there is no node. Defined from bar 99.
#[derive(Debug)]
pub struct LvnRows {
    atr: AverageTrueRange,
    finder: NodeFinder,
}

impl Default for LvnRows {
    fn default() -> Self {
        Self { atr: AverageTrueRange::new(ATR_BARS), finder: NodeFinder::default() }
    }
}

impl LvnRows {
    /// The row at the close of the last of `bars`, all bars up to and with it. Call it for every bar, in order.
    pub fn push(&mut self, bars: &[Bar]) -> [f32; LVN_WIDTH] {
        let Some(bar) = bars.last() else { return [f32::NAN; LVN_WIDTH] };
        let atr = self.atr.push(bar);
        let window = bars.len().checked_sub(self.finder.window_bars()).map(|from| &bars[from..]);
        let row = match window.map(|window| self.finder.find(window)) {
            None => [f64::NAN; LVN_WIDTH],
            Some(None) => [0.0; LVN_WIDTH],
            Some(Some(node)) => {
                let far = (magnitude_in_atr(node.distance, atr, bar.close) / FAR_ATR).min(1.0);
                let signed = clipped_in_atr(node.distance, atr, bar.close);
                let is_above = if above(bar.close, node.level) { 1.0 } else { 0.0 };
                [node.strength, far, signed, is_above, node.strength * (1.0 - far)]
            }
        };
        row.map(|cell| cell as f32)
    }
}
