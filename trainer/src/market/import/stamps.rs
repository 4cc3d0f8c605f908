//! The time of each bar: reads the stamps of one file in order.
//!
//! The user gives the spelling (`data.time_format`), or it is that of the first row and every other row must share
//! it. Stamps without an offset are UTC unless `data.zone` names their zone. In the hour that a clock repeats in
//! autumn, a stamp belongs to the first pass as long as time then runs forward, else to the second; a stamp in the
//! hour skipped in spring is refused.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::error::{Error, Result};

use crate::market::import::source_options::SourceOptions;
use crate::market::import::spelling::{self, Moment, Spelling, Unit, Unread};

/// The years a bar can be in; a stamp beyond them was read by the wrong format.
const YEARS: std::ops::Range<i16> = 1900..2200;

/// Reads the stamps of a file in the order of its rows.
pub(super) struct Stamps {
    formats: Vec<String>,
    zone: Option<(String, TimeZone)>,
    first: Option<(Spelling, String)>,
    /// The instant of the row before, in milliseconds.
    last_millis: Option<i64>,
    n_on_wall: u64,
    n_repeated_hour: u64,
    n_as_text: u64,
}

impl Stamps {
    /// A reader with the options of the user.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a zone that does not exist, a format that cannot be read back or gives no date, and a
    /// format without an offset where no zone is given.
    pub(super) fn new(options: &SourceOptions) -> Result<Stamps> {
        let zone = match &options.zone {
            Some(name) => Some((name.clone(), zone_named(name)?)),
            None => None,
        };
        let mut formats = Vec::new();
        for format in options.time_format.iter().flat_map(|text| text.split('|')).map(str::trim) {
            let has_offset = check_format(format)?;
            if !has_offset && zone.is_none() {
                return Err(config_error(
                    "data.zone",
                    format!(
                        "data.time_format `{format}` holds no offset (%z): tell the zone that the stamps are in, such \
                         as \"UTC\" or \"America/New_York\""
                    ),
                ));
            }
            formats.push(format.to_owned());
        }
        Ok(Stamps {
            formats,
            zone,
            first: None,
            last_millis: None,
            n_on_wall: 0,
            n_repeated_hour: 0,
            n_as_text: 0,
        })
    }

