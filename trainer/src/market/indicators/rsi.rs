//! Relative strength: which part of the recent movement went up.

use crate::market::indicators::tolerance::negligible;

/// Wilder's relative strength index over `n` changes, one value after another.
///
/// 100 × gain / (gain + loss), where gain and loss are the averages of rises and falls, seeded by the means of the
/// first `n` and then moved by 1 / `n` of the way; 50 where both are zero beside the value (Wilder, *New Concepts
/// in Technical Trading Systems*, 1978). A change within rounding of the value is none.
#[derive(Debug, Clone)]
pub struct RelativeStrength {
    n: usize,
    n_changes: usize,
    before: Option<f64>,
    gain: f64,
    loss: f64,
}

impl RelativeStrength {
    /// An index over `n` changes that has seen no value yet.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { n, n_changes: 0, before: None, gain: 0.0, loss: 0.0 }
    }

    /// Takes the next value, and gives the index at it, in [0, 100]; NaN before value `n`.
    pub fn push(&mut self, value: f64) -> f64 {
        let Some(before) = self.before.replace(value) else { return f64::NAN };
        let length = self.n as f64;
        let change = value - before;
        let change = if negligible(change, value) { 0.0 } else { change };
        self.n_changes += 1;
        if self.n_changes <= self.n {
            self.gain += change.max(0.0) / length;
            self.loss += (-change).max(0.0) / length;
        } else {
            self.gain = (self.gain * (length - 1.0) + change.max(0.0)) / length;
            self.loss = (self.loss * (length - 1.0) + (-change).max(0.0)) / length;
        }
        if self.n_changes < self.n {
            return f64::NAN;
        }
        let movement = self.gain + self.loss;
        if negligible(movement, value) { 50.0 } else { 100.0 * self.gain / movement }
    }
}

/// [`RelativeStrength`] at each of `values`.
#[cfg(test)]
pub(super) fn relative_strength(values: &[f64], n: usize) -> Vec<f64> {
    let mut strength = RelativeStrength::new(n);
    values.iter().map(|value| strength.push(*value)).collect()
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
