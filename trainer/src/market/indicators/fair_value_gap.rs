//! Fair value gaps: prices that a strong bar jumped over, and to which the market has not come back.
//!
//! ```text
//!            │  low[i]  ─ upper edge
//!        █           }
//!        █           } gap            bullish: the bars before and after the strong one do not overlap
//!   │    █           }
//!   high[i−2] ─ lower edge
//! ```

use crate::market::bar::Bar;
use crate::market::indicators::tolerance::{above, negligible};

/// Constants of the gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct GapOptions {
    /// The strong bar's body must exceed this many mean bodies.
    pub body_multiple: f64,
    /// Bodies in that mean: of the bars before the strong one.
    pub body_bars: usize,
    /// A gap older than this is dropped.
    pub max_age_bars: usize,
}

impl Default for GapOptions {
    fn default() -> Self {
        Self { body_multiple: 1.5, body_bars: 10, max_age_bars: 50 }
    }
}

/// Which way the market jumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Up: mitigated by a close strictly below the gap.
    Bullish,
    /// Down: mitigated by a close strictly above the gap.
    Bearish,
}

/// One gap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    /// Which way the market jumped.
    pub side: Side,
    /// Lower edge, a price.
    pub lower: f64,
    /// Upper edge, a price, above the lower.
    pub upper: f64,
    /// The bar at whose close the gap was seen: its age is counted from there.
    pub formed: usize,
}

/// The gaps that are active now. Feed every bar once, in order.
#[derive(Debug, Clone)]
pub struct FairValueGaps {
    options: GapOptions,
    active: Vec<Gap>,
}

impl FairValueGaps {
    /// No gaps yet.
    #[must_use]
    pub fn new(options: GapOptions) -> Self {
        Self { options, active: Vec::new() }
    }

    /// Takes in the last of `bars` (all bars up to and with it) and returns how many gaps its close mitigated.
    ///
    /// In this order: expired gaps are dropped, and never count as mitigated; the close mitigates; a new gap forms.
    pub fn update(&mut self, bars: &[Bar]) -> usize {
        let Some((bar, before)) = bars.split_last() else { return 0 };
        let now = before.len();
        let max_age_bars = self.options.max_age_bars;
        self.active.retain(|gap| now - gap.formed <= max_age_bars);
        let n_active = self.active.len();
        self.active.retain(|gap| match gap.side {
            Side::Bullish => !above(gap.lower, bar.close),
            Side::Bearish => !above(bar.close, gap.upper),
        });
        let n_mitigated = n_active - self.active.len();
        self.active.extend(self.formed_at(bars));
        n_mitigated
    }

    /// The gap that the last of `bars` completes, if any.
    fn formed_at(&self, bars: &[Bar]) -> Option<Gap> {
        let n_bodies = self.options.body_bars;
        let now = bars.len().checked_sub(n_bodies + 2).map(|_| bars.len() - 1)?;
        let (first, middle, last) = (&bars[now - 2], &bars[now - 1], &bars[now]);
        let body = |bar: &Bar| (bar.close - bar.open).abs();
        let mean = bars[now - 1 - n_bodies..now - 1].iter().map(body).sum::<f64>() / n_bodies as f64;
        let excess = body(middle) - self.options.body_multiple * mean;
        if excess <= 0.0 || negligible(excess, middle.close) {
            return None;
        }
        if above(last.low, first.high) {
            Some(Gap { side: Side::Bullish, lower: first.high, upper: last.low, formed: now })
        } else if above(first.low, last.high) {
            Some(Gap { side: Side::Bearish, lower: last.high, upper: first.low, formed: now })
        } else {
            None
        }
    }

    /// The active gaps, oldest first.
    #[must_use]
    pub fn active(&self) -> &[Gap] {
        &self.active
    }