    /// The instant of the next row's stamp, in milliseconds since 1970, from its text.
    ///
    /// # Errors
    ///
    /// What is wrong with the stamp and what to do, to go into an [`Error::Line`].
    pub(super) fn read_text(&mut self, text: &str) -> std::result::Result<i64, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the stamp is empty".to_owned());
        }
        self.n_as_text += 1;
        let moment = if self.formats.is_empty() { self.guessed(text)? } else { self.told(text)? };
        self.read_moment(moment)
    }

    /// The instant of the next row's stamp, in milliseconds since 1970, from a file that types its stamps.
    ///
    /// # Errors
    ///
    /// As [`Stamps::read_text`].
    pub(super) fn read_moment(&mut self, moment: Moment) -> std::result::Result<i64, String> {
        let millis = match moment {
            Moment::Instant(millis) => millis,
            Moment::Wall(wall) => {
                self.n_on_wall += 1;
                self.on_wall(wall)?
            }
        };
        let year = Timestamp::from_millisecond(millis).ok().map(|t| Offset::UTC.to_datetime(t).year());
        if !year.is_some_and(|year| YEARS.contains(&year)) {
            return Err(
                "the stamp is not between the years 1900 and 2200: is data.time_format right?".to_owned()
            );
        }
        self.last_millis = Some(millis);
        Ok(millis)
    }

    /// What was found, for the user to read.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let spelling = match &self.first {
            _ if self.n_as_text == 0 && self.formats.is_empty() => "stamps are typed in the file".to_owned(),
            _ if self.n_as_text == 0 => {
                "stamps are typed in the file: data.time_format not needed".to_owned()
            }
            Some((Spelling::Epoch(unit), first)) => {
                format!("stamps such as `{first}` taken as {} since 1970, UTC", unit.name())
            }
            Some((_, first)) => format!("stamps such as `{first}` taken as ISO 8601"),
            None => format!("stamps read as told: data.time_format = \"{}\"", self.formats.join("|")),
        };
        notes.push(spelling);
        notes.push(match &self.zone {
            Some((name, _)) if self.n_on_wall > 0 => format!("their zone is {name}, as told"),
            Some((name, _)) => {
                format!("data.zone = \"{name}\" not needed: every stamp is an instant of its own")
            }
            None if self.n_on_wall > 0 => "they name no zone: taken as UTC".to_owned(),
            None => "every stamp is an instant of its own".to_owned(),
        });
        if self.n_repeated_hour > 0 {
            notes.push(format!(
                "{} stamps fall into the hour that clocks repeat in autumn: read so that time runs forward",
                self.n_repeated_hour
            ));
        }
        notes
    }

    fn guessed(&mut self, text: &str) -> std::result::Result<Moment, String> {
        let read = spelling::read(text);
        if read == Err(Unread::TooFine) {
            return Err(too_fine(text));
        }
        match (&self.first, read) {
            (None, Ok((spelling, moment))) => {
                self.first = Some((spelling, text.to_owned()));
                Ok(moment)
            }
            (Some((spelling, _)), Ok((other, moment))) if *spelling == other => Ok(moment),
            (Some((_, first)), _) => Err(format!(
                "mixed spellings: the stamp `{text}` is not written as the first one, `{first}`: write all stamps \
                 alike, or tell every spelling, separated by |, {}",
                advice(&[likely_format(first), likely_format(text)])
            )),
            (None, Err(_)) => Err(format!(
                "the stamp `{text}` is neither ISO 8601 (2020-06-29T01:00:00Z) nor a count since 1970: tell its \
                 spelling and zone, {}",
                advice(&[likely_format(text)])
            )),
        }
    }

    fn told(&self, text: &str) -> std::result::Result<Moment, String> {
        let mut found: Option<Moment> = None;
        for format in &self.formats {
            let Some(moment) = parse(format, text) else { continue };
            let moment = moment.map_err(|_| too_fine(text))?;
            if found.is_some_and(|other| other != moment) {
                return Err(format!(
                    "the stamp `{text}` fits two spellings of data.time_format that disagree on what it means: leave \
                     the right one"
                ));
            }
            found = Some(moment);
        }
        found.ok_or_else(|| {
            let told = self.formats.join("|");
            let mut more = self.formats.clone();
            more.push(likely_format(text));
            format!(
                "the stamp `{text}` does not fit data.time_format = \"{told}\": correct it, or add this spelling \
                 after a |, as in data.time_format = \"{}\"",
                more.join("|")
            )
        })
    }

    /// The instant at which clocks of the given zone showed `wall`.
    fn on_wall(&mut self, wall: DateTime) -> std::result::Result<i64, String> {
        let at = |offset: Offset| {
            offset
                .to_timestamp(wall)
                .map(Timestamp::as_millisecond)
                .map_err(|_| format!("the stamp {wall} is beyond the calendar"))
        };
        let Some((name, zone)) = &self.zone else { return at(Offset::UTC) };
        match zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset),
            AmbiguousOffset::Gap { .. } => Err(format!(
                "clocks in {name} never showed {wall}: they skipped it in spring; is data.zone right?"
            )),
            AmbiguousOffset::Fold { before, after } => {
                self.n_repeated_hour += 1;
                let (first, second) = (at(before)?, at(after)?);
                let runs_forward = self.last_millis.is_none_or(|last| first > last);
                Ok(if runs_forward { first } else { second })
            }
        }
    }
}

/// A wall clock's or an instant's moment from a stamp and one format; none where it does not fit.
fn parse(format: &str, text: &str) -> Option<std::result::Result<Moment, Unread>> {
    let parsed = strtime::parse(format, text).ok()?;
    if parsed.timestamp().is_some() || parsed.offset().is_some() {
        let instant = parsed.to_timestamp().ok()?;
        if instant.subsec_nanosecond() % 1_000_000 != 0 {
            return Some(Err(Unread::TooFine));
        }
        return Some(Ok(Moment::Instant(instant.as_millisecond())));
    }
    Some(spelling::wall(parsed.to_datetime().ok()?))
}

/// Whether the stamps of a format are instants of their own; refuses what is no format.
fn check_format(format: &str) -> Result<bool> {
    let wrong = |why: String| {
        config_error("data.time_format", format!("`{format}` {why}; a right one is \"%d/%m/%Y %H:%M:%S\""))
    };
    let sample = Date::constant(2021, 11, 23).at(13, 45, 56, 0);
    let sample =
        TimeZone::UTC.to_ambiguous_zoned(sample).compatible().map_err(|e| wrong(format!("fails: {e}")))?;
    let written =
        strtime::format(format, &sample).map_err(|e| wrong(format!("is no strptime format: {e}")))?;
    let read = strtime::parse(format, &written).map_err(|e| wrong(format!("is no strptime format: {e}")))?;
    if read.iana_time_zone().is_some() {
        return Err(wrong("holds the name of a zone: tell it as data.zone".to_owned()));
    }
    if read.timestamp().is_some() {
        return Ok(true);
    }
    match read.to_datetime() {
        Ok(moment) if moment.date() == sample.date() => Ok(read.offset().is_some()),
        Ok(_) | Err(_) => Err(wrong("does not hold year, month and day (%Y, %m, %d)".to_owned())),
    }
}

