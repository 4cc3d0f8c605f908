//! The spellings that one stamp may have, as formats of strptime's letters.
//!
//! A stamp is a date, a time and a zone, of which the last two may be missing:
//!
//! ```text
//! 04-Mar-2024 9:30:00.000 PM GMT+0100       3/4/2024 13:30       20240304 093000       20240304 10:00:00 US/Eastern
//! ```
//!
//! Pure functions of one stamp. Every guess reads the stamp that it was made from. Which guess reads all stamps of a
//! file is `advice`'s question.

use jiff::tz::TimeZone;

use crate::market::import::time_formats::TimeFormat;

/// What the order of the numbers of a date is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// `4/3/2024` is in March.
    DayMonthYear,
    /// `4/3/2024` is in April.
    MonthDayYear,
    /// `04/03/05` is in March of 2004.
    YearMonthDay,
}

impl Order {
    /// All of them, the likelier first.
    pub(super) const ALL: [Order; 3] = [Order::MonthDayYear, Order::DayMonthYear, Order::YearMonthDay];

    /// In words that follow "read".
    pub(super) fn words(self) -> &'static str {
        match self {
            Order::DayMonthYear => "day first",
            Order::MonthDayYear => "month first",
            Order::YearMonthDay => "year first",
        }
    }
}

/// What a stamp says of its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StampZone {
    /// Nothing.
    Untold,
    /// An offset or the name of a zone that the format reads.
    InFormat,
    /// It names UTC.
    Utc,
    /// An abbreviation such as `EST`, which may mean this zone.
    Perhaps(&'static str),
}

/// One spelling that a stamp may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FormatGuess {
    /// The order of its date's numbers; none where the date leaves no choice.
    pub(super) order: Option<Order>,
    /// The format.
    pub(super) format: TimeFormat,
    /// What the stamp says of its zone.
    pub(super) zone: StampZone,
    /// Whether the numbers of the date stand between points, as only countries that name the day first write.
    pub(super) dotted: bool,
}

/// The spellings that a stamp may have; none where it is no date that is known.
pub(super) fn format_guesses(stamp: &str) -> Vec<FormatGuess> {
    let mut guesses = Vec::new();
    let mut text = Cursor { rest: stamp.trim() };
    let weekday = weekday(&mut text);
    let Some(dates) = dates(&mut text) else { return guesses };
    let Some(time) = time(&mut text) else { return guesses };
    let Some((zone_format, zone)) = zone(&mut text) else { return guesses };
    for (order, date) in dates {
        let dotted = date.chars().filter(|c| *c == '.').count() == 2 && order.is_some();
        let Ok(format) = TimeFormat::parse(&format!("{weekday}{date}{time}{zone_format}")) else { continue };
        if format.read(stamp.trim()).is_some() {
            guesses.push(FormatGuess { order, format, zone, dotted });
        }
    }
    guesses
}

/// A place in a stamp.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn digits(&mut self) -> &'a str {
        self.take_while(|c| c.is_ascii_digit())
    }

    fn letters(&mut self) -> &'a str {
        self.take_while(|c| c.is_ascii_alphabetic())
    }

    /// One sign, if it is among those given, with the spaces after it.
    fn separator(&mut self, signs: &str) -> &'a str {
        let before = *self;
        if self.rest.starts_with(|c| signs.contains(c)) {
            self.rest = &self.rest[1..];
            self.take_while(|c| c == ' ');
        }
        &before.rest[..before.rest.len() - self.rest.len()]
    }
}

/// `Mon, ` as a format.
fn weekday(text: &mut Cursor) -> String {
    let before = *text;
    let letters = text.letters();
    let days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let letter = name_letter(letters, &days, "%a", "%A");
    let separator = text.separator(",. ");
    match letter {
        Some(letter) => format!("{letter}{separator}"),
        None => {
            *text = before;
            String::new()
        }
    }
}

