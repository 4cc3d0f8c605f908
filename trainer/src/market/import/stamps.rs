//! The time of each bar: reads the stamps of one file in order.
//!
//! The user gives the spelling (`time_format`), or [`Stamps::survey`] finds the one that all stamps of the file share.
//! Stamps without an offset are UTC unless `zone` names their zone. In the hour that a clock repeats in autumn, a stamp
//! belongs to the first pass as long as time then runs forward, else to the second; a stamp in the hour skipped in
//! spring is refused.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use crate::error::{Error, Result};

use crate::market::import::advice::{Advice, StampReading, advise};
use crate::market::import::source_options::{Source, SourceOptions};
use crate::market::import::spelling::{self, Moment, Spelling};
use crate::market::import::time_formats::{self, TimeFormat, Unfit};
use crate::market::import::wall_clock::WallClock;

/// Reads the stamps of a file in the order of its rows.
#[derive(Clone)]
pub(super) struct Stamps {
    told: Vec<TimeFormat>,
    told_zone: Option<String>,
    /// The spelling that all stamps share, where it is neither told nor ISO 8601 nor a count.
    found: Option<StampReading>,
    /// How the first stamp is written, and the stamp.
    first: Option<(Option<Spelling>, String)>,
    clock: WallClock,
}

/// A stamp that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StampFault {
    /// Which one of those given, counted from 0.
    pub(super) index: usize,
    /// What is wrong and what to do, to go into an [`Error::Line`].
    pub(super) problem: String,
}

impl Stamps {
    /// A reader with the options of the user.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a zone that does not exist, a format that cannot be read back or gives no date, and a
    /// format without an offset where no zone is given.
    pub(super) fn new(options: &SourceOptions) -> Result<Stamps> {
        let clock = match &options.zone {
            Some(name) => WallClock::new(name, zone_named(name)?),
            None => WallClock::new("UTC", TimeZone::UTC),
        };
        let mut told = Vec::new();
        for text in options.time_format.iter().flat_map(|text| text.split('|')).map(str::trim) {
            let format = TimeFormat::parse(text).map_err(|problem| {
                config_error(
                    "data.time_format",
                    format!("{problem}; leave it out, and the program says which format reads the file"),
                )
            })?;
            if !format.names_zone() && options.zone.is_none() {
                return Err(config_error(
                    "data.zone",
                    format!(
                        "data.time_format `{text}` holds no offset (%z): tell the zone that the stamps are in, such \
                         as \"UTC\" or \"America/New_York\""
                    ),
                ));
            }
            told.push(format);
        }
        Ok(Stamps { told, told_zone: options.zone.clone(), found: None, first: None, clock })
    }

