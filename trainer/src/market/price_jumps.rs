//! Prices that jump by more than half in one bar: splits and rolls that the bars are not adjusted for, as a rule.

use crate::format;
use crate::market::price_series::PriceSeries;

/// A price that changes by more than this share from one close to the next has jumped.
const JUMP_FRACTION: f64 = 0.5;
/// Jumps told one by one; of more only the number.
const MOST_TOLD: usize = 3;

/// Says of each jump among the marks `first..=last` of a series when and how far the price jumped.
#[must_use]
pub fn jump_notes(series: &PriceSeries, first: usize, last: usize) -> Vec<String> {
    let n_marks = (last + 1).min(series.bars.len());
    let marks = series.bars.get(first..n_marks).unwrap_or_default();
    let change = |pair: &[crate::market::bar::Bar]| pair[1].close / pair[0].close - 1.0;
    let jumps: Vec<(i64, f64)> = marks
        .windows(2)
        .map(|pair| (pair[1].close_millis, change(pair)))
        .filter(|(_, change)| change.abs() > JUMP_FRACTION)
        .collect();
    let mut notes: Vec<String> = jumps
        .iter()
        .take(MOST_TOLD)
        .map(|(close_millis, change)| {
            format!(
                "{}: its price jumps by {} in the bar that closes at {} UTC, likely by a split or a roll that the bars \
                 are not adjusted for: a return over it is none of the market's",
                series.name,
                format::signed_percent(*change),
                format::utc_minute(*close_millis)
            )
        })
        .collect();
    if jumps.len() > MOST_TOLD {
        let n_more = (jumps.len() - MOST_TOLD) as u64;
        notes.push(format!("{}: its price jumps {} times more", series.name, format::count(n_more)));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::bar::{Bar, DECISION_MILLIS};

    fn series(closes: &[f64]) -> PriceSeries {
        let bar = |(close, i): (&f64, i64)| Bar {
            open_millis: i * DECISION_MILLIS,
            close_millis: (i + 1) * DECISION_MILLIS,
            open: *close,
            high: *close,
            low: *close,
            close: *close,
            volume: 1.0,
        };
        let bars: Vec<Bar> = closes.iter().zip(0..).map(bar).collect();
        PriceSeries { name: "t".to_owned(), atr: vec![1.0; bars.len()], bars, first_decision: 0 }
    }

    #[test]
    fn a_jump_of_more_than_half_is_told_with_its_time() {
        let notes = jump_notes(&series(&[100.0, 60.0, 6.0, 6.5, 9.7, 15.0]), 0, 5);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("-90.0 %") && notes[0].contains("1970-01-01 00:15 UTC"), "{notes:?}");
        assert!(notes[1].contains("+54.6 %"), "{notes:?}");
    }

    #[test]
    fn only_the_marks_that_are_asked_for_are_looked_at() {
        let series = series(&[100.0, 10.0, 10.0, 10.0, 100.0]);
        assert!(jump_notes(&series, 1, 3).is_empty());
        assert_eq!(jump_notes(&series, 1, 99).len(), 1);
        assert!(jump_notes(&series, 9, 12).is_empty());
    }

    #[test]
    fn of_many_jumps_a_few_are_told_and_the_rest_counted() {
        let closes: Vec<f64> = (0..20).map(|i| if i % 2 == 0 { 1.0 } else { 10.0 }).collect();
        let notes = jump_notes(&series(&closes), 0, 19);
        assert_eq!(notes.len(), 4);
        assert!(notes[3].contains("16 times more"), "{notes:?}");
    }
}
