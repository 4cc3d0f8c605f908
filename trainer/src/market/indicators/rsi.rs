//! Relative strength: which part of the recent movement went up.

use crate::market::indicators::tolerance::negligible;

/// Wilder's relative strength index over `n` changes at each value, in [0, 100]; NaN before value `n`.
///
/// 100 × gain / (gain + loss), where gain and loss are the averages of rises and falls, seeded by the means of the
/// first `n` and then moved by 1 / `n` of the way; 50 where both are zero beside the value (Wilder, *New Concepts
/// in Technical Trading Systems*, 1978). A change within rounding of the value is none.
#[must_use]
pub fn relative_strength(values: &[f64], n: usize) -> Vec<f64> {
    let mut strengths = vec![f64::NAN; values.len()];
    let length = n as f64;
    let (mut gain, mut loss) = (0.0, 0.0);
    for i in 1..values.len() {
        let change = values[i] - values[i - 1];
        let change = if negligible(change, values[i]) { 0.0 } else { change };
        if i <= n {
            gain += change.max(0.0) / length;
            loss += (-change).max(0.0) / length;
        } else {
            gain = (gain * (length - 1.0) + change.max(0.0)) / length;
            loss = (loss * (length - 1.0) + (-change).max(0.0)) / length;
        }
        if i >= n {
            let movement = gain + loss;
            strengths[i] = if negligible(movement, values[i]) { 50.0 } else { 100.0 * gain / movement };
        }
    }
    strengths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::indicators::random_walk::random_walk;

    #[test]
    fn strength_equals_wilders_formula_written_out() {
        let values: Vec<f64> = random_walk(300, 8).iter().map(|bar| bar.close).collect();
        for n in [5usize, 20] {
            let strengths = relative_strength(&values, n);
            assert!(strengths[..n].iter().all(|strength| strength.is_nan()));
            let rise = |i: usize| (values[i] - values[i - 1]).max(0.0);
            let fall = |i: usize| (values[i - 1] - values[i]).max(0.0);
            let mut up = (1..=n).map(rise).sum::<f64>() / n as f64;
            let mut down = (1..=n).map(fall).sum::<f64>() / n as f64;
            for (i, strength) in strengths.iter().enumerate().skip(n) {
                if i > n {
                    up += (rise(i) - up) / n as f64;
                    down += (fall(i) - down) / n as f64;
                }
                let expected = 100.0 - 100.0 / (1.0 + up / down);
                assert!((strength - expected).abs() < 1e-9, "value {i}");
            }
        }
    }

    #[test]
    fn a_flat_series_has_strength_fifty_and_a_rising_one_a_hundred() {
        assert_eq!(relative_strength(&[7.0; 9], 5)[5..], [50.0; 4]);
        let rising: Vec<f64> = (1..10).map(f64::from).collect();
        assert_eq!(relative_strength(&rising, 5)[5..], [100.0; 4]);
    }
}