fn zone_named(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        let database = jiff::tz::db();
        let near = database
            .available()
            .map(|known| {
                let likeness = strsim::normalized_damerau_levenshtein(
                    &known.as_str().to_lowercase(),
                    &name.to_lowercase(),
                );
                (likeness, known.as_str().to_owned())
            })
            .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
        let problem = match near {
            Some((likeness, known)) if likeness >= 0.6 => {
                format!("no zone is named `{name}`; `{known}` looks near")
            }
            Some(_) => format!("no zone is named `{name}`: give an IANA name such as \"America/New_York\""),
            None => {
                format!("`{name}` cannot be looked up: this machine has no zone database (install tzdata)")
            }
        };
        config_error("data.zone", problem)
    })
}

/// The given spellings as the user would write them.
fn advice(formats: &[String]) -> String {
    let zone = if formats.iter().all(|format| format.contains('z')) {
        ""
    } else {
        " and data.zone = \"UTC\" (or the zone they are in)"
    };
    format!("as in data.time_format = \"{}\"{zone}", formats.join("|"))
}

/// The format that a stamp seems to have. A suggestion for an error's text alone: where day and month could
/// be exchanged it is the user who knows.
fn likely_format(stamp: &str) -> String {
    if let Ok((Spelling::Iso { separator, seconds, zoned }, _)) = spelling::read(stamp) {
        let seconds = if seconds { ":%S%.f" } else { "" };
        let offset = match &stamp[stamp.len() - 3..] {
            _ if !zoned => "",
            end if end.ends_with('Z') => "Z",
            end if end.starts_with(':') => "%:z",
            _ => "%z",
        };
        return format!("%Y-%m-%d{separator}%H:%M{seconds}{offset}");
    }
    if let Ok((Spelling::Epoch(Unit::Second), _)) = spelling::read(stamp) {
        return "%s".to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    let mut separators: Vec<&str> = Vec::new();
    let mut rest = stamp;
    while !rest.is_empty() {
        let n = rest.bytes().take_while(u8::is_ascii_digit).count();
        parts.push(&rest[..n]);
        rest = &rest[n..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        separators.push(&rest[..end]);
        rest = &rest[end..];
    }
    let value = |i: usize| parts.get(i).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    let year_first = parts.first().is_some_and(|part| part.len() == 4);
    let names: [&str; 6] = match (year_first, value(1) > 12) {
        (true, _) => ["%Y", "%m", "%d", "%H", "%M", "%S"],
        (false, true) => ["%m", "%d", "%Y", "%H", "%M", "%S"],
        (false, false) => ["%d", "%m", "%Y", "%H", "%M", "%S"],
    };
    if !(3..=names.len()).contains(&parts.len()) || parts.contains(&"") {
        return "%d/%m/%Y %H:%M:%S".to_owned();
    }
    names.iter().zip(&separators).map(|(name, separator)| format!("{name}{separator}")).collect()
}

fn too_fine(stamp: &str) -> String {
    format!(
        "the stamp `{stamp}` is finer than a millisecond, which no bar begins at: round the stamps to the bar"
    )
}

fn config_error(key: &str, problem: String) -> Error {
    Error::Config { key: key.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(format: Option<&str>, zone: Option<&str>) -> Result<Stamps> {
        Stamps::new(&SourceOptions {
            time_format: format.map(str::to_owned),
            zone: zone.map(str::to_owned),
            ..SourceOptions::default()
        })
    }

    fn utc(stamps: &mut Stamps, text: &str) -> std::result::Result<String, String> {
        stamps.read_text(text).map(|millis| Timestamp::from_millisecond(millis).unwrap().to_string())
    }

    #[test]
    fn autumns_repeated_hour_is_read_so_that_time_runs_forward() {
        let mut stamps = stamps(None, Some("America/New_York")).unwrap();
        let read: Vec<String> = ["00:30", "01:00", "01:30", "01:00", "01:30", "02:00"]
            .iter()
            .map(|time| utc(&mut stamps, &format!("2024-11-03 {time}")).unwrap())
            .collect();
        let expected = ["04:30", "05:00", "05:30", "06:00", "06:30", "07:00"];
        assert_eq!(read, expected.map(|time| format!("2024-11-03T{time}:00Z")));
        assert!(stamps.notes().iter().any(|note| note.starts_with("4 stamps")), "{:?}", stamps.notes());
    }

    #[test]
    fn a_third_pass_through_the_repeated_hour_does_not_run_forward() {
        let mut stamps = stamps(None, Some("America/New_York")).unwrap();
        let read: Vec<i64> = (0..3).map(|_| stamps.read_text("2024-11-03 01:00").unwrap()).collect();
        assert!(read[0] < read[1]);
        assert_eq!(read[1], read[2], "the caller refuses it as a duplicate");
    }

    #[test]
    fn springs_skipped_hour_is_refused() {
        let mut stamps = stamps(None, Some("Europe/Berlin")).unwrap();
        let error = utc(&mut stamps, "2024-03-31 02:30:00").unwrap_err();
        assert!(error.contains("Europe/Berlin never showed 2024-03-31T02:30:00"), "{error}");
    }

    #[test]
    fn several_told_spellings_are_read_with_one_and_two_digits() {
        let format = "%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M";
        let mut stamps = stamps(Some(format), Some("Asia/Jerusalem")).unwrap();
        assert_eq!(utc(&mut stamps, "29/06/2020 01:00:00").unwrap(), "2020-06-28T22:00:00Z");
        assert_eq!(utc(&mut stamps, "2/7/2025 9:30").unwrap(), "2025-07-02T06:30:00Z");
        let error = utc(&mut stamps, "2025-07-02 09:30").unwrap_err();
        assert!(error.contains("|%Y-%m-%d %H:%M\""), "{error}");
        assert!(utc(&mut stamps, "13/13/2020 1:00").is_err());
    }

    #[test]
    fn told_spellings_that_disagree_on_a_stamp_are_refused() {
        let mut stamps = stamps(Some("%d/%m/%Y|%m/%d/%Y"), Some("UTC")).unwrap();
        assert_eq!(utc(&mut stamps, "13/2/2020").unwrap(), "2020-02-13T00:00:00Z");
        assert!(utc(&mut stamps, "3/2/2020").unwrap_err().contains("disagree"));
    }

    #[test]
    fn an_offset_in_the_format_needs_no_zone() {
        let mut stamps = stamps(Some("%Y%m%d %H%M%S %z"), None).unwrap();
        assert_eq!(utc(&mut stamps, "20200629 010000 +0300").unwrap(), "2020-06-28T22:00:00Z");
        assert_eq!(stamps.notes()[1], "every stamp is an instant of its own");
    }

    #[test]
    fn formats_and_zones_that_cannot_be_are_refused() {
        let error = |format: &str, zone: Option<&str>| stamps(Some(format), zone).err().unwrap().to_string();
        assert!(error("%d/%m/%Y %H:%M", None).starts_with("data.zone: "));
        for format in ["%H:%M", "%m/%d %H:%M", "%d/%m/%Y %!", "", "%Y-%m-%d|", "%Y-%m-%d %Q"] {
            let error = error(format, Some("UTC"));
            assert!(error.starts_with("data.time_format: "), "{format}: {error}");
        }
        let near = error("%d/%m/%Y", Some("Asia/Jerusalm"));
        assert_eq!(near, "data.zone: no zone is named `Asia/Jerusalm`; `Asia/Jerusalem` looks near");
    }

    #[test]
    fn mixed_spellings_are_refused_with_both_shown() {
        for (first, second) in [
            ("2020-01-01 00:00", "2020-01-01T00:01"),
            ("2020-01-01 00:00", "2020-01-01 00:01:00"),
            ("2020-01-01 00:00", "2020-01-01 00:01Z"),
            ("2020-01-01", "2020-01-01 00:01"),
            ("1577836800", "1577836860000"),
            ("2020-01-01 00:00", "01/01/2020 00:01"),
        ] {
            let mut stamps = stamps(None, None).unwrap();
            stamps.read_text(first).unwrap();
            let error = stamps.read_text(second).unwrap_err();
            assert!(error.contains(first) && error.contains(second), "{error}");
        }
        let mut stamps = stamps(None, None).unwrap();
        stamps.read_text("2020-01-01T00:00:00").unwrap();
        stamps.read_text("2020-01-01T00:01:00.500").unwrap();
    }

    #[test]
    fn a_year_that_no_bar_is_in_is_refused() {
        let mut stamps = stamps(Some("%d/%m/%Y"), Some("UTC")).unwrap();
        assert!(stamps.read_text("29/06/20").unwrap_err().contains("1900"));
    }

    #[test]
    fn advice_suggests_a_format_that_reads_the_stamp() {
        for stamp in
            ["29/06/2020 01:00:00", "2/7/2025 9:30", "06/29/2020 01:00", "29.06.2020", "2020/06/29 01:00:00"]
        {
            assert!(parse(&likely_format(stamp), stamp).is_some(), "{stamp}: {}", likely_format(stamp));
        }
        for stamp in [
            "2020-06-29T01:00:00.000Z",
            "2020-06-29T01:00:00+02:00",
            "2020-06-29 01:00",
            "2020-06-29 01:00+0200",
            "1514764800",
        ] {
            assert!(parse(&likely_format(stamp), stamp).is_some(), "{stamp}: {}", likely_format(stamp));
        }
    }
}
