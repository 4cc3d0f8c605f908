//! From values to places on a chart, and the ticks that make them readable.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::format;

const HOUR_MILLIS: i64 = 3_600_000;
const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;
/// 5 January 1970, a Monday: weeks are counted from it.
const MONDAY_MILLIS: i64 = 4 * DAY_MILLIS;

/// What values are, which decides how they are written and where ticks fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A fraction, written as a percentage with a sign.
    Change,
    /// Bytes, with binary units.
    Bytes,
    /// A plain number.
    Number,
    /// Seconds.
    Seconds,
    /// A whole number, such as steps.
    Count,
    /// A mean position, from −1 (short) to 1 (long).
    Side,
}

impl Unit {
    /// A value as it is read beside a chart.
    pub(super) fn value(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => format::UNKNOWN.to_string(),
            Unit::Change => format::signed_percent(value),
            Unit::Bytes => format::bytes(value.max(0.0) as u64),
            Unit::Number | Unit::Side => format::number(value),
            Unit::Seconds => format::duration(value),
            Unit::Count => format::count(value.max(0.0) as u64),
        }
    }

    /// A value at a tick: no more decimals than the distance of ticks needs.
    fn tick(self, value: f64, step: f64) -> String {
        match self {
            Unit::Change => {
                let text = format::fixed(value * 100.0, decimals(step * 100.0));
                if value > step / 2.0 { format!("+{text} %") } else { format!("{text} %") }
            }
            Unit::Bytes => short_bytes(value),
            Unit::Number | Unit::Count if value.abs() >= 1e6 => {
                format!("{} M", format::fixed(value / 1e6, decimals(step / 1e6)))
            }
            Unit::Number | Unit::Count if step > 0.0 && step < 1e-5 => format!("{value:.0e}"),
            Unit::Number | Unit::Count => format::fixed(value, decimals(step)),
            Unit::Seconds => short_duration(value),
            Unit::Side if value > 0.5 => "long".to_string(),
            Unit::Side if value < -0.5 => "short".to_string(),
            Unit::Side => "flat".to_string(),
        }
    }

    fn step(self, rough: f64) -> f64 {
        match self {
            Unit::Change => nice(rough * 100.0) / 100.0,
            Unit::Bytes => rough.max(1.0).log2().ceil().exp2(),
            Unit::Seconds => {
                const STEPS: [f64; 19] = [
                    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0,
                    7_200.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0, 172_800.0,
                ];
                STEPS
                    .into_iter()
                    .find(|&step| step >= rough)
                    .unwrap_or_else(|| nice(rough / 86_400.0) * 86_400.0)
            }
            Unit::Number => nice(rough),
            Unit::Count => nice(rough).max(1.0),
            Unit::Side => 1.0,
        }
    }
}

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Linear,
    /// By the logarithm.
    Log,
    /// By the logarithm of 1 + value: a change by a factor is as long everywhere.
    LogGrowth,
}

impl Form {
    fn of(self, value: f64) -> f64 {
        match self {
            Form::Linear => value,
            Form::Log => value.log10(),
            Form::LogGrowth => (1.0 + value).max(LEAST_GROWTH).log10(),
        }
    }
}

/// A place for each value of an axis: 0 at its low end, 1 at its high end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    form: Form,
}

/// The lowest growth that an axis of growth tells apart: a loss of all but a thousandth.
const LEAST_GROWTH: f64 = 1e-3;

impl Scale {
    /// An axis from `low` to `high`. Ends that are equal or not finite are spread, so that places always exist.
    pub(super) fn linear(low: f64, high: f64) -> Self {
        let low = if low.is_finite() { low } else { 0.0 };
        let high = if high.is_finite() { high.max(low) } else { low };
        if high > low {
            return Self { low, high, form: Form::Linear };
        }
        let spread = if low == 0.0 { 1.0 } else { low.abs() * 0.05 };
        Self { low: low - spread, high: high + spread, form: Form::Linear }
    }