    /// The edge nearest to `price` of all active gaps, with its gap; of equally near ones the newer gap's, then the
    /// lower.
    #[must_use]
    pub fn nearest_edge(&self, price: f64) -> Option<(Gap, f64)> {
        let mut nearest: Option<(Gap, f64)> = None;
        for gap in self.active.iter().rev() {
            for edge in [gap.lower, gap.upper] {
                let nearer = nearest.is_none_or(|(_, held)| {
                    let gain = (held - price).abs() - (edge - price).abs();
                    gain > 0.0 && !negligible(gain, price)
                });
                if nearer {
                    nearest = Some((*gap, edge));
                }
            }
        }
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::indicators::random_walk::{bar, random_walk};

    /// Eleven quiet bars of body 1 around 100, a strong bar up, and the bar above the gap [101, 105].
    fn jump_up() -> Vec<Bar> {
        let mut bars: Vec<Bar> = (0..11).map(|i| bar(i, [99.5, 101.0, 99.0, 100.5])).collect();
        bars.push(bar(11, [100.5, 107.0, 100.0, 106.0]));
        bars.push(bar(12, [106.0, 108.0, 105.0, 107.0]));
        bars
    }

    fn feed(bars: &[Bar]) -> (FairValueGaps, Vec<usize>) {
        let mut gaps = FairValueGaps::new(GapOptions::default());
        let mitigated = (1..=bars.len()).map(|end| gaps.update(&bars[..end])).collect();
        (gaps, mitigated)
    }

    /// The same market upside down: prices p become 300 − p.
    fn mirrored(bars: &[Bar]) -> Vec<Bar> {
        let turn = |bar: &Bar| Bar {
            open: 300.0 - bar.open,
            high: 300.0 - bar.low,
            low: 300.0 - bar.high,
            close: 300.0 - bar.close,
            ..*bar
        };
        bars.iter().map(turn).collect()
    }

    #[test]
    fn a_strong_bar_leaves_a_gap_between_its_neighbours() {
        let bars = jump_up();
        let (gaps, mitigated) = feed(&bars);
        assert_eq!(gaps.active(), [Gap { side: Side::Bullish, lower: 101.0, upper: 105.0, formed: 12 }]);
        assert!(mitigated.iter().all(|n| *n == 0));
        assert_eq!(feed(&bars[..12]).0.active(), []);
        let (gaps, _) = feed(&mirrored(&bars));
        assert_eq!(gaps.active(), [Gap { side: Side::Bearish, lower: 195.0, upper: 199.0, formed: 12 }]);
    }

    #[test]
    fn a_weak_bar_or_an_overlap_leaves_none() {
        let mut weak = jump_up();
        // Bodies of 1 in the mean: a body of exactly 1.5 is not above 1.5 means.
        weak[11] = bar(11, [104.5, 107.0, 100.0, 106.0]);
        assert_eq!(feed(&weak).0.active(), []);
        weak[11] = bar(11, [104.4, 107.0, 100.0, 106.0]);
        assert_eq!(feed(&weak).0.active().len(), 1);
        let mut touching = jump_up();
        touching[12].low = 101.0;
        assert_eq!(feed(&touching).0.active(), []);
        touching[12].low = 101.0 + 1e-8;
        assert_eq!(feed(&touching).0.active(), [], "equal within rounding");
    }

    #[test]
    fn a_close_strictly_beyond_the_far_edge_mitigates() {
        let mut bars = jump_up();
        bars.push(bar(13, [107.0, 107.0, 90.0, 101.0]));
        for bars in [bars.clone(), mirrored(&bars)] {
            let (gaps, mitigated) = feed(&bars);
            assert_eq!((gaps.active().len(), mitigated[13]), (1, 0), "a close at the edge does not");
        }
        bars.push(bar(14, [101.0, 107.0, 90.0, 100.9]));
        for bars in [bars.clone(), mirrored(&bars)] {
            let (gaps, mitigated) = feed(&bars);
            assert_eq!((gaps.active().len(), mitigated[14]), (0, 1));
        }
    }

    #[test]
    fn a_gap_expires_after_fifty_bars_and_is_then_not_mitigated() {
        let mut bars = jump_up();
        bars.extend((13..=62).map(|i| bar(i, [107.0, 108.0, 106.0, 107.0])));
        assert_eq!(feed(&bars).0.active().len(), 1, "age 50");
        bars.push(bar(63, [107.0, 107.0, 90.0, 91.0]));
        let (gaps, mitigated) = feed(&bars);
        assert_eq!((gaps.active().len(), mitigated[63]), (0, 0), "age 51");
    }

    #[test]
    fn ties_of_edges_go_to_the_newer_gap_then_to_the_lower_edge() {
        let gap = |lower, upper, formed| Gap { side: Side::Bullish, lower, upper, formed };
        let (older, newer) = (gap(90.0, 98.0, 1), gap(102.0, 110.0, 2));
        let gaps = FairValueGaps { options: GapOptions::default(), active: vec![older, newer] };
        assert_eq!(gaps.nearest_edge(100.0), Some((newer, 102.0)));
        assert_eq!(gaps.nearest_edge(99.0), Some((older, 98.0)));
        assert_eq!(gaps.nearest_edge(106.0), Some((newer, 102.0)));
        assert_eq!(FairValueGaps::new(GapOptions::default()).nearest_edge(1.0), None);
    }

    #[test]
    fn the_active_gaps_equal_their_definition_at_every_bar() {
        let bars = random_walk(2_000, 12);
        let body = |i: usize| (bars[i].close - bars[i].open).abs();
        let formed = |i: usize| {
            let strong = body(i - 1) > 1.5 * ((i - 11)..=(i - 2)).map(body).sum::<f64>() / 10.0;
            if strong && bars[i].low > bars[i - 2].high {
                Some(Gap { side: Side::Bullish, lower: bars[i - 2].high, upper: bars[i].low, formed: i })
            } else if strong && bars[i].high < bars[i - 2].low {
                Some(Gap { side: Side::Bearish, lower: bars[i].high, upper: bars[i - 2].low, formed: i })
            } else {
                None
            }
        };
        let mitigates = |gap: &Gap, t: usize| match gap.side {
            Side::Bullish => bars[t].close < gap.lower,
            Side::Bearish => bars[t].close > gap.upper,
        };
        let mut gaps = FairValueGaps::new(GapOptions::default());
        let (mut n_gaps, mut n_mitigated) = (0, 0);
        for t in 0..bars.len() {
            let mitigated = gaps.update(&bars[..=t]);
            let candidates: Vec<Gap> = (t.saturating_sub(50).max(11)..=t).filter_map(formed).collect();
            let alive = |gap: &&Gap, until: usize| !(gap.formed + 1..until).any(|s| mitigates(gap, s));
            let active: Vec<Gap> = candidates.iter().filter(|gap| alive(gap, t + 1)).copied().collect();
            assert_eq!(gaps.active(), active, "bar {t}");
            let expected =
                candidates.iter().filter(|gap| gap.formed < t && alive(gap, t) && mitigates(gap, t)).count();
            assert_eq!(mitigated, expected, "bar {t}");
            n_gaps += active.len();
            n_mitigated += mitigated;
        }
        assert!(n_gaps > 100 && n_mitigated > 3, "{n_gaps} {n_mitigated}");
    }
}
