//! Narrow bars to wide ones, without a look into the future.
//!
//! ```text
//! 1-minute bars   | | | | |   | | | | | | |        (a gap, and a last bucket the clock has not finished)
//! 5-minute bars   |         |         |            bucket k = [k width, (k + 1) width), UTC
//! ```
//!
//! A wide bar is visible at its bucket's end and never before: [`Bar::close_millis`] of the result is that end,
//! whatever bars lie in it. Nothing is filled in: a bucket without bars is no bar.
//!
//! Bars that begin off the clock's marks, such as 5-minute bars from two minutes past, close as much past them. The
//! buckets are then shifted by as much, so that a bucket's end is the close of the last bar that can lie in it.

use crate::market::bar::Bar;

/// Resamples `bars` (oldest first, of one width that divides `width_millis`, on one grid) to buckets of `width_millis`
/// from midnight UTC, shifted by as much as the bars are off the marks of their own width.
///
/// A bucket is a bar if at least one bar lies in it: first open, highest high, lowest low, last close, sum of
/// volumes (added oldest first), from the bucket's start to its end. The last bucket counts only if the clock
/// reached its end, that is, if a bar closes there or later. Bars of that width come out as they went in.
///
/// # Panics
///
/// If `width_millis` is not above 0.
#[must_use]
pub fn resample(bars: &[Bar], width_millis: i64) -> Vec<Bar> {
    resample_until(bars, width_millis, bars.last().map_or(i64::MIN, |bar| bar.close_millis))
}

/// [`resample`] where the clock has reached `clock_millis`, the close of the last bar or later.
///
/// # Panics
///
/// If `width_millis` is not above 0.
#[must_use]
pub fn resample_until(bars: &[Bar], width_millis: i64, clock_millis: i64) -> Vec<Bar> {
    assert!(width_millis > 0, "a bucket has a width");
    let off_millis = bars.first().map_or(0, off_grid_millis);
    let bucket_of = |bar: &Bar| (bar.open_millis - off_millis).div_euclid(width_millis);
    // Counted first: a vector that grows takes up to twice its bytes.
    let mut resampled: Vec<Bar> = Vec::with_capacity(n_buckets(bars, width_millis));
    for within in bars.chunk_by(|a, b| bucket_of(a) == bucket_of(b)) {
        let Some((first, rest)) = within.split_first() else { continue };
        let open_millis = bucket_of(first) * width_millis + off_millis;
        let mut wide = Bar { open_millis, close_millis: open_millis + width_millis, ..*first };
        for bar in rest {
            wide.high = wide.high.max(bar.high);
            wide.low = wide.low.min(bar.low);
            wide.close = bar.close;
            wide.volume += bar.volume;
        }
        resampled.push(wide);
    }
    resampled.pop_if(|wide| wide.close_millis > clock_millis);
    resampled
}

/// The number of buckets that `bars` lie in, as [`resample`] takes them.
///
/// # Panics
///
/// If `width_millis` is not above 0.
#[must_use]
pub fn n_buckets(bars: &[Bar], width_millis: i64) -> usize {
    assert!(width_millis > 0, "a bucket has a width");
    let off_millis = bars.first().map_or(0, off_grid_millis);
    let bucket_of = |bar: &Bar| (bar.open_millis - off_millis).div_euclid(width_millis);
    bars.chunk_by(|a, b| bucket_of(a) == bucket_of(b)).count()
}