    /// A linear axis with room above and below.
    pub(super) fn padded(low: f64, high: f64) -> Self {
        let Self { low, high, .. } = Self::linear(low, high);
        let room = (high - low) * 0.06;
        Self { low: low - room, high: high + room, form: Form::Linear }
    }

    /// A logarithmic axis where all values are above 0 and span much, a linear one elsewhere.
    pub(super) fn fitting(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        if low > 0.0 && high / low > 50.0 {
            return Self { low: low.log10() - 0.08, high: high.log10() + 0.08, form: Form::Log };
        }
        Self::padded(low, high)
    }

    pub(super) fn is_log(self) -> bool {
        self.form == Form::Log
    }

    /// A logarithmic axis of growth over changes, which are above −1, with room above and below.
    pub(super) fn growth(low: f64, high: f64) -> Self {
        let [low, high] = [low, high].map(|change| Form::LogGrowth.of(change));
        Self { form: Form::LogGrowth, ..Self::padded(low, high) }
    }

    /// The low and the high end, in the unit of the values.
    pub(super) fn ends(self) -> (f64, f64) {
        let end = |place: f64| match self.form {
            Form::Linear => place,
            Form::Log => 10f64.powf(place),
            Form::LogGrowth => 10f64.powf(place) - 1.0,
        };
        (end(self.low), end(self.high))
    }

    /// 0 at the low end, 1 at the high one; beyond them outside of [0, 1].
    pub(super) fn place(self, value: f64) -> f64 {
        (self.form.of(value) - self.low) / (self.high - self.low)
    }

    /// Round values inside the axis with their labels, about `n_wanted`.
    pub(super) fn ticks(self, unit: Unit, n_wanted: usize) -> Vec<(f64, String)> {
        match self.form {
            Form::Linear => {}
            Form::Log => return self.log_ticks(unit),
            Form::LogGrowth => return self.growth_ticks(unit, n_wanted),
        }
        let step = unit.step((self.high - self.low) / n_wanted.max(1) as f64);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        (first..=last).map(|k| k as f64 * step).map(|value| (value, unit.tick(value, step))).collect()
    }

    /// Round changes, no closer to each other than the wanted number allows.
    fn growth_ticks(self, unit: Unit, n_wanted: usize) -> Vec<(f64, String)> {
        const CHANGES: [f64; 25] = [
            0.0, -0.1, 0.1, -0.5, 1.0, -0.9, 9.0, -0.2, 0.2, 0.5, -0.05, 0.05, 4.0, -0.75, -0.02, 0.02, 99.0,
            49.0, 19.0, 999.0, 499.0, -0.01, 0.01, -0.005, 0.005,
        ];
        let least_distance = 0.6 / n_wanted.max(1) as f64;
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for change in CHANGES {
            let place = self.place(change);
            let is_free = ticks.iter().all(|(other, _)| (self.place(*other) - place).abs() >= least_distance);
            if (0.0..=1.0).contains(&place) && is_free {
                let step = if change == 0.0 { 0.1 } else { change.abs() };
                ticks.push((change, unit.tick(change, step)));
            }
        }
        ticks
    }

    fn log_ticks(self, unit: Unit) -> Vec<(f64, String)> {
        let multiples: &[f64] = if self.high - self.low > 3.2 { &[1.0] } else { &[1.0, 3.0] };
        (self.low.floor() as i32..=self.high.ceil() as i32)
            .flat_map(|power| multiples.iter().map(move |multiple| multiple * 10f64.powi(power)))
            .filter(|&value| (0.0..=1.0).contains(&self.place(value)))
            .map(|value| (value, unit.tick(value, value)))
            .collect()
    }
}

/// The lowest and the highest finite value, or NaN twice where there is none.
pub(super) fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values
        .filter(|value| value.is_finite())
        .fold((f64::NAN, f64::NAN), |(low, high), value| (low.min(value), high.max(value)))
}

