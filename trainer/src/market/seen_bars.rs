//! Which bars a run has learned from, so that no later evaluation takes them for unseen.
//!
//! Bars are known again by what they are, and not by the file that they come from: each hour of five-minute bars has a
//! hash over its times and prices. Volume is left out, since vendors of the same prices count it differently, and so are
//! hours in which the price does not move, which are the same in many markets.
//!
//! One hour that is known again makes it the same market: then all of the time in which the run has learned is taken
//! for seen, also the hours at the edges of a file that are not whole.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::market::bar::Bar;

const HOUR_MILLIS: i64 = 3_600_000;
/// Hexadecimal digits of an hour.
const N_DIGITS: usize = 8;

/// The data of a run, as they are kept in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    /// SHA-256 over all bars of the run.
    pub identity: String,
    /// What was learned from in each instrument.
    pub instruments: Vec<SeenBars>,
}

/// The bars of one instrument that a run has trained or validated on, with those that its windows reach back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenBars {
    /// The instrument's name in the run.
    pub name: String,
    /// Open of the first bar, UTC in milliseconds.
    pub from_millis: i64,
    /// Close of the last bar, UTC in milliseconds.
    pub until_millis: i64,
    /// The hash of each hour from that of the first bar on, eight hexadecimal digits each; zeros where there is none.
    pub hours: String,
}

impl SeenBars {
    /// A record of `bars`, five-minute bars in order of time; none of no bars.
    #[must_use]
    pub fn of(name: &str, bars: &[Bar]) -> Option<Self> {
        let (first, last) = (bars.first()?, bars.last()?);
        let mut hours = String::new();
        let mut next_hour = first.open_millis.div_euclid(HOUR_MILLIS);
        for (hour, hash) in hours_of(bars) {
            (next_hour..hour).for_each(|_| hours.push_str(&digits(0)));
            hours.push_str(&digits(hash));
            next_hour = hour + 1;
        }
        Some(Self {
            name: name.to_owned(),
            from_millis: first.open_millis,
            until_millis: last.close_millis,
            hours,
        })
    }

    /// How many hours of `bars` are among those of this record.
    fn n_known_hours(&self, bars: &[Bar]) -> usize {
        let first_hour = self.from_millis.div_euclid(HOUR_MILLIS);
        let is_known = |(hour, hash): &(i64, u32)| {
            let at = usize::try_from(hour - first_hour).ok().and_then(|at| at.checked_mul(N_DIGITS));
            let kept = at.and_then(|at| self.hours.get(at..at + N_DIGITS));
            *hash != 0 && kept == Some(digits(*hash).as_str())
        };
        hours_of(bars).filter(is_known).count()
    }
}

impl DataRecord {
    /// The time in which the run has learned from the market of `bars` (five-minute bars in order of time), from the
    /// open of its first bar to the close of its last; none if it is not known again.
    #[must_use]
    pub fn seen_millis(&self, bars: &[Bar]) -> Option<Range<i64>> {
        let known = self.instruments.iter().filter(|seen| seen.n_known_hours(bars) > 0);
        known
            .map(|seen| seen.from_millis..seen.until_millis)
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
    }
}

/// Each hour of `bars` that has a bar, since 1970, with its hash; 0 where the price does not move.
fn hours_of(bars: &[Bar]) -> impl Iterator<Item = (i64, u32)> {
    let hour_of = |bar: &Bar| bar.open_millis.div_euclid(HOUR_MILLIS);
    bars.chunk_by(move |a, b| hour_of(a) == hour_of(b)).map(move |hour| (hour_of(&hour[0]), hash(hour)))
}

/// FNV-1a over times and prices; not 0 where the price moves.
fn hash(bars: &[Bar]) -> u32 {
    let price = bars[0].open;
    if bars.iter().all(|bar| bar.high == price && bar.low == price) {
        return 0;
    }
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for bar in bars {
        let words = [bar.open, bar.high, bar.low, bar.close].map(f64::to_bits);
        for byte in words.into_iter().chain([bar.open_millis as u64]).flat_map(u64::to_le_bytes) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    ((hash >> 32) as u32 ^ hash as u32).max(1)
}

fn digits(hash: u32) -> String {
    format!("{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::bar::DECISION_MILLIS;
    use crate::market::indicators::random_walk::random_walk;

    fn record(bars: &[Bar]) -> DataRecord {
        DataRecord { identity: String::new(), instruments: SeenBars::of("x", bars).into_iter().collect() }
    }

    #[test]
    fn bars_are_known_again_whatever_the_file_begins_and_ends_with_and_whatever_its_volume() {
        let mut bars = random_walk(3_000, 1);
        bars.retain(|bar| bar.open_millis % (50 * DECISION_MILLIS) > 3 * DECISION_MILLIS);
        let seen = record(&bars[..2_000]);
        let span = Some(bars[0].open_millis..bars[1_999].close_millis);
        assert_eq!(seen.seen_millis(&bars), span);
        let mut part = bars[1_001..1_777].to_vec();
        part.iter_mut().for_each(|bar| bar.volume *= 3.0);
        assert_eq!(seen.seen_millis(&part), span);
        assert_eq!(seen.seen_millis(&bars[2_010..]), None, "what comes later was not seen");
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<DataRecord>(&text).unwrap(), seen);
    }

    #[test]
    fn other_prices_other_times_and_prices_that_stand_still_are_not_known() {
        let bars = random_walk(1_000, 2);
        let seen = record(&bars);
        assert_eq!(seen.seen_millis(&random_walk(1_000, 3)), None);
        let later = |bar: &Bar| Bar { open_millis: bar.open_millis + HOUR_MILLIS, ..*bar };
        assert_eq!(seen.seen_millis(&bars.iter().map(later).collect::<Vec<_>>()), None);
        let still = |bar: &Bar| Bar { open: 1.0, high: 1.0, low: 1.0, close: 1.0, ..*bar };
        let still: Vec<Bar> = bars.iter().map(still).collect();
        assert_eq!(record(&still).seen_millis(&still), None);
    }
}
