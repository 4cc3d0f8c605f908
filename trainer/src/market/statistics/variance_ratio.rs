//! Do returns follow or undo each other?

use crate::market::indicators::tolerance::EQUAL_FRACTION;

/// Lo and MacKinlay's z\*(q): the variance ratio of q-bar to one-bar returns less 1, over its standard error under
/// heteroskedasticity; standard normal for a martingale, above 0 where returns follow each other.
///
/// With T returns r, their mean μ and e = r − μ:
///
/// ```text
/// σ_a² = Σ e² / (T − 1)
/// σ_c² = Σ_{k = q … T} (r_{k−q+1} + … + r_k − q μ)² / m,    m = q (T − q + 1) (1 − q / T)
/// θ    = Σ_{j = 1 … q−1} (2 (q − j) / q)² δ_j,              δ_j = T Σ_{k > j} e_k² e_{k−j}² / (Σ e²)²
/// z*   = √T (σ_c² / σ_a² − 1) / √θ
/// ```
///
/// Overlapping, both variances unbiased. 0 if all returns are within 1e-9 of each other, and where there are not
/// more than q of them. Infinite if θ is 0 and the ratio is not 1 (a few lone moves in a market that stands still).
///
/// A. Lo, A. C. MacKinlay, *Stock Market Prices Do Not Follow Random Walks*, Review of Financial Studies 1 (1988),
/// equations 12, 16, 19 and 20.
#[must_use]
pub fn variance_ratio_z(log_returns: &[f64], q: usize) -> f64 {
    let lowest = log_returns.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = log_returns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if q == 0 || log_returns.len() <= q || highest - lowest <= EQUAL_FRACTION {
        return 0.0;
    }
    let (n, horizon) = (log_returns.len() as f64, q as f64);
    let mean = log_returns.iter().sum::<f64>() / n;
    let squares: Vec<f64> = log_returns.iter().map(|value| (value - mean).powi(2)).collect();
    let sum_of_squares: f64 = squares.iter().sum();
    let one_bar_variance = sum_of_squares / (n - 1.0);

    let unbiased_count = horizon * (n - horizon + 1.0) * (1.0 - horizon / n);
    let horizon_variance = log_returns
        .windows(q)
        .map(|window| (window.iter().sum::<f64>() - horizon * mean).powi(2))
        .sum::<f64>()
        / unbiased_count;

    let mut theta = 0.0;
    for lag in 1..q {
        let products: f64 = squares[lag..].iter().zip(&squares).map(|(later, earlier)| later * earlier).sum();
        let weight = 2.0 * (horizon - lag as f64) / horizon;
        theta += weight * weight * n * products / (sum_of_squares * sum_of_squares);
    }
    let z = n.sqrt() * (horizon_variance / one_bar_variance - 1.0) / theta.sqrt();
    if z.is_nan() { 0.0 } else { z }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    #[test]
    fn the_statistic_equals_numpys_transcription() {
        let returns = crate::market::statistics::mmd::tests::fixture();
        assert!((variance_ratio_z(&returns, 6) - -0.201_354_690_402_209_57).abs() < 1e-11);
        assert!((variance_ratio_z(&returns[..100], 2) - -0.591_688_648_742_574_5).abs() < 1e-11);
    }

    #[test]
    fn a_martingale_of_changing_volatility_is_standard_normal() {
        let mut rng = Pcg64Mcg::seed_from_u64(5);
        let n = 2000;
        let (mut sum, mut sum_of_squares) = (0.0, 0.0);
        for _ in 0..n {
            let mut volatility: f64 = 1e-3;
            let returns: Vec<f64> = (0..288)
                .map(|_| {
                    let value = volatility * rng.random_range(-1.0..1.0);
                    volatility = 0.9 * volatility + 0.1e-3 + 0.1 * value.abs();
                    value
                })
                .collect();
            let z = variance_ratio_z(&returns, 6);
            sum += z;
            sum_of_squares += z * z;
        }
        let mean = sum / f64::from(n);
        let spread = (sum_of_squares / f64::from(n) - mean * mean).sqrt();
        assert!(mean.abs() < 0.15, "{mean}");
        assert!((spread - 1.0).abs() < 0.1, "{spread}");
    }

    #[test]
    fn returns_that_follow_each_other_are_above_zero_and_that_undo_each_other_below() {
        let mut rng = Pcg64Mcg::seed_from_u64(6);
        let noise: Vec<f64> = (0..300).map(|_| rng.random_range(-1e-3..1e-3)).collect();
        let following: Vec<f64> = noise.windows(2).map(|pair| pair[0] + pair[1]).collect();
        let undoing: Vec<f64> = noise.windows(2).map(|pair| pair[0] - pair[1]).collect();
        assert!(variance_ratio_z(&following[..288], 6) > 3.0);
        assert!(variance_ratio_z(&undoing[..288], 6) < -3.0);
    }

    #[test]
    fn equal_returns_say_nothing() {
        assert_eq!(variance_ratio_z(&[0.0; 288], 6), 0.0);
        let nearly: Vec<f64> = (0..288).map(|i| 1e-4 + 1e-12 * f64::from(i % 7)).collect();
        assert_eq!(variance_ratio_z(&nearly, 6), 0.0);
        assert_eq!(variance_ratio_z(&[0.1, 0.2], 6), 0.0);
        let mut lone = [0.0; 288];
        lone[100] = 0.01;
        lone[120] = -0.01;
        assert_eq!(variance_ratio_z(&lone, 6), f64::INFINITY);
    }
}
