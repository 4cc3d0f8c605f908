//! Kernel regression of price on time: where the price would be without its noise.

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

/// The Nadaraya–Watson estimate with a rational quadratic kernel at each price; NaN before price
/// `window_bars − 1`.
///
/// Σ w p / Σ w over bar distances i = 0 … `window_bars` − 1, w = (1 + i² / (2 r h²))^−r (Nadaraya 1964, Watson
/// 1964; the kernel: Rasmussen and Williams, *Gaussian Processes*, eq. 4.19). Only past prices enter: it never
/// repaints.
#[must_use]
pub fn kernel_regression(prices: &[f64], options: &KernelOptions) -> Vec<f64> {
    let (h, r) = (options.bandwidth_bars, options.relative_weight);
    let n = options.window_bars;
    let weights: Vec<f64> =
        (0..n).rev().map(|i| (1.0 + (i * i) as f64 / (2.0 * r * h * h)).powf(-r)).collect();
    let weight: f64 = weights.iter().sum();
    let estimate = |window: &[f64]| weights.iter().zip(window).map(|(w, p)| w * p).sum::<f64>() / weight;
    (1..=prices.len()).map(|end| if end < n { f64::NAN } else { estimate(&prices[end - n..end]) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::indicators::random_walk::random_walk;

    #[test]
    fn the_estimate_equals_the_formula_written_out() {
        let prices: Vec<f64> = random_walk(80, 5).iter().map(|bar| bar.close).collect();
        let estimates = kernel_regression(&prices, &KernelOptions::default());
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
        let estimates = kernel_regression(&[1.1; 30], &KernelOptions::default());
        assert!(estimates[24..].iter().all(|estimate| (estimate / 1.1 - 1.0).abs() < 1e-15));
    }
}
