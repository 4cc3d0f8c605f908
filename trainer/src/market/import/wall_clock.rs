//! From what a stamp says to an instant: clocks of zones, with the hour that they skip and the one that they repeat.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::market::import::spelling::Moment;

/// The years a bar can be in; a stamp beyond them was read by the wrong format.
const YEARS: std::ops::Range<i16> = 1900..2200;

/// The clock that the stamps of one sequence of bars are read from, in the order of its rows.
#[derive(Debug, Clone)]
pub(super) struct WallClock {
    zone: TimeZone,
    zone_name: String,
    newest_first: bool,
    /// The instant of the row before, in milliseconds.
    last_millis: Option<i64>,
    /// How many stamps lay in an hour that clocks repeat.
    pub(super) n_repeated_hour: u64,
    /// How many stamps were finer than a millisecond.
    pub(super) n_rounded: u64,
    /// How many stamps named no offset and no zone.
    pub(super) n_without_zone: u64,
}

impl WallClock {
    /// A clock of the zone that stamps are in which name none.
    pub(super) fn new(zone_name: &str, zone: TimeZone) -> WallClock {
        let zone_name = zone_name.to_owned();
        let (n_repeated_hour, n_rounded, n_without_zone) = (0, 0, 0);
        let (newest_first, last_millis) = (false, None);
        WallClock { zone, zone_name, newest_first, last_millis, n_repeated_hour, n_rounded, n_without_zone }
    }

    /// Lets time run backward from row to row, which decides what a stamp in the repeated hour means.
    pub(super) fn set_newest_first(&mut self, newest_first: bool) {
        self.newest_first = newest_first;
    }

    /// Begins another sequence of rows.
    pub(super) fn restart(&mut self) {
        self.last_millis = None;
    }

    /// The instant of the next row, in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// What is wrong with it: an hour that clocks skipped, a year that no bar is in.
    pub(super) fn instant(&mut self, moment: &Moment) -> Result<i64, String> {
        let instant = match moment {
            Moment::Instant(instant) => *instant,
            Moment::Wall(wall) => {
                self.n_without_zone += 1;
                let (zone, name) = (self.zone.clone(), self.zone_name.clone());
                self.on_wall(*wall, &zone, &name)?
            }
            Moment::Zoned(wall, zone) => {
                self.on_wall(*wall, zone, zone.iana_name().unwrap_or("their zone"))?
            }
        };
        let year = Offset::UTC.to_datetime(instant).year();
        if !YEARS.contains(&year) {
            return Err("the stamp is not between the years 1900 and 2200: is its format right?".to_owned());
        }
        let nanos = instant.as_nanosecond();
        let millis = (nanos + 500_000).div_euclid(1_000_000) as i64;
        self.n_rounded += u64::from(nanos % 1_000_000 != 0);
        self.last_millis = Some(millis);
        Ok(millis)
    }

    /// The instant at which clocks of a zone showed `wall`.
    fn on_wall(&mut self, wall: DateTime, zone: &TimeZone, name: &str) -> Result<Timestamp, String> {
        let at = |offset: Offset| {
            offset.to_timestamp(wall).map_err(|_| format!("the stamp {wall} is beyond the calendar"))
        };
        match zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset),
            AmbiguousOffset::Gap { .. } => Err(format!(
                "clocks in {name} never showed {wall}: they skipped it in spring; is the zone right?"
            )),
            AmbiguousOffset::Fold { before, after } => {
                self.n_repeated_hour += 1;
                let (first, second) = (at(before)?, at(after)?);
                Ok(match self.last_millis {
                    Some(last) if self.newest_first && second.as_millisecond() >= last => first,
                    None | Some(_) if self.newest_first => second,
                    Some(last) if first.as_millisecond() <= last => second,
                    None | Some(_) => first,
                })
            }
        }
    }
}
