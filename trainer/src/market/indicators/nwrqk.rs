//! Kernel regression of price on time: where the price would be without its noise.

use crate::market::indicators::recent::Recent;

/// Constants of the kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelOptions {
    /// Bars in the window, the current one included, ≥ 1.
    pub window_bars: usize,
    /// h: the distance in bars at which weights begin to fall, > 0.
    pub bandwidth_bars: f64,
    /// r: how far apart the scales lie that are mixed, > 0; large r tends to a Gaussian.
    pub relative_weight: f64,
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self { window_bars: 25, bandwidth_bars: 8.0, relative_weight: 8.0 }
    }
}

/// The Nadaraya–Watson estimate with a rational quadratic kernel, one price after another.
///
/// Σ w p / Σ w over bar distances i = 0 … `window_bars` − 1, w = (1 + i² / (2 r h²))^−r (Nadaraya 1964, Watson
/// 1964; the kernel: Rasmussen and Williams, *Gaussian Processes*, eq. 4.19). Only past prices enter: it never
/// repaints.
#[derive(Debug, Clone)]
pub struct KernelRegression {
    /// Oldest price first.
    weights: Vec<f64>,
    window: Recent,
}

impl KernelRegression {
    /// A regression that has seen no price yet.
    #[must_use]
    pub fn new(options: &KernelOptions) -> Self {
        let (h, r) = (options.bandwidth_bars, options.relative_weight);
        let weight = |i: usize| (1.0 + (i * i) as f64 / (2.0 * r * h * h)).powf(-r);
        Self {
            weights: (0..options.window_bars).rev().map(weight).collect(),
            window: Recent::new(options.window_bars),
        }
    }

    /// Takes the next price, and gives the estimate at it; NaN before price `window_bars − 1`.
    pub fn push(&mut self, price: f64) -> f64 {
        self.window.push(price);
        let weight: f64 = self.weights.iter().sum();
        self.window.last(self.weights.len()).map_or(f64::NAN, |window| {
            self.weights.iter().zip(window).map(|(w, p)| w * p).sum::<f64>() / weight
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::indicators::random_walk::random_walk;

    fn kernel_regression(prices: &[f64]) -> Vec<f64> {
        let mut regression = KernelRegression::new(&KernelOptions::default());
        prices.iter().map(|price| regression.push(*price)).collect()
    }

    #[test]
    fn the_estimate_equals_the_formula_written_out() {
        let prices: Vec<f64> = random_walk(80, 5).iter().map(|bar| bar.close).collect();
        let estimates = kernel_regression(&prices);
        assert!(estimates[..24].iter().all(|estimate| estimate.is_nan()));
        for t in 24..prices.len() {
            let (mut above, mut below) = (0.0, 0.0);
            for i in 0..=24usize {
                let weight = 1.0 / (1.0 + (i as f64).powi(2) / (2.0 * 8.0 * 64.0)).powi(8);
                above += weight * prices[t - i];
                below += weight;
            }
            assert!((estimates[t] / (above / below) - 1.0).abs() < 1e-12, "price {t}");
        }
    }

    #[test]
    fn a_constant_price_is_its_own_estimate() {
        let estimates = kernel_regression(&[1.1; 30]);
        assert!(estimates[24..].iter().all(|estimate| (estimate / 1.1 - 1.0).abs() < 1e-15));
    }
}
