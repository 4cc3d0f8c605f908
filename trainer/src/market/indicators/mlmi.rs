//! The machine-learning momentum index: how the market moved after earlier times of similar momentum.
//!
//! ```text
//! cross k−1                cross k                    every bar
//! point (x, y) noted  ───> its label is now known ──> mean label of the 10 nearest stored points
//!                          and the pair is stored
//! ```
//!
//! A label needs the close of the next cross, so a point enters the store there and not before: nothing of the
//! future is in an answer. All prices are Heikin-Ashi closes, (O + H + L + C) / 4.

use crate::market::bar::Bar;
use crate::market::indicators::nearest_points::NearestPoints;
use crate::market::indicators::rsi::RelativeStrength;
use crate::market::indicators::smoothing::WeightedMean;
use crate::market::indicators::tolerance::{above, negligible};

/// Constants of the index.
#[derive(Debug, Clone, PartialEq)]
pub struct MlmiOptions {
    /// Bars of the fast weighted mean whose crosses with the slow one are the events.
    pub fast_bars: usize,
    /// Bars of the slow weighted mean.
    pub slow_bars: usize,
    /// Changes in the slow relative strength, the first coordinate of a point.
    pub slow_strength_bars: usize,
    /// Changes in the fast relative strength, the second coordinate.
    pub fast_strength_bars: usize,
    /// Bars of the weighted mean over both strengths.
    pub strength_mean_bars: usize,
    /// Nearest stored points whose labels are averaged.
    pub n_neighbours: usize,
    /// Stored points; beyond, the oldest are forgotten.
    pub capacity_points: usize,
}

impl Default for MlmiOptions {
    fn default() -> Self {
        Self {
            fast_bars: 5,
            slow_bars: 20,
            slow_strength_bars: 20,
            fast_strength_bars: 5,
            strength_mean_bars: 20,
            n_neighbours: 10,
            capacity_points: 10_000,
        }
    }
}

/// The index at one bar. Both numbers are NaN until the point (x, y) of a bar is defined: bar 39 by default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mlmi {
    /// Mean label of the nearest stored points, in [−1, 1]; 0 while none is stored.
    pub value: f64,
    /// At a cross its direction where that agrees with the value's sign, else 0; held until the next cross.
    pub signal: f64,
}

/// The index, one bar after another.
#[derive(Debug, Clone)]
pub struct MomentumIndex {
    n_neighbours: usize,
    fast: WeightedMean,
    slow: WeightedMean,
    slow_strength: (RelativeStrength, WeightedMean),
    fast_strength: (RelativeStrength, WeightedMean),
    store: NearestPoints,
    last_sign: f64,
    /// The point and the close of the last cross.
    last_cross: Option<((f64, f64), f64)>,
    signal: f64,
}

impl MomentumIndex {
    /// An index that has seen no bar yet.
    #[must_use]
    pub fn new(options: &MlmiOptions) -> Self {
        let strength =
            |n_bars| (RelativeStrength::new(n_bars), WeightedMean::new(options.strength_mean_bars));
        Self {
            n_neighbours: options.n_neighbours,
            fast: WeightedMean::new(options.fast_bars),
            slow: WeightedMean::new(options.slow_bars),
            slow_strength: strength(options.slow_strength_bars),
            fast_strength: strength(options.fast_strength_bars),
            store: NearestPoints::new(options.capacity_points),
            last_sign: 0.0,
            last_cross: None,
            signal: 0.0,
        }
    }

    /// Takes the next bar, and gives the index at its close.
    pub fn push(&mut self, bar: &Bar) -> Mlmi {
        let close = (bar.open + bar.high + bar.low + bar.close) / 4.0;
        let (fast, slow) = (self.fast.push(close), self.slow.push(close));
        let mean = |(strength, mean): &mut (RelativeStrength, WeightedMean)| mean.push(strength.push(close));
        let point = (mean(&mut self.slow_strength), mean(&mut self.fast_strength));
        let has_point = |point: (f64, f64)| point.0.is_finite() && point.1.is_finite();

        let sign = sign_of(fast - slow, close);
        let crossed = sign != 0.0 && self.last_sign != 0.0 && sign != self.last_sign;
        if crossed
            && let Some((before, close_before)) = self.last_cross.replace((point, close))
            && has_point(before)
        {
            let fell = above(close_before, close);
            self.store.push(before, if fell { -1.0 } else { 1.0 });
        }
        if sign != 0.0 {
            self.last_sign = sign;
        }
        let is_defined = has_point(point) && slow.is_finite();
        let value = if is_defined { self.store.mean_label(point, self.n_neighbours) } else { 0.0 };
        if crossed {
            self.signal = if value * sign > 0.0 { sign } else { 0.0 };
        }
        match is_defined {
            true => Mlmi { value, signal: self.signal },
            false => Mlmi { value: f64::NAN, signal: f64::NAN },
        }
    }
}

