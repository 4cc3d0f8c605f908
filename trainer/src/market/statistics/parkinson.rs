//! Volatility from the ranges of bars.

/// Parkinson's estimator of the standard deviation of a bar's log return, from each bar's ln(high / low):
/// √(Σ ln(high / low)² / (4 n ln 2)), at least 0; NaN for no bars.
///
/// M. Parkinson, *The Extreme Value Method for Estimating the Variance of the Rate of Return*, Journal of Business
/// 53 (1980).
#[must_use]
pub fn parkinson(log_ranges: &[f64]) -> f64 {
    let sum: f64 = log_ranges.iter().map(|range| range * range).sum();
    (sum / (4.0 * std::f64::consts::LN_2 * log_ranges.len() as f64)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_give_the_number_of_the_formula() {
        let expected = ((0.01f64.powi(2) + 0.02f64.powi(2)) / 2.0 / (4.0 * 2f64.ln())).sqrt();
        assert!((parkinson(&[0.01, 0.02]) - expected).abs() < 1e-17);
        assert_eq!(parkinson(&[0.0; 48]), 0.0);
        assert!(parkinson(&[]).is_nan());
    }
}
