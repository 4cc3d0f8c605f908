//! Exponential and weighted means, and the exponential z score.

use crate::market::indicators::recent::Recent;

/// The linearly weighted mean of a window, oldest first: weights 1, 2, … n, the newest the heaviest.
///
/// NaN for an empty window.
#[must_use]
pub fn weighted_mean(window: &[f64]) -> f64 {
    let mut weight = 0.0;
    let mut weights = 0.0;
    let mut sum = 0.0;
    for value in window {
        weight += 1.0;
        weights += weight;
        sum += weight * value;
    }
    sum / weights
}

/// The [`weighted_mean`] of the last `n` values, one value after another.
#[derive(Debug, Clone)]
pub struct WeightedMean {
    n: usize,
    window: Recent,
}

impl WeightedMean {
    /// A mean of the last `n` values that has seen none yet.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { n, window: Recent::new(n) }
    }

    /// Takes the next value, and gives the mean at it; NaN where one of the last `n` is NaN or missing.
    pub fn push(&mut self, value: f64) -> f64 {
        self.window.push(value);
        self.window.last(self.n).map_or(f64::NAN, weighted_mean)
    }
}

/// The exponential mean: m₀ = x₀, then m += α (x − m).
#[derive(Debug, Clone)]
pub struct ExponentialMean {
    rate: f64,
    mean: Option<f64>,
}

impl ExponentialMean {
    /// A mean that moves by `rate` (α, in (0, 1]) of the way to each new value.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { rate, mean: None }
    }

    /// Takes in a value and returns the mean with it.
    pub fn update(&mut self, value: f64) -> f64 {
        let mean = self.mean.map_or(value, |mean| mean + self.rate * (value - mean));
        self.mean = Some(mean);
        mean
    }
}

/// A spread up to here is none: the score is then 0.
const SMALLEST_SPREAD: f64 = 1e-9;

/// The exponential z score `z(x)`: how far a value lies from its exponential mean, in exponential deviations.
#[derive(Debug, Clone)]
pub struct ZScore {
    rate: f64,
    mean: Option<f64>,
    variance: f64,
}

impl ZScore {
    /// A score whose mean and variance move at `rate` (α, in (0, 1]).
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { rate, mean: None, variance: 0.0 }
    }

    /// Takes in x and returns its score: m₀ = x₀, var₀ = 0; d = x − m; m += α d; var = (1 − α)(var + α d²);
    /// z = (x − m) / √var, 0 if √var ≤ 1e-9.
    pub fn update(&mut self, value: f64) -> f64 {
        let before = self.mean.unwrap_or(value);
        let difference = value - before;
        let mean = before + self.rate * difference;
        self.mean = Some(mean);
        self.variance = (1.0 - self.rate) * (self.variance + self.rate * difference * difference);
        let spread = self.variance.sqrt();
        if spread <= SMALLEST_SPREAD { 0.0 } else { (value - mean) / spread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_weighs_most() {
        assert!((weighted_mean(&[1.0, 2.0, 6.0]) - (1.0 + 4.0 + 18.0) / 6.0).abs() < 1e-15);
        let mut mean = WeightedMean::new(3);
        let means = [f64::NAN, 1.0, 2.0, 6.0].map(|value| mean.push(value));
        assert!(means[..3].iter().all(|mean| mean.is_nan()));
        assert!((means[3] - 23.0 / 6.0).abs() < 1e-15);
    }

    #[test]
    fn the_first_value_is_the_first_mean_and_has_no_score() {
        let mut mean = ExponentialMean::new(0.25);
        assert_eq!(mean.update(8.0), 8.0);
        assert_eq!(mean.update(4.0), 7.0);
        let mut score = ZScore::new(0.25);
        assert_eq!(score.update(8.0), 0.0);
        // d = −4, m = 7, var = 0.75 × 0.25 × 16 = 3.
        assert!((score.update(4.0) + 3.0 / 3f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn values_without_spread_score_zero() {
        let mut score = ZScore::new(0.05);
        assert!((0..100).all(|i| score.update(1.0 + f64::from(i % 2) * 1e-12) == 0.0));
    }
}
