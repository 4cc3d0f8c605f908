//! The newest values of a series that grows.

/// The last values of a series in order of time, in one piece of memory that does not grow with the series.
#[derive(Debug, Clone)]
pub struct Recent {
    n_kept: usize,
    values: Vec<f64>,
}

impl Recent {
    /// No values yet; at least the last `n_kept` will be kept.
    #[must_use]
    pub fn new(n_kept: usize) -> Self {
        Self { n_kept, values: Vec::new() }
    }

    /// Takes the next value.
    pub fn push(&mut self, value: f64) {
        // Twice as many, then half is dropped at once: a value moves once on average.
        if self.values.len() >= 2 * self.n_kept {
            self.values.drain(..self.values.len() - self.n_kept);
        }
        self.values.push(value);
    }

    /// The last `n` values, oldest first; none before there were as many. `n` is at most the number kept.
    #[must_use]
    pub fn last(&self, n: usize) -> Option<&[f64]> {
        debug_assert!(n <= self.n_kept, "{n} values are not kept");
        self.values.get(self.values.len().checked_sub(n)?..)
    }

    /// The values kept, oldest first: all before there were more than the number kept, else that many.
    #[must_use]
    pub fn kept(&self) -> &[f64] {
        &self.values[self.values.len().saturating_sub(self.n_kept)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_values_are_those_of_the_whole_series_at_every_length() {
        for n_kept in [1, 2, 7] {
            let (mut recent, mut all) = (Recent::new(n_kept), Vec::new());
            for i in 0..50 {
                recent.push(f64::from(i));
                all.push(f64::from(i));
                for n in 0..=n_kept {
                    assert_eq!(recent.last(n), all.len().checked_sub(n).map(|from| &all[from..]));
                }
                assert_eq!(recent.kept(), &all[all.len().saturating_sub(n_kept)..]);
                assert!(recent.values.len() <= 2 * n_kept);
            }
        }
    }
}
