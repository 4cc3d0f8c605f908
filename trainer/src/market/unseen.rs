//! Which decisions of a market may be judged, when a run has learned from some of its bars.

use std::ops::Range;

use crate::format;
use crate::market::price_series::PriceSeries;

/// The decisions of one instrument that are judged, and what the run has learned of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The decisions.
    pub decisions: Range<usize>,
    /// The time in which the run has learned from this market; none if it has not.
    pub seen_millis: Option<Range<i64>>,
    /// Whether they lie in that time.
    pub is_in_sample: bool,
}

/// Chooses what to judge of `series`, when the run has learned from this market in the time `seen_millis`.
///
/// That is all decisions if it has not, or if `allow_seen`. Else it is those after that time, `embargo_bars` bars
/// later, or those that are marked before it, whichever are more.
#[must_use]
pub fn judged(
    series: &PriceSeries,
    seen_millis: Option<Range<i64>>,
    embargo_bars: usize,
    allow_seen: bool,
) -> Judged {
    let bars = &series.bars;
    let end = bars.len().saturating_sub(1);
    let all = series.first_decision..end.max(series.first_decision);
    let Some(seen) = seen_millis else {
        return Judged { decisions: all, seen_millis: None, is_in_sample: false };
    };
    let n_marked_before = bars.partition_point(|bar| bar.close_millis <= seen.start);
    let before = all.start..n_marked_before.saturating_sub(1).max(all.start);
    let n_seen = bars.partition_point(|bar| bar.close_millis < seen.end);
    let after = n_seen.saturating_add(embargo_bars).clamp(all.start, all.end)..all.end;
    let unseen = if before.len() > after.len() { before } else { after };
    let is_whole = unseen == all;
    let decisions = if allow_seen { all } else { unseen };
    Judged { decisions, seen_millis: Some(seen), is_in_sample: allow_seen && !is_whole }
}

impl Judged {
    /// Says in one line what is judged and what is not.
    #[must_use]
    pub fn note(&self, series: &PriceSeries) -> String {
        let name = &series.name;
        let learned = self.seen_millis.as_ref().map(|seen| {
            format!(
                "the run has learned from this market from {} to {} UTC",
                format::utc_minute(seen.start),
                format::utc_minute(seen.end)
            )
        });
        let n_decisions = format::count(self.decisions.len() as u64);
        if self.decisions.is_empty() {
            return format!("{name}: nothing is judged: {}", learned.unwrap_or_default());
        }
        let (first, last) = (&series.bars[self.decisions.start], &series.bars[self.decisions.end]);
        let span = format!(
            "{name}: judged on {n_decisions} decisions from {} to {} UTC",
            format::utc_minute(first.close_millis),
            format::utc_minute(last.close_millis)
        );
        match learned {
            None => format!("{span}, on none of which the run has learned"),
            Some(learned) if self.is_in_sample => format!("{span}, in sample: {learned}"),
            Some(learned) => format!("{span}, the unseen part alone: {learned}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::bar::{Bar, DECISION_MILLIS};

    fn series(n: i64, first_decision: usize) -> PriceSeries {
        let bar = |i: i64| Bar {
            open_millis: i * DECISION_MILLIS,
            close_millis: (i + 1) * DECISION_MILLIS,
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 0.0,
        };
        let bars: Vec<Bar> = (0..n).map(bar).collect();
        PriceSeries { name: "t".to_owned(), atr: vec![1.0; bars.len()], bars, first_decision }
    }

    fn decisions(seen: Option<Range<i64>>, allow_seen: bool) -> (Range<usize>, bool) {
        let seen = seen.map(|seen| seen.start * DECISION_MILLIS..seen.end * DECISION_MILLIS);
        let judged = judged(&series(1_000, 100), seen, 50, allow_seen);
        (judged.decisions, judged.is_in_sample)
    }

    #[test]
    fn what_the_run_has_not_learned_from_is_judged_alone() {
        assert_eq!(decisions(None, false), (100..999, false));
        // The last bar seen is bar 499: it closes at 500.
        assert_eq!(decisions(Some(0..500), false), (549..999, false));
        assert_eq!(decisions(Some(700..990), false), (100..699, false), "what lies before is more");
        assert_eq!(decisions(Some(0..960), false), (999..999, false), "nothing is left");
        assert_eq!(decisions(Some(2_000..3_000), false), (100..999, false), "all lies before");
    }

    #[test]
    fn all_is_judged_where_that_is_allowed_and_called_in_sample() {
        assert_eq!(decisions(Some(0..500), true), (100..999, true));
        assert_eq!(decisions(None, true), (100..999, false));
        assert_eq!(decisions(Some(2_000..3_000), true), (100..999, false));
        let series = series(1_000, 100);
        let told = judged(&series, Some(0..500 * DECISION_MILLIS), 50, true).note(&series);
        assert!(told.contains("in sample"), "{told}");
        let told = judged(&series, Some(0..500 * DECISION_MILLIS), 50, false).note(&series);
        assert!(told.contains("450 decisions") && told.contains("unseen part alone"), "{told}");
        let told = judged(&series, Some(0..990 * DECISION_MILLIS), 50, false).note(&series);
        assert!(told.contains("nothing is judged"), "{told}");
    }
}