    /// Finds the spelling that all stamps of the file share, and whether its newest row comes first. It is called
    /// before the first [`Stamps::read_text`], with the stamps in the order of the rows; a file that types its stamps
    /// needs no survey.
    ///
    /// # Errors
    ///
    /// The stamp that cannot be read, with the settings of `source` that read every stamp, if any do.
    pub(super) fn survey<'a>(
        &mut self,
        source: &Source,
        stamps: impl Iterator<Item = &'a str> + Clone,
    ) -> std::result::Result<(), StampFault> {
        if self.told.is_empty() {
            self.agree(source, stamps.clone())?;
        } else {
            self.fit_told(source, stamps.clone())?;
        }
        let mut clock = self.clock.clone();
        let mut instant = |stamp: Option<&str>| {
            let moment = self.moment(stamp?.trim()).ok()?;
            clock.restart();
            clock.instant(&moment).ok()
        };
        let ends = (instant(stamps.clone().next()), instant(stamps.last()));
        self.clock.set_newest_first(matches!(ends, (Some(first), Some(last)) if first > last));
        Ok(())
    }

    /// The instant of the next row's stamp, in milliseconds since 1970, from its text.
    ///
    /// # Errors
    ///
    /// What is wrong with the stamp and what to do, to go into an [`Error::Line`].
    pub(super) fn read_text(&mut self, text: &str) -> std::result::Result<i64, String> {
        let text = text.trim();
        let moment = self.moment(text)?;
        if self.first.is_none() {
            self.first = Some((spelling::read(text).map(|(spelling, _)| spelling), text.to_owned()));
        }
        self.read_moment(&moment)
    }

    /// The instant of the next row's stamp, in milliseconds since 1970, from a file that types its stamps.
    ///
    /// # Errors
    ///
    /// As [`Stamps::read_text`].
    pub(super) fn read_moment(&mut self, moment: &Moment) -> std::result::Result<i64, String> {
        self.clock.instant(moment)
    }

    /// What was found, for the user to read.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let spelling = match (&self.first, &self.found) {
            (None, _) if self.told.is_empty() => "stamps are typed in the file".to_owned(),
            (None, _) => "stamps are typed in the file: data.time_format not needed".to_owned(),
            (Some((_, first)), Some(found)) => {
                let order = found.order.map_or(String::new(), |order| format!(", {}", order.words()));
                format!("stamps such as `{first}` taken as {}{order}", time_formats::joined(&found.formats))
            }
            (Some(_), None) if !self.told.is_empty() => {
                format!("stamps read by the format {}", time_formats::joined(&self.told))
            }
            (Some((Some(Spelling::Epoch(unit)), first)), None) => {
                format!("stamps such as `{first}` taken as {} since 1970, UTC", unit.name())
            }
            (Some((_, first)), None) => format!("stamps such as `{first}` taken as ISO 8601"),
        };
        notes.push(spelling);
        let names_utc = self
            .found
            .as_ref()
            .is_some_and(|found| found.zone_is_known && found.zone.is_some() && found.zone != self.told_zone);
        let is_instant = names_utc || self.clock.n_without_zone == 0;
        notes.push(match &self.told_zone {
            Some(name) if is_instant => {
                format!("data.zone = \"{name}\" not needed: every stamp is an instant of its own")
            }
            Some(name) => format!("they name no zone: read in {name}"),
            None if names_utc => "they name UTC as their zone".to_owned(),
            None if is_instant => "every stamp is an instant of its own".to_owned(),
            None => "they name no zone: taken as UTC".to_owned(),
        });
        if self.clock.n_repeated_hour > 0 {
            notes.push(format!(
                "{} stamps fall into the hour that clocks repeat in autumn: read so that time runs forward",
                self.clock.n_repeated_hour
            ));
        }
        if self.clock.n_rounded > 0 {
            notes
                .push(format!("{} stamps are finer than a millisecond: rounded to it", self.clock.n_rounded));
        }
        notes
    }

    /// What a stamp says.
    fn moment(&self, text: &str) -> std::result::Result<Moment, String> {
        if text.is_empty() {
            return Err("the stamp is empty".to_owned());
        }
        let formats = self.found.as_ref().map_or(&self.told, |found| &found.formats);
        if !formats.is_empty() {
            return time_formats::read(formats, text).map_err(|unfit| self.unfit(unfit, text));
        }
        match (spelling::read(text), &self.first) {
            (Some((_, moment)), None) => Ok(moment),
            (Some((spelling, moment)), Some((first, _))) if *first == Some(spelling) => Ok(moment),
            (_, Some((_, first))) => {
                Err(format!("mixed spellings: the stamp `{text}` is not written as the first one, `{first}`"))
            }
            (None, None) => Err(format!(
                "the stamp `{text}` is neither ISO 8601 (2020-06-29T01:00:00Z) nor a count since 1970"
            )),
        }
    }

    /// Finds the spelling that all stamps share.
    fn agree<'a>(
        &mut self,
        source: &Source,
        stamps: impl Iterator<Item = &'a str> + Clone,
    ) -> std::result::Result<(), StampFault> {
        let mut first: Option<(&str, Option<Spelling>)> = None;
        let mut odd: Option<(usize, &str)> = None;
        for (index, stamp) in stamps.clone().enumerate() {
            let stamp = stamp.trim();
            if stamp.is_empty() {
                return Err(StampFault { index, problem: "the stamp is empty".to_owned() });
            }
            let spelling = spelling::read(stamp).map(|(spelling, _)| spelling);
            let (_, agreed) = *first.get_or_insert((stamp, spelling));
            if spelling.is_none() || spelling != agreed {
                odd = Some((index, stamp));
                break;
            }
        }
        let (Some((first, agreed)), Some((index, stamp))) = (first, odd) else { return Ok(()) };
        let fault = |index, problem| Err(StampFault { index, problem });
        match advise(stamps.clone(), self.told_zone.as_deref()) {
            Advice::Plain(reading) => {
                if let Some(zone) =
                    reading.zone.as_ref().filter(|zone| self.told_zone.as_ref() != Some(*zone))
                {
                    self.clock = WallClock::new(
                        zone,
                        zone_named(zone).map_err(|error| StampFault { index, problem: error.to_string() })?,
                    );
                }
                self.found = Some(reading);
                Ok(())
            }
            Advice::Tell(readings) if agreed.is_some() => fault(
                index,
                format!(
                    "mixed spellings: the stamp `{stamp}` is not written as the first one, `{first}`: write all \
                     stamps alike, or tell every spelling; {}",
                    ways_out(source, &readings)
                ),
            ),
            Advice::Tell(readings) => fault(index, ways_out_of(source, stamp, &readings)),
            Advice::Foreign { index: unread, problem } => {
                let index = index.max(unread);
                let stamp = stamps.clone().nth(index).unwrap_or_default().trim();
                let problem = match problem {
                    Some(problem) => format!("the stamp `{stamp}` cannot be: {problem}"),
                    None if index == 0 => format!(
                        "the stamp `{stamp}` is neither ISO 8601 (2020-06-29T01:00:00Z) nor a count since 1970, nor \
                         any other spelling that is known: {}",
                        what_it_may_be(stamp)
                    ),
                    None => format!(
                        "mixed spellings: no known spelling reads the stamp `{stamp}` and those before it, such as \
                         `{first}`: write all stamps alike"
                    ),
                };
                fault(index, problem)
            }
        }
    }

    /// Checks that all stamps fit the told formats.
    fn fit_told<'a>(
        &self,
        source: &Source,
        stamps: impl Iterator<Item = &'a str> + Clone,
    ) -> std::result::Result<(), StampFault> {
        for (index, stamp) in stamps.clone().enumerate() {
            let stamp = stamp.trim();
            let Err(unfit) = time_formats::read(&self.told, stamp) else { continue };
            let mut problem = self.unfit(unfit, stamp);
            if unfit == Unfit::None {
                match advise(stamps, self.told_zone.as_deref()) {
                    Advice::Plain(reading) => {
                        problem.push_str(&format!("; {}", ways_out(source, &[reading])))
                    }
                    Advice::Tell(readings) => problem.push_str(&format!("; {}", ways_out(source, &readings))),
                    Advice::Foreign { .. } => {}
                }
            }
            return Err(StampFault { index, problem });
        }
        Ok(())
    }

    fn unfit(&self, unfit: Unfit, stamp: &str) -> String {
        let told = time_formats::joined(&self.told);
        match unfit {
            Unfit::None if stamp.is_empty() => "the stamp is empty".to_owned(),
            Unfit::None => format!(
                "the stamp `{stamp}` does not fit data.time_format = \"{told}\": mend the stamp or the format"
            ),
            Unfit::Two => format!(
                "the stamp `{stamp}` fits two spellings of data.time_format that disagree on what it means: leave the \
                 right one"
            ),
        }
    }
}

