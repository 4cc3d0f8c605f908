//! The spellings of a moment that import recognises without options: ISO 8601 and counts since 1970.
//!
//! Pure functions of one stamp. Whether all stamps of a file agree is `stamps`' question.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};

/// How a stamp is written. Two stamps of one file must be equal in it; digits of a fraction and the offset
/// itself may differ (daylight saving).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `2020-06-29T01:00:00.000+02:00`, with what of it is there.
    Iso {
        /// `T` or a space.
        separator: char,
        /// Whether seconds are written.
        seconds: bool,
        /// Whether an offset or `Z` is written.
        zoned: bool,
    },
    /// `2020-06-29`: its midnight.
    Date,
    /// A whole number of units since 1970, UTC.
    Epoch(Unit),
}

/// The unit of a count since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds.
    Second,
    /// Milliseconds.
    Milli,
    /// Microseconds.
    Micro,
    /// Nanoseconds.
    Nano,
}

impl Unit {
    const ALL: [Unit; 4] = [Unit::Second, Unit::Milli, Unit::Micro, Unit::Nano];

    fn per_second(self) -> i64 {
        match self {
            Unit::Second => 1,
            Unit::Milli => 1_000,
            Unit::Micro => 1_000_000,
            Unit::Nano => 1_000_000_000,
        }
    }

    /// The instant that a count since 1970 means; none beyond the calendar.
    pub(super) fn instant(self, count: i64) -> Option<Timestamp> {
        let nanos_per_unit = 1_000_000_000 / self.per_second();
        Timestamp::from_nanosecond(i128::from(count) * i128::from(nanos_per_unit)).ok()
    }

    /// Its name in the plural.
    pub(super) fn name(self) -> &'static str {
        match self {
            Unit::Second => "seconds",
            Unit::Milli => "milliseconds",
            Unit::Micro => "microseconds",
            Unit::Nano => "nanoseconds",
        }
    }
}

/// What a stamp says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moment {
    /// An instant.
    Instant(Timestamp),
    /// A clock on a wall, in a zone that the stamp does not name.
    Wall(DateTime),
    /// A clock on a wall, in the zone that the stamp names.
    Zoned(DateTime, TimeZone),
}

/// Reads one stamp; none where it is neither ISO 8601 nor a count since 1970.
pub(super) fn read(text: &str) -> Option<(Spelling, Moment)> {
    iso(text.as_bytes()).or_else(|| epoch(text))
}

/// `YYYY-MM-DD[(T| )HH:MM[:SS[.fraction]][[ ](Z|±HH[[:]MM])]]`; none if it is spelled otherwise.
fn iso(text: &[u8]) -> Option<(Spelling, Moment)> {
    if text.len() < 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let date =
        Date::new(number(&text[..4])?, number(&text[5..7])? as i8, number(&text[8..10])? as i8).ok()?;
    if text.len() == 10 {
        return Some((Spelling::Date, Moment::Wall(date.to_datetime(Time::midnight()))));
    }
    let separator = match text[10] {
        b'T' => 'T',
        b' ' => ' ',
        _ => return None,
    };
    if text.len() < 16 || text[13] != b':' {
        return None;
    }
    let (hour, minute) = (number(&text[11..13])? as i8, number(&text[14..16])? as i8);
    let mut rest = &text[16..];
    let (mut second, mut nanosecond) = (0, 0);
    let seconds = rest.first() == Some(&b':');
    if seconds {
        second = number(rest.get(1..3)?)? as i8;
        rest = &rest[3..];
        if matches!(rest.first(), Some(b'.' | b',')) {
            let n_digits = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if n_digits == 0 || n_digits > 9 {
                return None;
            }
            for place in 0..9 {
                let digit = if place < n_digits { rest[1 + place] - b'0' } else { 0 };
                nanosecond = nanosecond * 10 + i32::from(digit);
            }
            rest = &rest[1 + n_digits..];
        }
    }
    let moment = date.to_datetime(Time::new(hour, minute, second, nanosecond).ok()?);
    let spelling = Spelling::Iso { separator, seconds, zoned: !rest.is_empty() };
    if rest.is_empty() {
        return Some((spelling, Moment::Wall(moment)));
    }
    Some((spelling, Moment::Instant(offset(rest)?.to_timestamp(moment).ok()?)))
}

