//! Illiquidity: how far a unit of traded money moves the price.

/// What one bar contributes: |log return| / (close × volume), a share of price for each unit of money; NaN for a bar
/// that did not trade.
#[must_use]
pub fn impact(log_return: f64, close: f64, volume: f64) -> f64 {
    if volume > 0.0 { log_return.abs() / (close * volume) } else { f64::NAN }
}

/// Amihud's illiquidity: the mean [`impact`] of the bars that traded. NaN if none did.
///
/// Y. Amihud, *Illiquidity and Stock Returns*, Journal of Financial Markets 5 (2002), equation 1.
#[must_use]
pub fn amihud(impacts: &[f64]) -> f64 {
    let (mut sum, mut n_traded) = (0.0, 0u32);
    for impact in impacts.iter().filter(|impact| !impact.is_nan()) {
        sum += impact;
        n_traded += 1;
    }
    sum / f64::from(n_traded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_without_volume_are_left_out() {
        let impacts = [impact(-0.02, 100.0, 10.0), impact(0.5, 100.0, 0.0), impact(0.01, 50.0, 4.0)];
        assert!((amihud(&impacts) - (0.02 / 1000.0 + 0.01 / 200.0) / 2.0).abs() < 1e-20);
    }

    #[test]
    fn a_window_without_volume_has_no_value() {
        assert!(amihud(&[impact(0.1, 100.0, 0.0); 48]).is_nan());
    }
}