/// The bars at which round times begin, at most about `n_wanted`, with labels in UTC. `times_millis` ascend.
pub(super) fn time_ticks(times_millis: &[i64], n_wanted: usize) -> Vec<(f64, String)> {
    let (Some(&first), Some(&last)) = (times_millis.first(), times_millis.last()) else { return Vec::new() };
    let least_step = (last - first) / n_wanted.max(1) as i64;
    let (moments, form) = moments(first, last, least_step);
    let least_distance = times_millis.len() as f64 * 0.6 / n_wanted.max(1) as f64;
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for moment in moments {
        let bar = times_millis.partition_point(|&time| time < moment);
        let is_near = ticks.last().is_some_and(|(last, _)| bar as f64 - last < least_distance);
        // A round moment without trade shows at the first bar after it, and under that bar's own time.
        if let Some(&time) = times_millis.get(bar).filter(|_| !is_near) {
            ticks.push((bar as f64, format::utc(time, form)));
        }
    }
    ticks
}

/// Round moments from `first` to `last` that lie at least `least_step` apart, and the form that tells them apart.
fn moments(first: i64, last: i64, least_step: i64) -> (Vec<i64>, &'static str) {
    let steps =
        [1, 3, 6, 12].map(|n| n * HOUR_MILLIS).into_iter().chain([1, 2, 4, 7, 14].map(|n| n * DAY_MILLIS));
    for step in steps {
        if step >= least_step {
            let offset = if step % (7 * DAY_MILLIS) == 0 { MONDAY_MILLIS } else { 0 };
            let from = (first - offset).div_euclid(step) + i64::from((first - offset).rem_euclid(step) != 0);
            let to = (last - offset).div_euclid(step);
            let form = if step < DAY_MILLIS { "%-d %b %H:%M" } else { "%-d %b" };
            return ((from..=to).map(|k| k * step + offset).collect(), form);
        }
    }
    let least_months = least_step / (30 * DAY_MILLIS) + 1;
    let months =
        [1, 2, 3, 6, 12, 24, 60, 120].into_iter().find(|&months| months >= least_months).unwrap_or(240);
    (month_starts(first, last, months), if months < 12 { "%b %Y" } else { "%Y" })
}

/// First days of months whose number from year 0 is a multiple of `months`.
fn month_starts(first: i64, last: i64, months: i64) -> Vec<i64> {
    let month_of = |millis: i64| {
        let date = Timestamp::from_millisecond(millis).ok()?.to_zoned(TimeZone::UTC).date();
        Some(i64::from(date.year()) * 12 + i64::from(date.month()) - 1)
    };
    let (Some(from), Some(to)) = (month_of(first), month_of(last)) else { return Vec::new() };
    (from..=to)
        .filter(|month| month.rem_euclid(months) == 0)
        .filter_map(|month| {
            let year = i16::try_from(month.div_euclid(12)).ok()?;
            let date = Date::new(year, (month.rem_euclid(12) + 1) as i8, 1).ok()?;
            Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
        })
        .filter(|&moment| moment >= first)
        .collect()
}

/// The least of 1, 2, 2.5, 5 × 10ⁿ that is not below `rough`.
fn nice(rough: f64) -> f64 {
    if !(rough > 0.0 && rough.is_finite()) {
        return 1.0;
    }
    let power = 10f64.powi(rough.log10().floor() as i32);
    let factor =
        [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999_999).unwrap_or(10.0);
    factor * power
}

/// Decimals that tell multiples of `step` apart.
fn decimals(step: f64) -> usize {
    (0..8)
        .find(|&n| {
            let scaled = step * 10f64.powi(n);
            (scaled - scaled.round()).abs() < 1e-6 * scaled.abs().max(1e-12)
        })
        .unwrap_or(8) as usize
}

