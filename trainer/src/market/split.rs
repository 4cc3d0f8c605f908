//! Cuts a run's time into train, validation and test: at the same instants for every instrument, with an embargo
//! between the parts.
//!
//! ```text
//! old listing  |······|tttttttttttttttttt|······|vvvvvvv|······|eeeeeee|     · warm-up or embargo
//! new listing                                |·····|vvvv|······|eeeeeee|     t train, v validation, e test
//!                                        ^      ^       ^      ^
//!                              train_until      from    until  test_from
//! ```
//!
//! The instants are shares of the decisions of all instruments together, each time counted once. No bar of a later
//! part lies in an earlier one, whichever instrument it is of: markets of one time move together. An instrument that
//! begins later has less training, or none.
//!
//! The embargo is as long as one observation reaches back, so that no window of a later part holds a bar on which an
//! earlier part decided. It is held in the bars of each instrument, of which a market with sessions has fewer a day.
//! Nothing here looks at prices, and nothing is shuffled.

use std::ops::Range;

use crate::market::bar::Bar;

/// The decisions of one instrument in each part, in order of time; an empty range where it has none.
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

/// The instants between which the parts of a run lie, as closes of bars, UTC in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutTimes {
    /// No decision of the training is marked after it.
    pub train_until_millis: i64,
    /// The first decision of the validation and the last mark; `None` where its fraction is 0.
    pub validation_millis: Option<(i64, i64)>,
    /// The first decision of the test.
    pub test_from_millis: i64,
}

/// Shares of the time, and the bars between two parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Share of the decisions that is trained on, in [0, 1).
    pub train_fraction: f64,
    /// Share that is validated on, in [0, 1). The rest is the test.
    pub validation_fraction: f64,
    /// Bars between two parts.
    pub embargo_bars: usize,
}

impl Shares {
    /// How many embargoes stand between the parts.
    #[must_use]
    pub fn n_embargoes(&self) -> usize {
        if self.validation_fraction > 0.0 { 2 } else { 1 }
    }

    /// The fewest decisions that can be divided; `None` for shares that divide no number below a million.
    #[must_use]
    pub fn n_needed(&self) -> Option<usize> {
        let n_between = self.n_embargoes() * self.embargo_bars;
        (1..1_000_000).map(|n_usable| n_between + n_usable).find(|n| self.divide(*n).is_some())
    }

    /// The numbers of decisions in training and validation out of `n_decisions`.
    fn divide(&self, n_decisions: usize) -> Option<(usize, usize)> {
        let Shares { train_fraction, validation_fraction, embargo_bars } = *self;
        let is_fraction = |x: f64| (0.0..1.0).contains(&x);
        // The sum is compared with a margin: 0.8 + 0.2 leaves nothing, however it rounds.
        let leaves_test = train_fraction + validation_fraction < 1.0 - 1e-9;
        if !is_fraction(train_fraction) || !is_fraction(validation_fraction) || !leaves_test {
            return None;
        }
        let usable = n_decisions.checked_sub(embargo_bars.checked_mul(self.n_embargoes())?)?;
        let n_train = (usable as f64 * train_fraction) as usize;
        let n_validation = (usable as f64 * validation_fraction) as usize;
        let lacks_validation = validation_fraction > 0.0 && n_validation == 0;
        let is_empty = n_train == 0 || n_train + n_validation >= usable || lacks_validation;
        (!is_empty).then_some((n_train, n_validation))
    }
}

/// The instants that cut `decision_millis`, the closes at which some instrument decides, ascending and each once.
///
/// The fractions are of the decisions that the embargoes leave over. The embargo stands between train and validation
/// and between validation and test; without a validation part there is one. `None` where a part that was asked for
/// would hold no decision, or where the fractions leave nothing for the test.
#[must_use]
pub fn cut_times(decision_millis: &[i64], shares: &Shares) -> Option<CutTimes> {
    let (n_train, n_validation) = shares.divide(decision_millis.len())?;
    let embargo_bars = shares.embargo_bars;
    let at = |index: usize| decision_millis.get(index).copied();
    let validation_start = n_train + embargo_bars;
    let validation_end = validation_start + n_validation;
    let (validation_millis, test_start) = if n_validation > 0 {
        (Some((at(validation_start)?, at(validation_end)?)), validation_end + embargo_bars)
    } else {
        (None, validation_start)
    };
    Some(CutTimes { train_until_millis: at(n_train)?, validation_millis, test_from_millis: at(test_start)? })
}