/// How far past the last multiple of its own width since midnight UTC a bar begins, in milliseconds; 0 on the grid.
#[must_use]
pub fn off_grid_millis(bar: &Bar) -> i64 {
    bar.open_millis.rem_euclid((bar.close_millis - bar.open_millis).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::bar::{DECISION_MILLIS, MINUTE_MILLIS, STRUCTURE_MILLIS};
    use proptest::prelude::*;

    /// A bar of `width` minutes that opens at minute `at` and holds numbers told by `value`.
    fn bar(at: i64, width: i64, value: u32) -> Bar {
        let open = f64::from(value % 97) + 10.0;
        let close = f64::from(value % 89) + 10.0;
        Bar {
            open_millis: at * MINUTE_MILLIS,
            close_millis: (at + width) * MINUTE_MILLIS,
            open,
            high: open.max(close) + f64::from(value % 7),
            low: open.min(close) - f64::from(value % 5),
            close,
            volume: f64::from(value % 13),
        }
    }

    /// `bars`, all later by `off_millis`.
    fn shifted(bars: &[Bar], off_millis: i64) -> Vec<Bar> {
        let later = |bar: &Bar| Bar {
            open_millis: bar.open_millis + off_millis,
            close_millis: bar.close_millis + off_millis,
            ..*bar
        };
        bars.iter().map(later).collect()
    }

    /// Every bucket of the span asked in turn for all bars in it.
    fn naive(bars: &[Bar], width: i64) -> Vec<Bar> {
        let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return Vec::new() };
        let mut wide = Vec::new();
        for bucket in first.open_millis.div_euclid(width)..=last.open_millis.div_euclid(width) {
            let (from, until) = (bucket * width, (bucket + 1) * width);
            let within: Vec<&Bar> =
                bars.iter().filter(|bar| (from..until).contains(&bar.open_millis)).collect();
            let reached = bars.iter().any(|bar| bar.close_millis >= until);
            if !within.is_empty() && reached {
                wide.push(Bar {
                    open_millis: from,
                    close_millis: until,
                    open: within[0].open,
                    high: within.iter().map(|bar| bar.high).fold(f64::MIN, f64::max),
                    low: within.iter().map(|bar| bar.low).fold(f64::MAX, f64::min),
                    close: within[within.len() - 1].close,
                    volume: within.iter().map(|bar| bar.volume).sum(),
                });
            }
        }
        wide
    }

    /// Bars of 1 or 5 minutes on their grid, with gaps, before and after 1970.
    fn random_bars() -> impl Strategy<Value = Vec<Bar>> {
        let steps =
            prop::collection::vec((prop_oneof![8 => Just(1i64), 2 => 2..80i64], any::<u32>()), 0..300);
        (prop_oneof![Just(1i64), Just(5i64)], -500..500i64, steps).prop_map(|(width, start, steps)| {
            let mut at = start;
            steps
                .into_iter()
                .map(|(step, value)| {
                    at += step;
                    bar(at * width, width, value)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn resampling_equals_asking_every_bucket_in_turn(bars in random_bars()) {
            for width in [DECISION_MILLIS, STRUCTURE_MILLIS] {
                prop_assert_eq!(resample(&bars, width), naive(&bars, width));
            }
        }

        /// At the closes of 5-minute bars, when decisions are taken: between them 1-minute bars may know that a
        /// half hour has ended a little sooner.
        #[test]
        fn five_minutes_then_thirty_equals_thirty_at_once(bars in random_bars()) {
            let five = resample(&bars, DECISION_MILLIS);
            let now = five.last().map_or(i64::MIN, |bar| bar.close_millis);
            let mut at_once = resample(&bars, STRUCTURE_MILLIS);
            at_once.retain(|bar| bar.close_millis <= now);
            prop_assert_eq!(resample(&five, STRUCTURE_MILLIS), at_once);
        }

        /// Bars off the clock's marks give what the same bars on it give, each as much later as they are.
        #[test]
        fn a_wide_bar_closes_no_sooner_than_the_last_bar_that_can_lie_in_it(
            bars in random_bars(), off_millis in 0..MINUTE_MILLIS,
        ) {
            for width in [DECISION_MILLIS, STRUCTURE_MILLIS] {
                let wide = resample(&shifted(&bars, off_millis), width);
                prop_assert_eq!(&wide, &shifted(&resample(&bars, width), off_millis));
            }
        }

        #[test]
        fn what_is_visible_at_a_time_needs_no_later_bar(bars in random_bars(), at in any::<prop::sample::Index>()) {
            prop_assume!(!bars.is_empty());
            let n = at.index(bars.len()) + 1;
            let now = bars[n - 1].close_millis;
            let mut visible = resample(&bars, STRUCTURE_MILLIS);
            visible.retain(|bar| bar.close_millis <= now);
            prop_assert_eq!(resample(&bars[..n], STRUCTURE_MILLIS), visible);
        }
    }

    #[test]
    fn bars_of_the_same_width_pass_through_equal() {
        let bars: Vec<Bar> = [0, 5, 10, 40, 45].iter().map(|at| bar(*at, 5, 31)).collect();
        assert_eq!(resample(&bars, DECISION_MILLIS), bars);
    }

    #[test]
    fn wide_bars_off_the_clock_pass_through_equal_and_close_when_they_do() {
        for (width, at) in [(5, 2), (10, 5), (30, 15)] {
            let bars: Vec<Bar> = (0..6).map(|i| bar(i * width + at, width, 31)).collect();
            assert_eq!(resample(&bars, width * MINUTE_MILLIS), bars);
            let wide = resample(&bars, STRUCTURE_MILLIS);
            assert_eq!(wide[0].close_millis, bars[30 / width as usize - 1].close_millis, "{width} minutes");
        }
    }

    #[test]
    fn the_last_bucket_counts_only_once_the_clock_reached_its_end() {
        let bars: Vec<Bar> = (0..10).map(|at| bar(at, 1, 31)).collect();
        assert_eq!(resample(&bars, DECISION_MILLIS).len(), 2);
        assert_eq!(resample(&bars[..9], DECISION_MILLIS).len(), 1);
        assert_eq!(resample(&bars[..4], DECISION_MILLIS), []);
        assert_eq!(resample(&[], DECISION_MILLIS), []);
    }

    #[test]
    fn a_bucket_that_a_session_cut_short_ends_at_its_end() {
        let bars = [bar(0, 1, 3), bar(1, 1, 4), bar(60, 1, 5)];
        let wide = resample(&bars, DECISION_MILLIS);
        assert_eq!(wide.len(), 1);
        assert_eq!(wide[0].close_millis, DECISION_MILLIS);
        assert_eq!(wide[0].close, bars[1].close);
    }
}
