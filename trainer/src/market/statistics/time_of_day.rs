//! Numbers compared with those of the same time on the days before.

use crate::market::statistics::percentile::signed_percentile;

/// Where a number stands among the last ones of the same time of day.
///
/// Undefined (NaN) until some time of day was seen often enough; from then on a time of day that was not (the first
/// bars of a new session) gives 0, so that what was once defined stays so.
#[derive(Debug, Clone)]
pub struct TimeOfDayPercentile {
    history: Vec<Vec<f64>>,
    n_kept: usize,
    n_needed: usize,
    is_defined: bool,
}

impl TimeOfDayPercentile {
    /// For `n_slots` times of day, among the last `n_kept` numbers of the same, from `n_needed` on, the current
    /// included.
    #[must_use]
    pub fn new(n_slots: usize, n_kept: usize, n_needed: usize) -> Self {
        Self { history: vec![Vec::new(); n_slots], n_kept, n_needed, is_defined: false }
    }

    /// Takes the next number, of the time of day `slot` (below `n_slots`); gives 2 × percentile − 1, in `[-1, 1]`.
    pub fn push(&mut self, slot: usize, value: f64) -> f64 {
        let history = &mut self.history[slot];
        if history.len() == self.n_kept {
            history.remove(0);
        }
        history.push(value);
        let is_known = history.len() >= self.n_needed;
        self.is_defined |= is_known;
        match (is_known, self.is_defined) {
            (true, _) => signed_percentile(history, value),
            (false, true) => 0.0,
            (false, false) => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_ranked_among_its_own_time_of_day_from_the_fifth_on() {
        let mut percentiles = TimeOfDayPercentile::new(3, 20, 5);
        for day in 0..4 {
            assert!(percentiles.push(0, f64::from(day)).is_nan());
            assert!(percentiles.push(1, 100.0).is_nan());
        }
        assert_eq!(percentiles.push(0, 4.0), 2.0 * (4.5 / 5.0) - 1.0);
        assert_eq!(percentiles.push(2, 1.0), 0.0, "once defined, a rare time of day gives 0");
        assert_eq!(percentiles.push(1, 100.0), 0.0, "all are equal");
    }

    #[test]
    fn only_the_last_twenty_count() {
        let mut percentiles = TimeOfDayPercentile::new(1, 20, 5);
        for _ in 0..10 {
            percentiles.push(0, 1000.0);
        }
        for _ in 0..19 {
            percentiles.push(0, 1.0);
        }
        assert_eq!(percentiles.push(0, 2.0), 2.0 * (19.5 / 20.0) - 1.0);
    }
}