/// The letter of a name, short (three letters) or in full.
fn name_letter(name: &str, names: &[&str], short: &'static str, full: &'static str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let found = names.iter().find(|full| name.len() >= 3 && full.starts_with(&name))?;
    match name.len() {
        3 => Some(short),
        _ if name == **found => Some(full),
        _ => None,
    }
}

/// The formats of the date that a stamp begins with, each with its order.
fn dates(text: &mut Cursor) -> Option<Vec<(Option<Order>, String)>> {
    let months = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let field = |text: &mut Cursor| {
        let digits = text.digits();
        let month = if digits.is_empty() { name_letter(text.letters(), &months, "%b", "%B") } else { None };
        (digits.len(), month)
    };
    let before = *text;
    let first = field(text);
    if first.0 >= 6 {
        *text = Cursor { rest: &before.rest[if first.0 == 6 { 6 } else { 8.min(first.0) }..] };
        return match first.0 {
            6 => Some(in_every_order(["%d", "%m", "%y"], ["", ""])),
            8 | 12 | 14.. => {
                let mut formats = vec![(None, "%Y%m%d".to_owned())];
                formats.extend(in_day_and_month_order(["%d", "%m", "%Y"], ["", ""]));
                Some(formats)
            }
            _ => None,
        };
    }
    let separators = "-/. ,";
    let one = text.separator(separators);
    let second = field(text);
    let two = text.separator(separators);
    let third = field(text);
    let year = |digits: usize| if digits == 4 { "%Y" } else { "%y" };
    let is_day = |digits: usize| matches!(digits, 1 | 2);
    let is_year = |digits: usize| matches!(digits, 2 | 4);
    match (first, second, third) {
        ((day, None), (0, Some(month)), (digits, None)) if is_day(day) && is_year(digits) => {
            Some(vec![(None, format!("%d{one}{month}{two}{}", year(digits)))])
        }
        ((4, None), (0, Some(month)), (day, None)) if is_day(day) => {
            Some(vec![(None, format!("%Y{one}{month}{two}%d"))])
        }
        ((0, Some(month)), (day, None), (digits, None)) if is_day(day) && is_year(digits) => {
            Some(vec![(None, format!("{month}{one}%d{two}{}", year(digits)))])
        }
        ((4, None), (month, None), (day, None)) if is_day(month) && is_day(day) => {
            Some(vec![(None, format!("%Y{one}%m{two}%d"))])
        }
        ((a, None), (b, None), (4, None)) if is_day(a) && is_day(b) => {
            Some(in_day_and_month_order(["%d", "%m", "%Y"], [one, two]))
        }
        ((a, None), (b, None), (2, None)) if is_day(a) && is_day(b) => {
            Some(in_every_order(["%d", "%m", "%y"], [one, two]))
        }
        _ => None,
    }
}

fn in_day_and_month_order(
    [day, month, year]: [&str; 3],
    [one, two]: [&str; 2],
) -> Vec<(Option<Order>, String)> {
    vec![
        (Some(Order::DayMonthYear), format!("{day}{one}{month}{two}{year}")),
        (Some(Order::MonthDayYear), format!("{month}{one}{day}{two}{year}")),
    ]
}

fn in_every_order([day, month, year]: [&str; 3], [one, two]: [&str; 2]) -> Vec<(Option<Order>, String)> {
    let mut formats = in_day_and_month_order([day, month, year], [one, two]);
    formats.push((Some(Order::YearMonthDay), format!("{year}{one}{month}{two}{day}")));
    formats
}

