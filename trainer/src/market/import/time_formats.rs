//! Stamps in a spelling that the user tells, in strptime's letters such as `%d/%m/%Y %H:%M`.

use jiff::civil::Date;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use crate::market::import::spelling::Moment;

/// One spelling of stamps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeFormat {
    text: String,
    names_zone: bool,
}

impl TimeFormat {
    /// The format of strptime's letters.
    ///
    /// # Errors
    ///
    /// What is wrong with a text that cannot be read back or gives no date.
    pub(super) fn parse(text: &str) -> Result<TimeFormat, String> {
        let wrong = |why: String| format!("`{text}` {why}");
        let sample = Date::constant(2021, 11, 23).at(13, 45, 56, 0);
        let sample = TimeZone::UTC
            .to_ambiguous_zoned(sample)
            .compatible()
            .map_err(|e| wrong(format!("fails: {e}")))?;
        let written =
            strtime::format(text, &sample).map_err(|e| wrong(format!("is no strptime format: {e}")))?;
        let read =
            strtime::parse(text, &written).map_err(|e| wrong(format!("is no strptime format: {e}")))?;
        let text = text.to_owned();
        if read.timestamp().is_some() {
            return Ok(TimeFormat { text, names_zone: true });
        }
        match read.to_datetime() {
            Ok(moment) if moment.date() == sample.date() => {
                let names_zone = read.offset().is_some() || read.iana_time_zone().is_some();
                Ok(TimeFormat { text, names_zone })
            }
            Ok(_) | Err(_) => Err(wrong("does not hold year, month and day (%Y, %m, %d)".to_owned())),
        }
    }

    /// The letters.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether each stamp names its own offset or zone.
    pub(super) fn names_zone(&self) -> bool {
        self.names_zone
    }

    /// What a stamp says; none where it does not fit.
    pub(super) fn read(&self, stamp: &str) -> Option<Moment> {
        let parsed = strtime::parse(&self.text, stamp).ok()?;
        if parsed.timestamp().is_some() || parsed.offset().is_some() {
            return Some(Moment::Instant(parsed.to_timestamp().ok()?));
        }
        let wall = parsed.to_datetime().ok()?;
        Some(match parsed.iana_time_zone() {
            Some(name) => Moment::Zoned(wall, TimeZone::get(name).ok()?),
            None => Moment::Wall(wall),
        })
    }
}

/// Why a stamp could not be read with any of several formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It fits none of them.
    None,
    /// It fits two that disagree on what it means.
    Two,
}

/// What a stamp says, by the formats that it fits.
pub(super) fn read(formats: &[TimeFormat], stamp: &str) -> Result<Moment, Unfit> {
    let mut found: Option<Moment> = None;
    for format in formats {
        let Some(moment) = format.read(stamp) else { continue };
        if found.as_ref().is_some_and(|other| *other != moment) {
            return Err(Unfit::Two);
        }
        found = Some(moment);
    }
    found.ok_or(Unfit::None)
}

/// The formats as the user writes them, with `|` between them.
pub(super) fn joined(formats: &[TimeFormat]) -> String {
    formats.iter().map(TimeFormat::text).collect::<Vec<_>>().join("|")
}
