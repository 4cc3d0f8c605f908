//! Is there a trend, and how sure is it?

use crate::market::indicators::tolerance::EQUAL_FRACTION;

/// How straight the way was: (last − first) / Σ |steps|, in `[-1, 1]`; 0 if the steps together are within 1e-9 of
/// the price. Kaufman's efficiency ratio, with its sign.
#[must_use]
pub fn efficiency(prices: &[f64]) -> f64 {
    let (Some(first), Some(last)) = (prices.first(), prices.last()) else { return 0.0 };
    let way: f64 = prices.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
    if way <= EQUAL_FRACTION * last.abs() { 0.0 } else { ((last - first) / way).clamp(-1.0, 1.0) }
}

/// The t-statistic of the slope of `values` on their position, with n − 2 degrees of freedom: least squares with an
/// intercept, slope / √(residual sum of squares / (n − 2) / Σ (i − ī)²).
///
/// 0 if all values are within 1e-9 of each other (log prices: of the price), or there are fewer than 3. Infinite for
/// a line without a residual.
#[must_use]
pub fn slope_t_statistic(values: &[f64]) -> f64 {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.len() < 3 || highest - lowest <= EQUAL_FRACTION {
        return 0.0;
    }
    let n = values.len() as f64;
    // Off the first value before the mean is taken: what is left is small, and exact where the values are near.
    let offset_mean = values.iter().map(|value| value - values[0]).sum::<f64>() / n;
    let centred = || {
        values
            .iter()
            .enumerate()
            .map(|(i, value)| (i as f64 - 0.5 * (n - 1.0), value - values[0] - offset_mean))
    };
    let time_squares = n * (n * n - 1.0) / 12.0;
    let slope = centred().map(|(time, value)| time * value).sum::<f64>() / time_squares;
    let residual_squares: f64 = centred().map(|(time, value)| (value - slope * time).powi(2)).sum();
    let t = slope / (residual_squares / (n - 2.0) / time_squares).sqrt();
    if t.is_nan() { 0.0 } else { t }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    #[test]
    fn a_straight_way_is_one_and_a_round_trip_is_zero() {
        assert_eq!(efficiency(&[1.0, 2.0, 4.0]), 1.0);
        assert_eq!(efficiency(&[4.0, 2.0, 1.0]), -1.0);
        assert_eq!(efficiency(&[1.0, 2.0, 1.0]), 0.0);
        assert_eq!(efficiency(&[1.0, 3.0, 2.0]), 1.0 / 3.0);
        assert_eq!(efficiency(&[7.0; 49]), 0.0);
        assert_eq!(efficiency(&[7.0, 7.0 + 1e-9, 7.0 + 2e-9]), 0.0);
    }

    /// The textbook sums, not centred.
    fn naive_t(values: &[f64]) -> f64 {
        let n = values.len() as f64;
        let (mut x, mut y, mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (i, value) in values.iter().enumerate() {
            let time = i as f64;
            x += time;
            y += value;
            xx += time * time;
            xy += time * value;
            yy += value * value;
        }
        let r = (n * xy - x * y) / ((n * xx - x * x) * (n * yy - y * y)).sqrt();
        r * ((n - 2.0) / (1.0 - r * r)).sqrt()
    }

    #[test]
    fn the_t_statistic_equals_that_of_the_correlation() {
        for seed in 0..50 {
            let mut rng = Pcg64Mcg::seed_from_u64(seed);
            let mut value = 0.0;
            let values: Vec<f64> = (0..48)
                .map(|_| {
                    value += rng.random_range(-1.0..1.1);
                    value
                })
                .collect();
            let (t, expected) = (slope_t_statistic(&values), naive_t(&values));
            assert!((t - expected).abs() <= 1e-9 * (1.0 + expected.abs()), "seed {seed}: {t}, {expected}");
        }
    }

    #[test]
    fn flat_values_have_no_slope_and_a_line_has_no_doubt() {
        assert_eq!(slope_t_statistic(&[10.7; 48]), 0.0);
        let nearly: Vec<f64> = (0..48).map(|i| 10.7 + 1e-11 * f64::from(i)).collect();
        assert_eq!(slope_t_statistic(&nearly), 0.0);
        let line: Vec<f64> = (0..48).map(|i| 10.7 - 0.25 * f64::from(i)).collect();
        assert!(slope_t_statistic(&line) < -1e9);
        assert_eq!((slope_t_statistic(&line) / 8.0).tanh(), -1.0);
        assert_eq!(slope_t_statistic(&[1.0, 2.0]), 0.0);
    }
}