/// The format of a time of day, with what stands before it; empty where there is none.
fn time(text: &mut Cursor) -> Option<String> {
    let before = *text;
    let comma = text.separator(",");
    let separator = text.separator(" T_-:");
    let digits = text.digits();
    if digits.is_empty() {
        *text = before;
        return Some(String::new());
    }
    let mut clock = String::new();
    match digits.len() {
        1 | 2 => {
            let sign = text.separator(":.");
            if sign.is_empty() || !matches!(text.digits().len(), 1 | 2) {
                return None;
            }
            clock.push_str(&format!("%H{sign}%M"));
            if text.rest.starts_with(sign) {
                text.separator(sign);
                if !matches!(text.digits().len(), 1 | 2) {
                    return None;
                }
                clock.push_str(&format!("{sign}%S"));
                clock.push_str(fraction(text)?);
            }
        }
        4 => clock.push_str("%H%M"),
        6 => {
            clock.push_str("%H%M%S");
            clock.push_str(fraction(text)?);
        }
        7..=15 => clock.push_str("%H%M%S%f"),
        _ => return None,
    }
    let spaced = *text;
    let space = text.separator(" ");
    if text.rest.get(..2).is_some_and(|letters| ["am", "pm"].contains(&letters.to_ascii_lowercase().as_str()))
        && !text.rest[2..].starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        text.rest = &text.rest[2..];
        clock = clock.replace("%H", "%I") + space + "%p";
    } else {
        *text = spaced;
    }
    Some(format!("{comma}{separator}{clock}"))
}

/// The format of a fraction of a second; empty where there is none.
fn fraction(text: &mut Cursor) -> Option<&'static str> {
    let format = match text.rest.chars().next() {
        Some('.') => "%.f",
        Some(',') => ",%f",
        Some(':') => ":%f",
        _ => return Some(""),
    };
    text.rest = &text.rest[1..];
    if text.digits().is_empty() { None } else { Some(format) }
}

/// The format of the zone that ends a stamp, and what it says; empty where there is none, nothing where the rest of
/// the stamp is no zone.
fn zone(text: &mut Cursor) -> Option<(String, StampZone)> {
    let space = text.separator(" ");
    let rest = text.rest;
    if rest.is_empty() {
        return Some((String::new(), StampZone::Untold));
    }
    let (name, offset) = rest.split_at(rest.find(['+', '-']).unwrap_or(rest.len()));
    let is_utc = ["Z", "UTC", "GMT"].contains(&name);
    if !offset.is_empty() && (name.is_empty() || is_utc) {
        let letter = match offset.len() {
            6 if offset.contains(':') => "%:z",
            5 => "%z",
            3 => "%:::z",
            _ => return None,
        };
        return Some((format!("{space}{name}{letter}"), StampZone::InFormat));
    }
    if is_utc {
        return Some((format!("{space}{name}"), StampZone::Utc));
    }
    if rest.contains('/') && TimeZone::get(rest).is_ok() {
        return Some((format!("{space}%Q"), StampZone::InFormat));
    }
    let zone = abbreviated(rest)?;
    Some((format!("{space}{rest}"), StampZone::Perhaps(zone)))
}