fn short_bytes(value: f64) -> String {
    if value <= 0.0 {
        return "0".to_string();
    }
    let text = format::bytes(value as u64);
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

fn short_duration(seconds: f64) -> String {
    if seconds < 0.5 {
        return "0".to_string();
    }
    if seconds < 60.0 {
        return format!("{seconds:.0} s");
    }
    format::duration(seconds).replace(" 00 s", "").replace(" 00 min", "").replace(" 00 h", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: Vec<(f64, String)>) -> Vec<String> {
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_carry_their_unit() {
        assert_eq!(
            labels(Scale::linear(-0.021, 0.052).ticks(Unit::Change, 4)),
            ["-2 %", "0 %", "+2 %", "+4 %"]
        );
        assert_eq!(
            labels(Scale::linear(0.0, 900e6).ticks(Unit::Bytes, 4)),
            ["0", "256 MiB", "512 MiB", "768 MiB"]
        );
        assert_eq!(
            labels(Scale::linear(0.0, 230.0).ticks(Unit::Seconds, 4)),
            ["0", "1 min", "2 min", "3 min"]
        );
        assert_eq!(labels(Scale::linear(0.0, 50_000.0).ticks(Unit::Count, 2)), ["0", "25,000", "50,000"]);
        assert_eq!(labels(Scale::linear(0.0, 5e6).ticks(Unit::Count, 2)), ["0", "2.5 M", "5.0 M"]);
    }

    #[test]
    fn every_range_has_places() {
        for (low, high) in
            [(1.0, 1.0), (0.0, 0.0), (f64::NAN, f64::NAN), (f64::NEG_INFINITY, 3.0), (5.0, 1.0)]
        {
            let scale = Scale::padded(low, high);
            assert!(scale.place(if low.is_finite() { low } else { 0.0 }).is_finite(), "{low} {high}");
            assert!(scale.ticks(Unit::Number, 4).len() < 20);
        }
    }

    #[test]
    fn a_loss_that_falls_by_decades_gets_a_logarithmic_axis() {
        let scale = Scale::fitting([10.0, 0.5, 0.001].into_iter());
        assert!(scale.is_log());
        assert_eq!(labels(scale.ticks(Unit::Number, 4)), ["0.001", "0.01", "0.1", "1", "10"]);
        assert!(!Scale::fitting([1.0, 2.0].into_iter()).is_log());
        assert!(!Scale::fitting([-1.0, 200.0].into_iter()).is_log());
    }

    #[test]
    fn growth_by_the_same_factor_is_as_long_everywhere() {
        let scale = Scale::growth(-0.5, 12.46);
        let length = |from: f64, to: f64| scale.place(to) - scale.place(from);
        assert!((length(0.0, 1.0) - length(1.0, 3.0)).abs() < 1e-12);
        assert!((length(-0.5, 0.0) - length(0.0, 1.0)).abs() < 1e-12);
        let ticks = scale.ticks(Unit::Change, 7);
        assert!(ticks.len() >= 4 && ticks.iter().any(|tick| tick.1 == "0 %"), "{ticks:?}");
        assert!(scale.place(-1.0).is_finite());
    }

    #[test]
    fn times_fall_on_round_moments_and_gaps_are_closed_up() {
        // Five days of five-minute bars without a weekend: Thursday 29 February 2024 to Tuesday 5 March.
        let start = 1_709_164_800_000;
        let times: Vec<i64> = [0, 1, 4, 5]
            .into_iter()
            .flat_map(|day| (0..288).map(move |bar| start + day * DAY_MILLIS + bar * 300_000))
            .collect();
        let ticks = time_ticks(&times, 6);
        assert_eq!(labels(ticks.clone()), ["29 Feb", "1 Mar", "4 Mar", "5 Mar"]);
        assert_eq!(ticks[2].0, 576.0);
        assert_eq!(time_ticks(&[], 6), []);
    }

    #[test]
    fn long_spans_are_marked_by_months_and_years() {
        let days: Vec<i64> = (0..400).map(|day| 1_672_531_200_000 + day * DAY_MILLIS).collect();
        assert_eq!(
            labels(time_ticks(&days, 6)),
            ["Jan 2023", "Apr 2023", "Jul 2023", "Oct 2023", "Jan 2024"]
        );
        let years: Vec<i64> = (0..300).map(|month| month * 30 * DAY_MILLIS).collect();
        assert!(labels(time_ticks(&years, 6)).contains(&"1980".to_string()));
    }
}
