//! The trend of the resident bytes, fitted to a bounded ring of readings. It predicts; it decides nothing.

use std::collections::VecDeque;

use crate::system::snapshot::Snapshot;

/// The fewest readings from which a rise is inferred.
const FEWEST_READINGS: usize = 12;
/// A slope of at least this many standard errors is a rise.
const SURE_AT_ERRORS: f64 = 3.0;

/// The part of a snapshot that the trend keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Milliseconds since the memory system started.
    pub at_millis: u64,
    /// Bytes resident.
    pub resident_bytes: u64,
    /// Bytes with an owner.
    pub counted_bytes: u64,
    /// Resident less counted bytes.
    pub residual_bytes: i64,
}

/// The latest readings, oldest first.
#[derive(Debug, Clone)]
pub struct Readings {
    ring: VecDeque<Reading>,
    capacity: usize,
}

/// The least-squares straight line through the resident bytes of the readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Number of readings that it rests on.
    pub n_readings: usize,
    /// Milliseconds between the first and the last reading.
    pub span_millis: u64,
    /// The slope: growth of the resident bytes, negative if they shrink.
    pub bytes_per_second: f64,
    /// The slope's standard error.
    pub error_bytes_per_second: f64,
    /// Milliseconds from the last reading until the line reaches the memory limit; `None` if the bytes do not rise
    /// significantly.
    pub reaches_limit_in_millis: Option<u64>,
}

impl Readings {
    /// An empty ring for `capacity` readings.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { ring: VecDeque::with_capacity(capacity), capacity }
    }

    /// Adds a reading. A full ring drops its oldest one.
    pub fn push(&mut self, snapshot: &Snapshot) {
        while !self.ring.is_empty() && self.ring.len() >= self.capacity {
            self.ring.pop_front();
        }
        let Snapshot { at_millis, resident_bytes, counted_bytes, residual_bytes, .. } = *snapshot;
        self.ring.push_back(Reading { at_millis, resident_bytes, counted_bytes, residual_bytes });
    }

    /// The readings, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Reading> {
        self.ring.iter()
    }

    /// The trend of the resident bytes towards a memory limit of `limit_bytes`; `None` before there are three readings at
    /// different times.
    #[must_use]
    pub fn trend(&self, limit_bytes: u64) -> Option<Trend> {
        let (first, last) = (self.ring.front()?, self.ring.back()?);
        let n_readings = self.ring.len();
        let span_millis = last.at_millis.saturating_sub(first.at_millis);
        if n_readings < 3 || span_millis == 0 {
            return None;
        }
        // Relative to the first reading, so that squares of large numbers do not lose digits.
        let points = || {
            self.ring.iter().map(|reading| {
                let seconds = reading.at_millis.saturating_sub(first.at_millis) as f64 / 1e3;
                (seconds, reading.resident_bytes as f64 - first.resident_bytes as f64)
            })
        };
        let n = n_readings as f64;
        let (sum_x, sum_y) = points().fold((0.0, 0.0), |(sum_x, sum_y), (x, y)| (sum_x + x, sum_y + y));
        let (mean_x, mean_y) = (sum_x / n, sum_y / n);
        let (xx, xy) = points().fold((0.0, 0.0), |(xx, xy), (x, y)| {
            (xx + (x - mean_x) * (x - mean_x), xy + (x - mean_x) * (y - mean_y))
        });
        let slope = xy / xx;
        let squares: f64 = points().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
        let error = (squares / (n - 2.0) / xx).sqrt();
        let is_rising = n_readings >= FEWEST_READINGS && slope > 0.0 && slope >= SURE_AT_ERRORS * error;
        let left_bytes = limit_bytes.saturating_sub(last.resident_bytes) as f64;
        Some(Trend {
            n_readings,
            span_millis,
            bytes_per_second: slope,
            error_bytes_per_second: error,
            // The cast saturates for times beyond 584 million years.
            reaches_limit_in_millis: (is_rising && limit_bytes < u64::MAX)
                .then_some((left_bytes / slope * 1e3) as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(capacity: usize, resident: impl Fn(u64) -> u64, n: u64) -> Readings {
        let mut readings = Readings::new(capacity);
        for index in 0..n {
            let resident_bytes = resident(index);
            readings.push(&Snapshot { at_millis: index * 5000, resident_bytes, ..Snapshot::default() });
        }
        readings
    }

    #[test]
    fn a_steady_rise_tells_when_it_reaches_the_limit() {
        let trend = readings(120, |index| (1 << 30) + index * 5000, 20).trend((1 << 30) + 195_000).unwrap();
        assert!((trend.bytes_per_second - 1000.0).abs() < 1e-6, "{trend:?}");
        assert_eq!((trend.n_readings, trend.span_millis), (20, 95_000));
        let millis = trend.reaches_limit_in_millis.unwrap();
        assert!(millis.abs_diff(100_000) <= 1, "{millis}");
    }

    #[test]
    fn noise_reaches_nothing() {
        let trend = readings(120, |index| (1 << 30) + (index * 7919) % 1000, 100).trend(1 << 31).unwrap();
        assert_eq!(trend.reaches_limit_in_millis, None, "{trend:?}");
    }

    #[test]
    fn a_fall_and_too_few_readings_reach_nothing() {
        let fall = readings(120, |index| (1 << 30) - index * 100, 20).trend(1 << 31).unwrap();
        assert!(fall.bytes_per_second < 0.0 && fall.reaches_limit_in_millis.is_none());
        let few = readings(120, |index| index * 5000, 11).trend(1 << 31).unwrap();
        assert_eq!(few.reaches_limit_in_millis, None);
        assert_eq!(readings(120, |index| index, 2).trend(1 << 31), None);
    }

    #[test]
    fn the_ring_keeps_the_latest() {
        let readings = readings(4, |index| index, 10);
        let kept: Vec<u64> = readings.iter().map(|reading| reading.resident_bytes).collect();
        assert_eq!(kept, [6, 7, 8, 9]);
    }
}