/// −1, 0 or 1; 0 where the difference is NaN or zero beside the price.
fn sign_of(difference: f64, price: f64) -> f64 {
    if difference.is_nan() || negligible(difference, price) { 0.0 } else { difference.signum() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::indicators::random_walk::{bar, random_walk};
    use crate::market::indicators::rsi::relative_strength;

    /// The two numbers at each bar.
    #[derive(Debug, PartialEq)]
    struct Series {
        value: Vec<f64>,
        signal: Vec<f64>,
    }

    fn mlmi(bars: &[Bar], options: &MlmiOptions) -> Series {
        let mut index = MomentumIndex::new(options);
        let (value, signal) =
            bars.iter().map(|bar| index.push(bar)).map(|one| (one.value, one.signal)).unzip();
        Series { value, signal }
    }

    /// The index at the last bar of `bars`, from nothing but the definition.
    fn naive(bars: &[Bar]) -> (f64, f64) {
        let close: Vec<f64> = bars.iter().map(|b| (b.open + b.high + b.low + b.close) / 4.0).collect();
        let wma = |values: &[f64], t: usize, n: usize| {
            let top: f64 = (0..n).map(|i| (n - i) as f64 * values[t - i]).sum();
            top / (n * (n + 1) / 2) as f64
        };
        let (slow, fast) = (relative_strength(&close, 20), relative_strength(&close, 5));
        let point = |t: usize| (wma(&slow, t, 20), wma(&fast, t, 20));
        let sign = |t: usize| {
            let d = wma(&close, t, 5) - wma(&close, t, 20);
            if d.abs() <= 1e-9 * close[t] { 0 } else { d.signum() as i32 }
        };
        let mut crosses: Vec<(usize, i32)> = Vec::new();
        for t in 20..close.len() {
            let last = (19..t).rev().map(sign).find(|s| *s != 0);
            if sign(t) != 0 && last.is_some_and(|last| last != sign(t)) {
                crosses.push((t, sign(t)));
            }
        }
        let value_at = |now: usize| {
            let mut near: Vec<(f64, usize, f64)> = Vec::new();
            for pair in crosses.windows(2) {
                let (at, known) = (pair[0].0, pair[1].0);
                if at >= 39 && known <= now {
                    let (p, q) = (point(at), point(now));
                    let label = if close[known] >= close[at] { 1.0 } else { -1.0 };
                    near.push(((p.0 - q.0).hypot(p.1 - q.1), at, label));
                }
            }
            near.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            near.truncate(10);
            if near.is_empty() { 0.0 } else { near.iter().map(|n| n.2).sum::<f64>() / near.len() as f64 }
        };
        let signal = crosses.last().map_or(0.0, |(at, direction)| {
            let value = if *at >= 39 { value_at(*at) } else { 0.0 };
            if value * f64::from(*direction) > 0.0 { f64::from(*direction) } else { 0.0 }
        });
        (value_at(close.len() - 1), signal)
    }

    #[test]
    fn the_index_equals_its_definition_at_every_bar() {
        for seed in 0..3 {
            let bars = random_walk(500, seed);
            let index = mlmi(&bars, &MlmiOptions::default());
            assert!(index.value[..39].iter().chain(&index.signal[..39]).all(|value| value.is_nan()));
            for t in 39..bars.len() {
                let (value, signal) = naive(&bars[..=t]);
                assert!((index.value[t] - value).abs() < 1e-12, "seed {seed} bar {t}");
                assert_eq!(index.signal[t], signal, "seed {seed} bar {t}");
            }
        }
    }

    /// A triangle wave, whose crosses alternate at a known pace.
    fn triangle(n: usize) -> Vec<Bar> {
        let price = |i: usize| 100.0 + (((i % 80) as f64) - 40.0).abs();
        (0..n).map(|i| bar(i, [price(i); 4])).collect()
    }

    #[test]
    fn a_label_is_not_known_before_the_next_cross() {
        let bars = triangle(400);
        let index = mlmi(&bars, &MlmiOptions::default());
        // Turns at 40, 80, 120 …; the means cross a little after each. The cross after bar 40 is the first whose
        // point is defined, so the store is empty until the cross after bar 80.
        let first =
            index.value.iter().position(|value| *value != 0.0 && value.is_finite()).expect("labels come");
        assert!((81..100).contains(&first), "{first}");
        // Whatever happens after the first label's cross cannot have been in the answers before it.
        let mut other = bars.clone();
        for bar in &mut other[first..] {
            *bar = Bar { open: 50.0, high: 50.0, low: 50.0, close: 50.0, ..*bar };
        }
        let changed = mlmi(&other, &MlmiOptions::default());
        assert_eq!(index.value[39..first], changed.value[39..first]);
        assert!(index.value[39..first].iter().all(|value| *value == 0.0));
    }

    #[test]
    fn a_flat_market_never_crosses() {
        let bars: Vec<Bar> = (0..100).map(|i| bar(i, [1.1, 1.1, 1.1, 1.1])).collect();
        let index = mlmi(&bars, &MlmiOptions::default());
        assert!(index.value[39..].iter().chain(&index.signal[39..]).all(|value| *value == 0.0));
    }

    #[test]
    fn the_store_forgets_its_oldest_points() {
        let bars = random_walk(3_000, 4);
        let all = mlmi(&bars, &MlmiOptions::default());
        let few = mlmi(&bars, &MlmiOptions { capacity_points: 1, ..MlmiOptions::default() });
        assert_ne!(all, few);
        assert!(few.value[39..].iter().all(|value| [-1.0, 0.0, 1.0].contains(value)));
    }
}
