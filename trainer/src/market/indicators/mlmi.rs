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
use crate::market::indicators::rsi::relative_strength;
use crate::market::indicators::smoothing::weighted_means;
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

/// The index at each bar. Both series are NaN until the point (x, y) of a bar is defined: bar 39 by default.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlmi {
    /// Mean label of the nearest stored points, in [−1, 1]; 0 while none is stored.
    pub value: Vec<f64>,
    /// At a cross its direction where that agrees with the value's sign, else 0; held until the next cross.
    pub signal: Vec<f64>,
}

/// Computes the index over bars, oldest first.
#[must_use]
pub fn mlmi(bars: &[Bar], options: &MlmiOptions) -> Mlmi {
    let closes: Vec<f64> = bars.iter().map(|bar| (bar.open + bar.high + bar.low + bar.close) / 4.0).collect();
    let fast = weighted_means(&closes, options.fast_bars);
    let slow = weighted_means(&closes, options.slow_bars);
    let strength_mean =
        |n_bars| weighted_means(&relative_strength(&closes, n_bars), options.strength_mean_bars);
    let xs = strength_mean(options.slow_strength_bars);
    let ys = strength_mean(options.fast_strength_bars);

    let mut store = NearestPoints::new(options.capacity_points);
    let mut last_sign = 0.0;
    let mut last_cross: Option<usize> = None;
    let mut signal = 0.0;
    let mut index = Mlmi { value: vec![f64::NAN; bars.len()], signal: vec![f64::NAN; bars.len()] };
    for i in 0..bars.len() {
        let sign = sign_of(fast[i] - slow[i], closes[i]);
        let crossed = sign != 0.0 && last_sign != 0.0 && sign != last_sign;
        if crossed {
            if let Some(before) =
                last_cross.filter(|before| xs[*before].is_finite() && ys[*before].is_finite())
            {
                let fell = above(closes[before], closes[i]);
                store.push((xs[before], ys[before]), if fell { -1.0 } else { 1.0 });
            }
            last_cross = Some(i);
        }
        if sign != 0.0 {
            last_sign = sign;
        }
        let is_defined = xs[i].is_finite() && ys[i].is_finite() && slow[i].is_finite();
        let value = if is_defined { store.mean_label((xs[i], ys[i]), options.n_neighbours) } else { 0.0 };
        if crossed {
            signal = if value * sign > 0.0 { sign } else { 0.0 };
        }
        if is_defined {
            index.value[i] = value;
            index.signal[i] = signal;
        }
    }
    index
}

/// −1, 0 or 1; 0 where the difference is NaN or zero beside the price.
fn sign_of(difference: f64, price: f64) -> f64 {
    if difference.is_nan() || negligible(difference, price) { 0.0 } else { difference.signum() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::indicators::random_walk::{bar, random_walk};

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
