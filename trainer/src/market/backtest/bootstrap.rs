//! Intervals of Sharpe and Sortino by the stationary bootstrap.
//!
//! Politis & Romano 1994: a resample joins blocks of the returns, each of which begins anywhere and has a geometric length,
//! and goes round from the last return to the first. Blocks keep what neighbouring bars have in common, such as calm and
//! wild days, which single returns would lose. The generator has a fixed seed, so an interval is a function of its returns.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Resamples per interval.
const N_RESAMPLES: usize = 1_000;
/// Resamples left out at each end: 2.5 % each.
const N_OUTSIDE: usize = 25;
/// Fewer returns than this give no interval.
const FEWEST_RETURNS: usize = 30;
/// A mean block is no longer than this share of the returns.
const LONGEST_BLOCK_FRACTION: f64 = 0.1;

/// 95 % intervals, per bar: not annualised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Intervals {
    /// Of mean over standard deviation.
    pub sharpe: [f64; 2],
    /// Of mean over the root mean square of the negative returns.
    pub sortino: [f64; 2],
}

/// Sums over the first k returns, for each k, so that the sums of a block are differences.
struct Sums {
    returns: Vec<f64>,
    squares: Vec<f64>,
    loss_squares: Vec<f64>,
}

impl Sums {
    fn of(returns: &[f64]) -> Self {
        let cumulative = |of: fn(f64) -> f64| {
            let mut sum = 0.0;
            let after = returns.iter().map(|&value| {
                sum += of(value);
                sum
            });
            std::iter::once(0.0).chain(after).collect()
        };
        Self {
            returns: cumulative(|r| r),
            squares: cumulative(|r| r * r),
            loss_squares: cumulative(|r| r.min(0.0).powi(2)),
        }
    }

    /// Adds the sums of the returns from `start` to `end`.
    fn add(&self, start: usize, end: usize, total: &mut [f64; 3]) {
        for (total, sums) in total.iter_mut().zip([&self.returns, &self.squares, &self.loss_squares]) {
            *total += sums[end] - sums[start];
        }
    }
}

/// The intervals of simple returns per bar, where blocks have `mean_block` bars on average. None where there are fewer than
/// 30 returns, or they do not vary. Takes 24 bytes per return while it runs.
#[must_use]
pub fn intervals(returns: &[f64], mean_block: f64) -> Option<Intervals> {
    let n = returns.len();
    let varies = returns.windows(2).any(|pair| pair[0] != pair[1]);
    if n < FEWEST_RETURNS || !varies {
        return None;
    }
    let mean_block = mean_block.clamp(1.0, n as f64 * LONGEST_BLOCK_FRACTION);
    // ln(1 − 1 / mean); −∞ where every block is one bar, and then the quotient below is 0.
    let log_of_going_on = (1.0 - 1.0 / mean_block).ln();
    let sums = Sums::of(returns);
    let mut rng = Pcg64Mcg::seed_from_u64(n as u64);
    let (mut sharpes, mut sortinos) = (Vec::with_capacity(N_RESAMPLES), Vec::with_capacity(N_RESAMPLES));
    for _ in 0..N_RESAMPLES {
        let (mut total, mut n_left) = ([0.0; 3], n);
        while n_left > 0 {
            let drawn = 1.0 - rng.random::<f64>();
            let length = (1.0 + (drawn.ln() / log_of_going_on).floor()).min(n_left as f64) as usize;
            let start = rng.random_range(0..n);
            let end = start + length;
            sums.add(start, end.min(n), &mut total);
            if end > n {
                sums.add(0, end - n, &mut total);
            }
            n_left -= length;
        }
        let [sum, squares, loss_squares] = total;
        let (n, mean) = (n as f64, sum / n as f64);
        let variance = (squares - sum * mean).max(0.0) / (n - 1.0);
        sharpes.push(ratio(mean, variance.sqrt()));
        sortinos.push(ratio(mean, (loss_squares / n).sqrt()));
    }
    Some(Intervals { sharpe: middle(&mut sharpes), sortino: middle(&mut sortinos) })
}

/// `a / b`, 0 where `b` is not above 0.
pub(super) fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// The ends of the middle 95 %.
fn middle(values: &mut [f64]) -> [f64; 2] {
    values.sort_unstable_by(f64::total_cmp);
    [values[N_OUTSIDE], values[values.len() - 1 - N_OUTSIDE]]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns with a mean of 0.1 standard deviations.
    fn returns(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        // The sum of twelve uniform numbers has variance 1.
        let normal = |rng: &mut Pcg64Mcg| (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        (0..n).map(|_| (normal(&mut rng) + 0.1) * 1e-3).collect()
    }

    #[test]
    fn an_interval_of_independent_returns_is_as_wide_as_theory_says() {
        let Intervals { sharpe: [low, high], sortino } = intervals(&returns(4_000, 1), 20.0).unwrap();
        // The standard error of a Sharpe ratio is about 1 / √n.
        let wanted = 2.0 * 1.96 / 4_000_f64.sqrt();
        assert!(((high - low) / wanted - 1.0).abs() < 0.2, "{low} to {high}, {wanted}");
        assert!(sortino[0] < sortino[1]);
    }

    #[test]
    fn most_intervals_hold_the_truth() {
        let holds = |seed| {
            let [low, high] = intervals(&returns(1_000, seed), 10.0).unwrap().sharpe;
            low <= 0.1 && 0.1 <= high
        };
        let n_held = (0..100).filter(|&seed| holds(seed)).count();
        assert!((88..=100).contains(&n_held), "{n_held} of 100");
    }

    #[test]
    fn blocks_keep_what_neighbours_have_in_common() {
        // Every return eight times in a row: there are 8 times fewer samples than returns.
        let runs: Vec<f64> = returns(500, 3).into_iter().flat_map(|r| [r; 8]).collect();
        let width = |mean_block| {
            let [low, high] = intervals(&runs, mean_block).unwrap().sharpe;
            high - low
        };
        let ratio = width(100.0) / width(1.0);
        assert!((2.0..3.6).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_same_returns_give_the_same_interval_and_few_or_equal_ones_none() {
        let returns = returns(500, 5);
        assert_eq!(intervals(&returns, 20.0), intervals(&returns, 20.0));
        assert_eq!(intervals(&returns[..29], 5.0), None);
        assert_eq!(intervals(&[0.0; 500], 5.0), None);
    }
}