/// The zone whose clocks an abbreviation may mean.
fn abbreviated(name: &str) -> Option<&'static str> {
    const ZONES: [(&[&str], &str); 12] = [
        (&["ET", "EST", "EDT"], "America/New_York"),
        (&["CT", "CST", "CDT"], "America/Chicago"),
        (&["MT", "MST", "MDT"], "America/Denver"),
        (&["PT", "PST", "PDT"], "America/Los_Angeles"),
        (&["BST"], "Europe/London"),
        (&["CET", "CEST", "MEZ", "MESZ"], "Europe/Berlin"),
        (&["EET", "EEST"], "Europe/Athens"),
        (&["MSK"], "Europe/Moscow"),
        (&["JST"], "Asia/Tokyo"),
        (&["HKT"], "Asia/Hong_Kong"),
        (&["IST"], "Asia/Kolkata"),
        (&["AEST", "AEDT"], "Australia/Sydney"),
    ];
    ZONES.iter().find(|(names, _)| names.contains(&name)).map(|(_, zone)| *zone)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn formats(stamp: &str) -> Vec<String> {
        format_guesses(stamp).into_iter().map(|guess| guess.format.text().to_owned()).collect()
    }

    #[test]
    fn a_stamp_without_a_choice_has_one_format() {
        for (stamp, format) in [
            ("20240304093000", "%Y%m%d%H%M%S"),
            ("202403040930", "%Y%m%d%H%M"),
            ("20240304093000250", "%Y%m%d%H%M%S%f"),
            ("20240304 093000", "%Y%m%d %H%M%S"),
            ("20240304 0930", "%Y%m%d %H%M"),
            ("20240304 10:00:00 US/Eastern", "%Y%m%d %H:%M:%S %Q"),
            ("20240304  10:00:00", "%Y%m%d  %H:%M:%S"),
            ("20240304-10:00:00", "%Y%m%d-%H:%M:%S"),
            ("04-Mar-2024 09:30", "%d-%b-%Y %H:%M"),
            ("04Mar2024 09:30", "%d%b%Y %H:%M"),
            ("4 March 2024, 9:30 PM", "%d %B %Y, %I:%M %p"),
            ("Mar 4, 2024 9:30am", "%b %d, %Y %I:%M%p"),
            ("Mon, 04 Mar 2024 09:30:00 GMT", "%a, %d %b %Y %H:%M:%S GMT"),
            ("2024-03-04 9:30", "%Y-%m-%d %H:%M"),
            ("2024/03/04 09:30:00.250", "%Y/%m/%d %H:%M:%S%.f"),
            ("2024.03.04 00:00", "%Y.%m.%d %H:%M"),
            ("2024.03.04,00:00", "%Y.%m.%d,%H:%M"),
            ("2024-03-04 09:30:00,250", "%Y-%m-%d %H:%M:%S,%f"),
            ("2024-03-04 09:30:00:250", "%Y-%m-%d %H:%M:%S:%f"),
            ("2024-03-04T09:30:00Z", "%Y-%m-%dT%H:%M:%SZ"),
            ("2024-03-04 09:30 +0100", "%Y-%m-%d %H:%M %z"),
            ("2024-03-04 09:30-05", "%Y-%m-%d %H:%M%:::z"),
            ("25.03.2024 00:00:00.000 GMT+0100", "%d.%m.%Y %H:%M:%S%.f GMT%z"),
            ("25.03.2024 00:00 UTC+01:00", "%d.%m.%Y %H:%M UTC%:z"),
            ("2024-03-04 9:30 EST", "%Y-%m-%d %H:%M EST"),
            ("2024-03-04", "%Y-%m-%d"),
            ("3/25/24 1:00 PM", "%m/%d/%y %I:%M %p"),
            ("25032024", "%d%m%Y"),
        ] {
            assert_eq!(formats(stamp), [format], "{stamp}");
        }
    }

    #[test]
    fn a_stamp_that_leaves_a_choice_has_a_format_for_each_order() {
        assert_eq!(formats("3/4/2024 1:00 PM"), ["%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p"]);
        assert_eq!(formats("03-04-05"), ["%d-%m-%y", "%m-%d-%y", "%y-%m-%d"]);
        assert_eq!(formats("030405 093000"), ["%d%m%y %H%M%S", "%m%d%y %H%M%S", "%y%m%d %H%M%S"]);
        let dotted = format_guesses("04.03.2024 10:00");
        assert!(dotted.len() == 2 && dotted.iter().all(|guess| guess.dotted));
    }

    #[test]
    fn what_is_no_stamp_has_no_format() {
        for stamp in [
            "",
            "x",
            "44011.5",
            "1.73569E+12",
            "13/13/2024",
            "2024-02-30",
            "10:30",
            "2024-03",
            "2024-03-04 25:00",
            "20240304 93000",
            "2024-03-04 10:00 Nowhere/City",
            "2024-03-04 10:00 XYZ",
            "2024-03-04 13:00 PM",
            "É4/3/2024",
            "%Y-%m-%d",
            "4|3|2024",
        ] {
            assert_eq!(formats(stamp), [""; 0], "{stamp}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_formats_that_read_it_or_none(stamp in "[0-9A-Za-z:/. ,+-]{0,30}|\\PC{0,12}") {
            for guess in format_guesses(&stamp) {
                prop_assert!(guess.format.read(stamp.trim()).is_some());
            }
        }
    }
}
