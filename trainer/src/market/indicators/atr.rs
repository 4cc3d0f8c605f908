//! Average true range, the unit of every price distance in the features.

use crate::market::bar::Bar;
use crate::market::indicators::tolerance::negligible;

/// Bars of the average true range.
pub const ATR_BARS: usize = 14;
/// Distances beyond this many average true ranges are clipped.
const CLIP_ATR: f64 = 4.0;

/// Wilder's average true range over `n_bars` bars, one bar after another.
///
/// The true range is max(high, previous close) − min(low, previous close), of the first bar high − low. The
/// average is seeded by the mean of the first `n_bars` and then moves by 1 / `n_bars` of the way (Wilder, *New
/// Concepts in Technical Trading Systems*, 1978). The unit belongs to the clock of the bars it was made from.
#[derive(Debug, Clone)]
pub struct AverageTrueRange {
    n_bars: usize,
    n_seen: usize,
    /// The sum of the first ranges, then the average.
    average: f64,
    last_close: f64,
}

impl AverageTrueRange {
    /// An average over `n_bars` bars that has seen none yet.
    #[must_use]
    pub fn new(n_bars: usize) -> Self {
        Self { n_bars, n_seen: 0, average: 0.0, last_close: f64::NAN }
    }

    /// Takes the next bar, and gives the average at its close in units of price, ≥ 0; NaN before bar `n_bars − 1`.
    pub fn push(&mut self, bar: &Bar) -> f64 {
        let before = if self.n_seen == 0 { bar.low } else { self.last_close };
        let range = bar.high.max(before) - bar.low.min(before);
        let n = self.n_bars as f64;
        self.n_seen += 1;
        self.last_close = bar.close;
        if self.n_seen > self.n_bars {
            self.average = (self.average * (n - 1.0) + range) / n;
        } else {
            self.average += range;
            if self.n_seen < self.n_bars {
                return f64::NAN;
            }
            self.average /= n;
        }
        self.average
    }
}

/// [`AverageTrueRange`] at each of `bars`.
#[must_use]
pub fn average_true_range(bars: &[Bar], n_bars: usize) -> Vec<f64> {
    let mut average = AverageTrueRange::new(n_bars);
    bars.iter().map(|bar| average.push(bar)).collect()
}

/// `a(x)` = clip(x / ATR, ±4) / 4 in [−1, 1]: a signed distance of price in average true ranges; 0 if the distance
/// or the average is zero beside `price`. NaN while the average is.
#[must_use]
pub fn clipped_in_atr(distance: f64, atr: f64, price: f64) -> f64 {
    if atr.is_nan() {
        return f64::NAN;
    }
    if negligible(distance, price) || negligible(atr, price) {
        return 0.0;
    }
    (distance / atr).clamp(-CLIP_ATR, CLIP_ATR) / CLIP_ATR
}

/// |x| / ATR, ≥ 0: 0 if the distance is zero beside `price`, else ∞ if the average is. NaN while the average is.
#[must_use]
pub fn magnitude_in_atr(distance: f64, atr: f64, price: f64) -> f64 {
    if atr.is_nan() {
        f64::NAN
    } else if negligible(distance, price) {
        0.0
    } else if negligible(atr, price) {
        f64::INFINITY
    } else {
        distance.abs() / atr
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::indicators::random_walk::random_walk;

    #[test]
    fn the_average_equals_wilders_formula_written_out() {
        let bars = random_walk(200, 3);
        let averages = average_true_range(&bars, 14);
        assert!(averages[..13].iter().all(|average| average.is_nan()));
        let range = |i: usize| {
            let bar = &bars[i];
            let spread = bar.high - bar.low;
            if i == 0 {
                return spread;
            }
            let before = bars[i - 1].close;
            spread.max((bar.high - before).abs()).max((bar.low - before).abs())
        };
        let mut expected = (0..14).map(range).sum::<f64>() / 14.0;
        for (i, average) in averages.iter().enumerate().skip(13) {
            if i > 13 {
                expected = (13.0 * expected + range(i)) / 14.0;
            }
            assert!((average / expected - 1.0).abs() < 1e-12, "bar {i}");
        }
    }

    #[test]
    fn distances_are_clipped_at_four_and_vanish_at_rounding() {
        assert_eq!(clipped_in_atr(1.0, 2.0, 100.0), 0.125);
        assert_eq!(clipped_in_atr(-20.0, 2.0, 100.0), -1.0);
        assert_eq!(clipped_in_atr(0.9e-7, 1e-6, 100.0), 0.0);
        assert_eq!(clipped_in_atr(5.0, 0.0, 100.0), 0.0);
        assert!(clipped_in_atr(0.0, f64::NAN, 100.0).is_nan());
        assert_eq!(magnitude_in_atr(-3.0, 2.0, 100.0), 1.5);
        assert_eq!(magnitude_in_atr(-3.0, 0.0, 100.0), f64::INFINITY);
        assert_eq!(magnitude_in_atr(0.0, 0.0, 100.0), 0.0);
    }

    #[test]
    fn fewer_bars_than_the_average_needs_leave_it_undefined() {
        assert!(average_true_range(&random_walk(13, 1), 14).iter().all(|average| average.is_nan()));
        assert!(average_true_range(&[], 14).is_empty());
    }
}
