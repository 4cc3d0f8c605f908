//! Numbers as people read them: bytes, counts, durations, percentages, times.
//!
//! The progress bar, the report and the errors all use these, so that they write the same number in the same way.
//! Nothing here is meant to be parsed: files for programs hold plain numbers.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What stands where a number is unknown or not finite.
pub const UNKNOWN: &str = "–";

/// Bytes with three significant digits and a binary unit: `0 B`, `1.50 KiB`, `512 MiB`, `2.00 GiB`.
#[must_use]
pub fn bytes(n_bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n_bytes < 1000 {
        return format!("{n_bytes} B");
    }
    let mut value = n_bytes as f64 / 1024.0;
    let mut unit = 0;
    // 999.5 would round to four digits.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A whole number with a comma after every third digit: `1,234,567`.
#[must_use]
pub fn count(n: u64) -> String {
    group(&n.to_string())
}

/// A length of time with the two units that matter: `0.42 s`, `42 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return UNKNOWN.to_string();
    }
    if seconds < 9.95 {
        return format!("{seconds:.*} s", if seconds < 0.995 { 2 } else { 1 });
    }
    // The cast saturates, and no run lasts for 10¹¹ years.
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// A fraction as a percentage: 0.1234 is `12.3 %`. Two decimals under 10 %, one under 100 %, none above.
#[must_use]
pub fn percent(fraction: f64) -> String {
    if !fraction.is_finite() {
        return UNKNOWN.to_string();
    }
    let value = fraction * 100.0;
    let decimals = if value.abs() < 9.995 { 2 } else { usize::from(value.abs() < 99.95) };
    format!("{} %", group(&without_negative_zero(format!("{value:.decimals$}"))))
}

/// As [`percent`], with a `+` where the value is above zero: what a profit is written in.
#[must_use]
pub fn signed_percent(fraction: f64) -> String {
    with_sign(fraction, percent(fraction))
}

/// A plain number with at most four significant digits: `1,234`, `12.34`, `0.01234`, `475`, `1.2e-6`.
#[must_use]
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_string();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e15).contains(&size) {
        return format!("{value:.1e}");
    }
    let digits_before = if size == 0.0 { 0 } else { size.log10().floor() as i32 };
    let decimals = if size == 0.0 { 0 } else { (3 - digits_before).clamp(0, 8) as usize };
    let text = format!("{value:.decimals$}");
    group(if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text })
}

/// A number with a fixed count of decimals and a `+` where it is above zero: `+1.20`.
#[must_use]
pub fn signed(value: f64, decimals: usize) -> String {
    with_sign(value, fixed(value, decimals))
}

/// A number with a fixed count of decimals: `1,234.50`.
#[must_use]
pub fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_string();
    }
    group(&without_negative_zero(format!("{value:.decimals$}")))
}

/// A moment in UTC, to the minute: `2024-03-01 14:05`. `millis` counts from 1970.
#[must_use]
pub fn utc_minute(millis: i64) -> String {
    utc(millis, "%Y-%m-%d %H:%M")
}

/// A day in UTC: `2024-03-01`. `millis` counts from 1970.
#[must_use]
pub fn utc_day(millis: i64) -> String {
    utc(millis, "%Y-%m-%d")
}

/// A moment in UTC in the form that `strftime` names. Moments outside the years −9999 … 9999 are [`UNKNOWN`].
#[must_use]
pub fn utc(millis: i64, form: &str) -> String {
    Timestamp::from_millisecond(millis)
        .map_or_else(|_| UNKNOWN.to_string(), |time| time.to_zoned(TimeZone::UTC).strftime(form).to_string())
}

fn with_sign(value: f64, text: String) -> String {
    let is_zero = !text.contains(|c: char| c.is_ascii_digit() && c != '0');
    if value > 0.0 && !is_zero { format!("+{text}") } else { text }
}

fn without_negative_zero(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if !rest.contains(|c: char| c.is_ascii_digit() && c != '0') => rest.to_string(),
        _ => text,
    }
}

/// Puts a comma after every third digit of the whole part.
fn group(text: &str) -> String {
    let start = usize::from(text.starts_with('-'));
    let end = text.find('.').unwrap_or(text.len());
    let mut grouped = String::with_capacity(text.len() + 4);
    for (at, digit) in text.char_indices() {
        if at > start && at < end && (end - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_significant_digits() {
        let cases: [(u64, &str); 9] = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1536, "1.50 KiB"),
            (512 << 20, "512 MiB"),
            ((1 << 30) - 1, "1.00 GiB"),
            (2 << 30, "2.00 GiB"),
            (25_165_824, "24.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (n_bytes, text) in cases {
            assert_eq!(bytes(n_bytes), text);
        }
    }

    #[test]
    fn counts_and_numbers_are_grouped_by_three() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(fixed(-1234.5, 2), "-1,234.50");
        assert_eq!(fixed(-123.0, 0), "-123");
    }

    #[test]
    fn durations_name_the_two_units_that_matter() {
        let cases = [
            (0.0, "0.00 s"),
            (0.42, "0.42 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.6, "1 min 00 s"),
            (185.0, "3 min 05 s"),
            (7_620.0, "2 h 07 min"),
            (273_600.0, "3 d 04 h"),
            (f64::NAN, UNKNOWN),
            (-1.0, UNKNOWN),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn percentages_keep_sensible_digits_and_no_negative_zero() {
        let cases = [
            (0.0, "0.00 %"),
            (-0.000_001, "0.00 %"),
            (0.012_345, "1.23 %"),
            (0.1234, "12.3 %"),
            (1.234, "123 %"),
            (-12.345, "-1,234 %"),
            (f64::INFINITY, UNKNOWN),
        ];
        for (fraction, text) in cases {
            assert_eq!(percent(fraction), text);
        }
        assert_eq!(signed_percent(0.05), "+5.00 %");
        assert_eq!(signed_percent(-0.05), "-5.00 %");
        assert_eq!(signed_percent(0.0), "0.00 %");
        assert_eq!(signed_percent(0.000_001), "0.00 %");
    }

    #[test]
    fn numbers_keep_four_significant_digits() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (21.9, "21.9"),
            (100.0, "100"),
            (12.345, "12.35"),
            (1_234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (0.012_345, "0.01235"),
            (0.000_001_2, "1.2e-6"),
            (-3.5, "-3.5"),
            (f64::NAN, UNKNOWN),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text, "{value}");
        }
        assert_eq!(signed(1.2, 2), "+1.20");
        assert_eq!(signed(-0.001, 2), "0.00");
    }

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(utc_minute(0), "1970-01-01 00:00");
        assert_eq!(utc_minute(1_709_301_900_000), "2024-03-01 14:05");
        assert_eq!(utc_day(-1), "1969-12-31");
        assert_eq!(utc_day(i64::MAX), UNKNOWN);
    }
}
