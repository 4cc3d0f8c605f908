//! Where a number stands among others, ties counted half.

use crate::market::indicators::tolerance::EQUAL_FRACTION;

/// The mid-rank percentile of `current` among `values`: (less + half of equal) / count, in `[0, 1]`.
///
/// Numbers within 1e-9 of the larger are equal. `values` hold `current` where it is to be counted among them; then
/// the result is above 0 and below 1, and ½ if all are equal. NaN for no values.
#[must_use]
pub fn percentile(values: &[f64], current: f64) -> f64 {
    let (mut n_less, mut n_equal) = (0u64, 0u64);
    for &value in values {
        let tolerance = EQUAL_FRACTION * larger(value.abs(), current.abs());
        let distance = value - current;
        n_less += u64::from(distance < -tolerance);
        n_equal += u64::from(distance.abs() <= tolerance);
    }
    (n_less as f64 + 0.5 * n_equal as f64) / values.len() as f64
}

/// The [`percentile`] as a number in `[-1, 1]`: 2 × percentile − 1.
#[must_use]
pub fn signed_percentile(values: &[f64], current: f64) -> f64 {
    2.0 * percentile(values, current) - 1.0
}

/// The larger of two numbers that are not NaN: one instruction, where `f64::max` asks for NaN first.
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_count_half() {
        assert_eq!(percentile(&[1.0, 2.0, 2.0, 3.0], 2.0), 0.5);
        assert_eq!(percentile(&[1.0, 1.0, 1.0, 2.0], 2.0), 3.5 / 4.0);
        assert_eq!(percentile(&[5.0; 7], 5.0), 0.5);
        assert_eq!(percentile(&[0.0; 7], 0.0), 0.5);
        assert_eq!(signed_percentile(&[1.0, 2.0], 2.0), 0.5);
    }

    #[test]
    fn a_relative_distance_of_a_billionth_is_a_tie() {
        assert_eq!(percentile(&[3e-15 * (1.0 + 5e-10), 3e-15], 3e-15), 0.5);
        assert_eq!(percentile(&[3e-15 * (1.0 - 5e-9), 3e-15], 3e-15), 0.75);
        assert_eq!(percentile(&[-4.0 * (1.0 + 5e-9), -4.0], -4.0), 0.75);
    }

    proptest! {
        #[test]
        fn the_percentile_equals_that_of_the_sorted_list(
            values in prop::collection::vec((-20i32..20).prop_map(f64::from), 1..200), at in any::<prop::sample::Index>(),
        ) {
            let current = values[at.index(values.len())];
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let first = sorted.iter().position(|value| *value == current).unwrap();
            let past = sorted.iter().rposition(|value| *value == current).unwrap() + 1;
            let middle = (first + past) as f64 / 2.0;
            prop_assert!((percentile(&values, current) - middle / values.len() as f64).abs() < 1e-15);
        }
    }
}