fn offset(text: &[u8]) -> Option<Offset> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    if text == b"Z" {
        return Some(Offset::UTC);
    }
    let sign = match text.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = match &text[1..] {
        [a, b] => ([*a, *b], [b'0', b'0']),
        [a, b, c, d] | [a, b, b':', c, d] => ([*a, *b], [*c, *d]),
        _ => return None,
    };
    let (hours, minutes) = (i32::from(number(&hours)?), i32::from(number(&minutes)?));
    if minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

/// A count since 1970 whose unit is plain from its size: between the years 1990 and 2100 no two units overlap,
/// nor does a date written in digits alone (`20200629`, `20200629010000`) fall into any.
fn epoch(text: &str) -> Option<(Spelling, Moment)> {
    const SINCE_SECONDS: i64 = 631_152_000;
    const UNTIL_SECONDS: i64 = 4_102_444_800;
    // A column that was once floating point ends in `.0`.
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    };
    if whole.is_empty() || !whole.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: i64 = whole.parse().ok()?;
    let unit = Unit::ALL.into_iter().find(|unit| {
        let seconds = count / unit.per_second();
        (SINCE_SECONDS..UNTIL_SECONDS).contains(&seconds)
    })?;
    Some((Spelling::Epoch(unit), Moment::Instant(unit.instant(count)?)))
}

/// Up to four digits and nothing else.
fn number(digits: &[u8]) -> Option<i16> {
    digits.iter().try_fold(0i16, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i16::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Option<String> {
        Some(match read(text)? {
            (_, Moment::Instant(instant)) => instant.to_string(),
            (_, Moment::Wall(moment)) => moment.to_string(),
            (_, Moment::Zoned(moment, zone)) => moment.to_zoned(zone).unwrap().to_string(),
        })
    }

    #[test]
    fn iso_stamps_are_read_with_and_without_an_offset() {
        for (text, expected) in [
            ("2021-12-31 23:01:00.000000", "2021-12-31T23:01:00"),
            ("2021-12-31T23:01", "2021-12-31T23:01:00"),
            ("2021-12-31", "2021-12-31T00:00:00"),
            ("2021-12-31 23:01:00,25", "2021-12-31T23:01:00.25"),
            ("2021-12-31 23:01:00.000128", "2021-12-31T23:01:00.000128"),
            ("2021-12-31T23:01:00.25Z", "2021-12-31T23:01:00.25Z"),
            ("2018-01-10 04:55:00+00:00", "2018-01-10T04:55:00Z"),
            ("2018-01-10 04:55:00 +0200", "2018-01-10T02:55:00Z"),
            ("2018-01-10 04:55:00-05:30", "2018-01-10T10:25:00Z"),
            ("2018-01-10T04:55-05", "2018-01-10T09:55:00Z"),
        ] {
            assert_eq!(instant(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn counts_since_1970_are_read_in_the_unit_that_their_size_tells() {
        for (text, unit) in [
            ("1514764800", Unit::Second),
            ("1514764800.0", Unit::Second),
            ("1514764800000", Unit::Milli),
            ("1514764800000000", Unit::Micro),
            ("1514764800000000000", Unit::Nano),
        ] {
            let instant = Timestamp::from_second(1_514_764_800).unwrap();
            assert_eq!(read(text), Some((Spelling::Epoch(unit), Moment::Instant(instant))), "{text}");
        }
    }

    #[test]
    fn all_else_is_foreign() {
        for text in [
            "29/06/2020 01:00:00",
            "2/7/2025 9:30",
            "2020-02-30 00:00",
            "2020-01-01 24:00",
            "2020-01-01 00:00:61",
            "2020-01-01 00:00:00 UTC",
            "2020-01-01_00:00",
            "2020-01-01T00:00:00.",
            "2020-01-01T00:00:",
            "2020-01-01T00:00:00+1",
            "2020-1-1",
            "20200629",
            "20200629010000",
            "202006290100",
            "44011.5",
            "-1514764800",
            "99999999999999999999",
            "",
            "×020-01-01",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
