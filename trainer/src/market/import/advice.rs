//! Which spellings read every stamp of a file, each tried on all of them before it is named.

use jiff::tz::TimeZone;

use crate::market::import::format_guess::{FormatGuess, Order, StampZone, format_guesses};
use crate::market::import::time_formats::{self, TimeFormat};
use crate::market::import::wall_clock::WallClock;

/// The most formats that are joined to read one file: a file of more spellings has none.
const MOST_FORMATS: usize = 4;

/// A spelling that reads every stamp of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StampReading {
    /// The order of its dates' numbers; none where they leave no choice.
    pub(super) order: Option<Order>,
    /// The formats; two stamps may fit different ones.
    pub(super) formats: Vec<TimeFormat>,
    /// The zone to read them in; none where every stamp names its own.
    pub(super) zone: Option<String>,
    /// Whether the stamps, or the user, name that zone.
    pub(super) zone_is_known: bool,
    /// Whether the date has points, so that the day is first if it can be.
    dotted: bool,
    /// The first and the last instant, in milliseconds since 1970.
    pub(super) span_millis: (i64, i64),
    /// Whether time never runs backward from row to row, or never forward.
    is_ordered: bool,
}

/// What is to be said of the stamps of a file whose spelling was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Advice {
    /// One spelling reads them all, and nothing is left to be told.
    Plain(StampReading),
    /// These spellings read them all. Which one is right, or which zone they are in, is the user's to tell.
    Tell(Vec<StampReading>),
    /// No spelling reads them all.
    Foreign {
        /// Which stamp, counted from 0, is the first that none reads which reads those before it.
        index: usize,
        /// What is wrong with it, if it is more than its spelling.
        problem: Option<String>,
    },
}

/// Finds the spellings that read every stamp of a file. `told_zone` is the zone that the user told.
pub(super) fn advise<'a>(stamps: impl Iterator<Item = &'a str> + Clone, told_zone: Option<&str>) -> Advice {
    let mut readings: Vec<StampReading> = Vec::new();
    let mut furthest: (usize, Option<String>) = (0, None);
    for order in Order::ALL {
        match try_order(order, stamps.clone(), told_zone) {
            Ok(reading) if readings.iter().any(|other| other.formats == reading.formats) => {}
            Ok(reading) => {
                let leaves_no_choice = reading.order.is_none();
                readings.push(reading);
                if leaves_no_choice {
                    break;
                }
            }
            Err(fault) => {
                if fault.0 > furthest.0 || furthest.1.is_none() && fault.0 == furthest.0 {
                    furthest = fault;
                }
            }
        }
    }
    // The right order of day and month is the one in which time runs one way.
    if readings.iter().any(|reading| reading.is_ordered) {
        readings.retain(|reading| reading.is_ordered);
    }
    let day_first =
        readings.iter().position(|reading| reading.dotted && reading.order == Some(Order::DayMonthYear));
    if let Some(at) = day_first {
        readings = vec![readings.swap_remove(at)];
    }
    let is_customary = |reading: &StampReading| {
        // ISO 8601 without its signs, `20240304T093000`, is as good as with them.
        day_first.is_some() || reading.formats[0].text().starts_with("%Y%m%dT")
    };
    match &readings[..] {
        [] => Advice::Foreign { index: furthest.0, problem: furthest.1 },
        [one] if one.formats.len() == 1 && (one.zone_is_known || is_customary(one)) => {
            Advice::Plain(readings.remove(0))
        }
        _ => Advice::Tell(readings),
    }
}

/// The reading of one order that reads every stamp, or the first stamp that it cannot read.
fn try_order<'a>(
    order: Order,
    stamps: impl Iterator<Item = &'a str> + Clone,
    told_zone: Option<&str>,
) -> Result<StampReading, (usize, Option<String>)> {
    let mut formats: Vec<TimeFormat> = Vec::new();
    let mut guesses: Vec<FormatGuess> = Vec::new();
    for (index, stamp) in stamps.clone().enumerate() {
        let stamp = stamp.trim();
        if formats.iter().any(|format| format.read(stamp).is_some()) {
            continue;
        }
        let guess = format_guesses(stamp).into_iter().find(|guess| guess.order.is_none_or(|o| o == order));
        let Some(guess) = guess.filter(|_| guesses.len() < MOST_FORMATS) else { return Err((index, None)) };
        // A format with an optional fraction reads what the same format without one reads.
        formats.retain(|format| format.text().replace("%S", "%S%.f") != guess.format.text());
        formats.push(guess.format.clone());
        guesses.push(guess);
    }
    if guesses.is_empty() {
        return Err((0, None));
    }
    let told = |perhaps: &str| match told_zone {
        Some(told) => (told.to_owned(), true),
        None => (perhaps.to_owned(), false),
    };
    // Where some stamps name UTC and the others nothing, both can be read in UTC alone.
    let zones = || guesses.iter().map(|guess| guess.zone).filter(|zone| *zone != StampZone::InFormat);
    let (zone, zone_is_known) = match zones().next() {
        None => (None, true),
        Some(_) if zones().all(|zone| zone == StampZone::Utc) => (Some("UTC".to_owned()), true),
        Some(_) if zones().any(|zone| zone == StampZone::Utc) => {
            if told_zone.is_some_and(|zone| zone != "UTC") {
                return Err((0, Some("some stamps name UTC, and others no zone".to_owned())));
            }
            (Some("UTC".to_owned()), told_zone.is_some())
        }
        Some(_) => {
            let mut named = zones().filter_map(|zone| match zone {
                StampZone::Perhaps(zone) => Some(zone),
                _ => None,
            });
            let perhaps = named.next();
            if named.any(|zone| Some(zone) != perhaps) {
                return Err((
                    0,
                    Some("the stamps name several zones, which one setting cannot tell".to_owned()),
                ));
            }
            let (zone, is_known) = told(perhaps.unwrap_or("UTC"));
            (Some(zone), is_known)
        }
    };
    let zone_of = |name: &str| TimeZone::get(name).map_err(|error| (0, Some(error.to_string())));
    let mut clock = match &zone {
        Some(name) => WallClock::new(name, zone_of(name)?),
        None => WallClock::new("UTC", TimeZone::UTC),
    };
    let mut span: Option<(i64, i64)> = None;
    let (mut last, mut n_forward, mut n_backward) = (None, 0u64, 0u64);
    for (index, stamp) in stamps.enumerate() {
        let moment = time_formats::read(&formats, stamp.trim()).map_err(|_| (index, None))?;
        let millis = clock.instant(&moment).map_err(|problem| (index, Some(problem)))?;
        let (from, to) = span.unwrap_or((millis, millis));
        span = Some((from.min(millis), to.max(millis)));
        n_forward += u64::from(last.is_some_and(|last| millis > last));
        n_backward += u64::from(last.is_some_and(|last| millis < last));
        last = Some(millis);
    }
    Ok(StampReading {
        order: if guesses.iter().all(|guess| guess.order.is_none()) { None } else { Some(order) },
        dotted: guesses.iter().all(|guess| guess.dotted),
        formats,
        zone,
        zone_is_known,
        span_millis: span.unwrap_or_default(),
        is_ordered: n_forward == 0 || n_backward == 0,
    })
}