impl CutTimes {
    /// The parts of an instrument with `bars`, which decides from bar `first_decision` on.
    #[must_use]
    pub fn split(&self, bars: &[Bar], first_decision: usize, embargo_bars: usize) -> Split {
        let end = bars.len().saturating_sub(1);
        // The first bar that closes at a time or later.
        let at = |millis: i64| bars.partition_point(|bar| bar.close_millis < millis);
        // The end of the decisions that are marked by a time.
        let marked_by = |millis: i64| {
            let n_closed = bars.partition_point(|bar| bar.close_millis <= millis);
            n_closed.saturating_sub(1).min(end)
        };
        let part = |start: usize, end: usize| match start.max(first_decision)..end {
            // Behind the last bar, where nothing takes it for a moment in time.
            empty if empty.is_empty() => bars.len()..bars.len(),
            part => part,
        };
        let after = |millis: i64| at(millis).saturating_add(embargo_bars);
        let train = part(0, marked_by(self.train_until_millis));
        let after_train = after(self.train_until_millis);
        let (validation, after_validation) = match self.validation_millis {
            Some((from, until)) => (part(at(from).max(after_train), marked_by(until)), after(until)),
            None => (part(end, end), after_train),
        };
        let test = part(at(self.test_from_millis).max(after_train).max(after_validation), end);
        Split { train, validation, test }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::bar::DECISION_MILLIS;
    use proptest::prelude::*;

    fn bars_at(opens: impl IntoIterator<Item = i64>) -> Vec<Bar> {
        let bar = |i: i64| Bar {
            open_millis: i * DECISION_MILLIS,
            close_millis: (i + 1) * DECISION_MILLIS,
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 0.0,
        };
        opens.into_iter().map(bar).collect()
    }

    /// The closes at which some of the instruments decides.
    fn decisions(instruments: &[(Vec<Bar>, usize)]) -> Vec<i64> {
        let of = |(bars, first): &(Vec<Bar>, usize)| -> Vec<i64> {
            let end = bars.len().saturating_sub(1).max(*first);
            bars.get(*first..end).unwrap_or_default().iter().map(|bar| bar.close_millis).collect()
        };
        let mut all: Vec<i64> = instruments.iter().flat_map(of).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The parts of one instrument alone.
    fn split(first: usize, n_bars: usize, train: f64, validation: f64, embargo_bars: usize) -> Option<Split> {
        let shares = Shares { train_fraction: train, validation_fraction: validation, embargo_bars };
        let alone = [(bars_at(0..n_bars as i64), first)];
        let cut = cut_times(&decisions(&alone), &shares)?;
        Some(cut.split(&alone[0].0, first, embargo_bars))
    }

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
        assert_eq!((parts.train, parts.test), (0..45, 55..100));
        assert!(parts.validation.is_empty());
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

    #[test]
    fn an_instrument_that_begins_late_has_no_training_and_the_same_test() {
        let shares = Shares { train_fraction: 0.6, validation_fraction: 0.2, embargo_bars: 50 };
        let both = [(bars_at(0..2_000), 100), (bars_at(1_500..2_000), 100)];
        let cut = cut_times(&decisions(&both), &shares).expect("large enough");
        let [old, new] = both.each_ref().map(|(bars, first)| cut.split(bars, *first, 50));
        assert_eq!(Some(&old), split(100, 2_000, 0.6, 0.2, 50).as_ref(), "the later one moves no cut");
        assert!(new.train.is_empty());
        assert_eq!(both[0].0[old.test.start].close_millis, both[1].0[new.test.start].close_millis);
    }

    #[test]
    fn a_market_with_sessions_keeps_the_embargo_in_its_own_bars() {
        let shares = Shares { train_fraction: 0.6, validation_fraction: 0.2, embargo_bars: 288 };
        // Around the clock, and a quarter of every day.
        let sessions = bars_at((0..20_000).filter(|i| i % 288 < 72));
        let both = [(bars_at(0..20_000), 1_000), (sessions, 1_000)];
        let cut = cut_times(&decisions(&both), &shares).expect("large enough");
        let (bars, first) = &both[1];
        let parts = cut.split(bars, *first, 288);
        assert!(parts.train.end + 288 <= parts.validation.start && !parts.train.is_empty(), "{parts:?}");
        assert!(parts.validation.end + 288 <= parts.test.start && !parts.test.is_empty(), "{parts:?}");
    }

    proptest! {
        #[test]
        fn alone_no_part_is_empty_and_none_touches_another(
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

        /// Over random spans, with gaps: no bar of a later part, of whichever instrument, lies in an earlier one.
        #[test]
        fn no_bar_of_any_test_lies_in_any_train(
            spans in prop::collection::vec((0i64..3_000, 0i64..3_000, 1i64..4, 0usize..200), 1..5),
            train in 0.1f64..0.8, validation in 0.0f64..0.3, embargo in 0usize..300,
        ) {
            let instruments: Vec<(Vec<Bar>, usize)> = spans
                .iter()
                .map(|(from, length, every, first)| {
                    let opens = (*from..from + length).filter(|i| (i / 97) % every == 0);
                    (bars_at(opens), *first)
                })
                .collect();
            let shares = Shares { train_fraction: train, validation_fraction: validation, embargo_bars: embargo };
            let Some(cut) = cut_times(&decisions(&instruments), &shares) else { return Ok(()) };
            let splits: Vec<Split> =
                instruments.iter().map(|(bars, first)| cut.split(bars, *first, embargo)).collect();
            // The last mark of a part and its first decision, over all instruments.
            let last = |of: fn(&Split) -> &Range<usize>| {
                let parts = instruments.iter().zip(&splits).filter(|(_, split)| !of(split).is_empty());
                parts.map(|((bars, _), split)| bars[of(split).end].close_millis).max()
            };
            let first = |of: fn(&Split) -> &Range<usize>| {
                let parts = instruments.iter().zip(&splits).filter(|(_, split)| !of(split).is_empty());
                parts.map(|((bars, _), split)| bars[of(split).start].close_millis).min()
            };
            let parts: [fn(&Split) -> &Range<usize>; 3] =
                [|split| &split.train, |split| &split.validation, |split| &split.test];
            for (earlier, later) in [(0, 1), (0, 2), (1, 2)] {
                if let (Some(last), Some(first)) = (last(parts[earlier]), first(parts[later])) {
                    // Without an embargo the last mark is the first decision's close.
                    prop_assert!(last <= first, "{splits:?}");
                }
            }
            for ((bars, first_decision), split) in instruments.iter().zip(&splits) {
                for part in [&split.train, &split.validation, &split.test].into_iter().filter(|p| !p.is_empty()) {
                    prop_assert!(part.start >= *first_decision && part.end < bars.len());
                }
                if !split.train.is_empty() && !split.test.is_empty() {
                    prop_assert!(split.train.end + embargo <= split.test.start);
                }
            }
        }
    }
}
