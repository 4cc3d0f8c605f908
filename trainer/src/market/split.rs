//! Cuts an instrument's decisions by time into train, validation and test, with an embargo between the parts.
//!
//! The embargo is as long as one observation reaches back, so that no window of a later part holds a bar on which an
//! earlier part decided. It does not look at prices, and it never shuffles.

use std::ops::Range;

/// The decisions of each part, in order of time.
///
/// A decision `t` is taken at the close of bar `t` and its result is marked at the close of bar `t + 1`; hence no part
/// reaches past the last bar but one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What the agent learns on.
    pub train: Range<usize>,
    /// The validation part; empty where its fraction is 0.
    pub validation: Range<usize>,
    /// What only the report sees.
    pub test: Range<usize>,
}

/// Splits the decisions `first_decision .. n_bars − 1`.
///
/// The fractions, each in [0, 1), are of the decisions that the embargoes leave over; the test part is the rest. The
/// embargo, in bars, stands between train and validation and between validation and test; without a validation part
/// there is one. `None` where a part that was asked for would hold no decision, or where the fractions leave nothing
/// for the test.
#[must_use]
pub fn split(
    first_decision: usize,
    n_bars: usize,
    train_fraction: f64,
    validation_fraction: f64,
    embargo_bars: usize,
) -> Option<Split> {
    let is_fraction = |x: f64| (0.0..1.0).contains(&x);
    // The sum is compared with a margin: 0.8 + 0.2 leaves nothing, however it rounds.
    let leaves_test = train_fraction + validation_fraction < 1.0 - 1e-9;
    if !is_fraction(train_fraction) || !is_fraction(validation_fraction) || !leaves_test {
        return None;
    }
    let end = n_bars.checked_sub(1)?;
    let has_validation = validation_fraction > 0.0;
    let n_embargoes = if has_validation { 2 } else { 1 };
    let usable = end.checked_sub(first_decision)?.checked_sub(embargo_bars.checked_mul(n_embargoes)?)?;

    let n_train = (usable as f64 * train_fraction) as usize;
    let n_validation = (usable as f64 * validation_fraction) as usize;
    if n_train == 0 || n_train + n_validation >= usable || (has_validation && n_validation == 0) {
        return None;
    }
    let train = first_decision..first_decision + n_train;
    let validation = if has_validation {
        let start = train.end + embargo_bars;
        start..start + n_validation
    } else {
        train.end..train.end
    };
    let test = validation.end + embargo_bars..end;
    Some(Split { train, validation, test })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_ordered_embargoed_and_leave_a_bar_to_mark_the_last_decision() {
        let parts = split(100, 1_101, 0.6, 0.2, 50).expect("large enough");
        assert_eq!(parts.train, 100..640);
        assert_eq!(parts.validation, 690..870);
        assert_eq!(parts.test, 920..1_100);
    }

    #[test]
    fn without_validation_one_embargo_stands_between_train_and_test() {
        let parts = split(0, 101, 0.5, 0.0, 10).expect("large enough");
        assert_eq!(parts, Split { train: 0..45, validation: 45..45, test: 55..100 });
    }

    #[test]
    fn too_little_data_or_fractions_that_leave_no_test_give_none() {
        assert_eq!(split(100, 90, 0.6, 0.2, 0), None);
        assert_eq!(split(0, 0, 0.6, 0.2, 0), None);
        assert_eq!(split(0, 100, 0.6, 0.2, 50), None);
        assert_eq!(split(0, 100, 0.8, 0.2, 0), None);
        assert_eq!(split(0, 100, f64::NAN, 0.2, 0), None);
        assert_eq!(split(0, 100, 0.5, -0.1, 0), None);
        assert_eq!(split(0, 100, 0.6, 0.2, usize::MAX), None);
    }

    proptest! {
        #[test]
        fn no_part_is_empty_and_none_touches_another(
            first in 0usize..500, n_bars in 0usize..5_000, train in 0.0f64..1.0, validation in 0.0f64..1.0,
            embargo in 0usize..400,
        ) {
            if let Some(parts) = split(first, n_bars, train, validation, embargo) {
                prop_assert_eq!(parts.train.start, first);
                prop_assert_eq!(parts.test.end, n_bars - 1);
                prop_assert!(!parts.train.is_empty() && !parts.test.is_empty());
                prop_assert_eq!(parts.validation.is_empty(), validation == 0.0);
                prop_assert!(parts.train.end + embargo <= parts.test.start);
                if !parts.validation.is_empty() {
                    prop_assert_eq!(parts.train.end + embargo, parts.validation.start);
                    prop_assert_eq!(parts.validation.end + embargo, parts.test.start);
                }
            }
        }
    }
}
