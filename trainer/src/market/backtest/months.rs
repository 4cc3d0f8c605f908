//! Returns by calendar month.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::market::backtest::performance::EquityCurve;

/// The return of one month, or of the part of it that a curve covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MonthReturn {
    /// The year, and the month from 1.
    pub month: (i16, i8),
    /// Last equity of the month over the last one before it, less 1.
    pub total_return: f64,
}

/// The returns of the months (UTC) in which `curve` has marks, in order. Together they are the whole return.
#[must_use]
pub fn by_month(curve: &EquityCurve) -> Vec<MonthReturn> {
    let mut months: Vec<MonthReturn> = Vec::new();
    let mut before = curve.equity.first().copied().unwrap_or(1.0);
    let mut last = before;
    for (&time, &equity) in curve.times_millis.iter().zip(&curve.equity) {
        let month = month_of(time);
        if months.last().is_none_or(|one| one.month != month) {
            before = last;
            months.push(MonthReturn { month, total_return: 0.0 });
        }
        if let Some(one) = months.last_mut() {
            one.total_return = equity / before - 1.0;
        }
        last = equity;
    }
    months
}

/// A mark stands at the close of a bar: one at midnight belongs to the month that it ends.
fn month_of(close_millis: i64) -> (i16, i8) {
    let moment = Timestamp::from_millisecond(close_millis - 1).unwrap_or(Timestamp::UNIX_EPOCH);
    let date = moment.to_zoned(TimeZone::UTC).date();
    (date.year(), date.month())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_end_at_midnight_and_multiply_to_the_whole_return() {
        let millis = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let curve = EquityCurve {
            times_millis: [
                "2024-01-31T12:00:00Z",
                "2024-02-01T00:00:00Z",
                "2024-02-01T00:05:00Z",
                "2024-04-02T00:00:00Z",
            ]
            .map(millis)
            .into(),
            equity: vec![1.0, 1.1, 1.0, 1.2],
        };
        let months = by_month(&curve);
        assert_eq!(months.iter().map(|one| one.month).collect::<Vec<_>>(), [(2024, 1), (2024, 2), (2024, 4)]);
        let whole: f64 = months.iter().map(|one| 1.0 + one.total_return).product();
        assert!((whole - 1.2).abs() < 1e-12);
        assert!((months[0].total_return - 0.1).abs() < 1e-12);
        assert_eq!(by_month(&EquityCurve::default()), []);
    }
}