/// The way out of stamps whose format or zone is not known.
fn ways_out_of(source: &Source, stamp: &str, readings: &[StampReading]) -> String {
    let what = if readings.len() > 1 {
        "leaves open which number is the day and which the month"
    } else {
        "is neither ISO 8601 (2020-06-29T01:00:00Z) nor a count since 1970"
    };
    format!("the stamp `{stamp}` {what}: tell its spelling and zone; {}", ways_out(source, readings))
}

/// The settings that read every stamp, each with the dates that it gives.
fn ways_out(source: &Source, readings: &[StampReading]) -> String {
    let mut ways: Vec<String> = Vec::new();
    for reading in readings {
        let mut told = source.clone();
        told.options.time_format = Some(time_formats::joined(&reading.formats));
        if reading.zone.is_some() {
            told.options.zone.clone_from(&reading.zone);
        }
        let order = reading.order.filter(|_| readings.len() > 1).map_or("", |order| order.words());
        let space = if order.is_empty() { "" } else { " " };
        let [from, to] = [reading.span_millis.0, reading.span_millis.1].map(|millis| {
            Timestamp::from_millisecond(millis)
                .map_or_else(|_| String::new(), |instant| Offset::UTC.to_datetime(instant).date().to_string())
        });
        ways.push(format!("{} reads every row{space}{order}, from {from} to {to}", told.to_argument()));
    }
    let mut text = ways.join("; ");
    if readings.iter().any(|reading| reading.zone.is_some() && !reading.zone_is_known) {
        text.push_str(" (give the zone that the stamps are in, if it is another)");
    }
    text
}

/// What a stamp of no known spelling may be, and what to do.
fn what_it_may_be(stamp: &str) -> &'static str {
    match stamp.parse::<f64>() {
        Ok(_) if stamp.contains(['e', 'E']) => "a spreadsheet has rounded it; fetch the file again",
        Ok(days) if (20_000.0..80_000.0).contains(&days) => {
            "it may be a spreadsheet's count of days; have its column written as dates, such as 2020-06-29 01:00"
        }
        _ => "write it as ISO 8601, or tell its spelling in strptime's letters as data.time_format",
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

fn config_error(key: &str, problem: String) -> Error {
    Error::Config { key: key.to_owned(), problem }
}

#[cfg(test)]
#[path = "tests/stamp_surveys.rs"]
mod tests;
