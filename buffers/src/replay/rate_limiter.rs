//! Keeps inserting and sampling in step (the rule of Reverb's rate limiter, Cassirer et al. 2021).
//!
//! ```text
//! lead = samples_per_insert × inserted − sampled      samples that the insertions so far allow beyond those taken
//! middle = samples_per_insert × min_size_to_sample    the lead when sampling may begin
//!
//! insert  where inserted < min_size_to_sample, or the lead after it stays ≤ middle + error_buffer
//! sample  where inserted ≥ min_size_to_sample, and the lead after it stays ≥ middle − error_buffer
//! ```
//!
//! Both wait only if `middle + e − s·k < lead < middle − e + b`, with `s` samples per insert, `k` transitions per
//! insertion, `b` transitions per batch and the error buffer `e`. This interval is empty if `2 e ≥ s·k + b`, and smaller
//! error buffers are refused, so that one of the two can always go on. The limiter allows half a sample beyond the band,
//! so that rounding cannot close it. It never waits itself: the caller decides what to do when it may not go on.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Samples allowed beyond the band.
const ROUNDING: f64 = 0.5;

/// Options of a rate limiter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimiterOptions {
    /// Samples taken per inserted transition in the long run; finite and above 0.
    pub samples_per_insert: f64,
    /// Transitions inserted before the first sample. Until then inserting never waits.
    pub min_size_to_sample: u64,
    /// Samples by which the ratio may be missed to either side. If infinite, inserting and sampling never wait for each
    /// other.
    pub error_buffer: f64,
    /// The most transitions that the replay holds.
    pub capacity_transitions: u64,
    /// The most transitions inserted at once.
    pub insert_transitions: u64,
    /// The most transitions sampled at once.
    pub batch_transitions: u64,
}

/// Counts inserted and sampled transitions, and says which of the two may go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RateLimiter {
    samples_per_insert: f64,
    min_size_to_sample: u64,
    error_buffer: f64,
    n_inserted: u64,
    n_sampled: u64,
}

impl RateLimiter {
    /// A limiter whose counts are 0.
    ///
    /// # Errors
    /// [`Error::SamplesPerInsert`], [`Error::NeverSamples`] and [`Error::ErrorBuffer`] if inserting and sampling could
    /// wait for each other, or one of them for ever.
    pub fn new(options: &RateLimiterOptions) -> Result<Self> {
        let RateLimiterOptions { samples_per_insert, min_size_to_sample, error_buffer, .. } = *options;
        if !(samples_per_insert.is_finite() && samples_per_insert > 0.0) {
            return Err(Error::SamplesPerInsert { found: samples_per_insert });
        }
        let capacity = options.capacity_transitions;
        if min_size_to_sample > capacity {
            return Err(Error::NeverSamples { wanted: min_size_to_sample, capacity });
        }
        let moved = samples_per_insert * options.insert_transitions as f64 + options.batch_transitions as f64;
        if error_buffer.is_nan() || error_buffer < moved / 2.0 {
            return Err(Error::ErrorBuffer { found: error_buffer, least: moved / 2.0 });
        }
        // Sampling needs at least one transition.
        let min_size_to_sample = min_size_to_sample.max(1);
        Ok(Self { samples_per_insert, min_size_to_sample, error_buffer, n_inserted: 0, n_sampled: 0 })
    }

    /// Whether `n` transitions may be inserted now.
    #[must_use]
    pub fn may_insert(&self, n: u64) -> bool {
        self.n_inserted < self.min_size_to_sample
            || self.lead(self.n_inserted + n, self.n_sampled) <= self.middle() + self.error_buffer + ROUNDING
    }

    /// Whether `n` transitions may be sampled now.
    #[must_use]
    pub fn may_sample(&self, n: u64) -> bool {
        self.n_inserted >= self.min_size_to_sample
            && self.lead(self.n_inserted, self.n_sampled + n) >= self.middle() - self.error_buffer - ROUNDING
    }

    /// Counts `n` inserted transitions.
    pub fn inserted(&mut self, n: u64) {
        self.n_inserted += n;
    }

    /// Counts `n` sampled transitions.
    pub fn sampled(&mut self, n: u64) {
        self.n_sampled += n;
    }

    /// Number of transitions inserted.
    #[must_use]
    pub fn n_inserted(&self) -> u64 {
        self.n_inserted
    }

    /// Number of transitions sampled.
    #[must_use]
    pub fn n_sampled(&self) -> u64 {
        self.n_sampled
    }

    fn lead(&self, n_inserted: u64, n_sampled: u64) -> f64 {
        self.samples_per_insert * n_inserted as f64 - n_sampled as f64
    }

    fn middle(&self) -> f64 {
        self.samples_per_insert * self.min_size_to_sample as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    const OPTIONS: RateLimiterOptions = RateLimiterOptions {
        samples_per_insert: 8.0,
        min_size_to_sample: 1000,
        error_buffer: 256.0,
        capacity_transitions: 10_000,
        insert_transitions: 16,
        batch_transitions: 256,
    };

    proptest! {
        #[test]
        fn one_of_the_two_can_always_go_on_and_the_ratio_is_kept(
            samples_per_insert in 0.01f64..50.0, min_size_to_sample in 0u64..500, insert_transitions in 1u64..40,
            batch_transitions in 1u64..300, slack in 0f64..3.0, seed: u64,
        ) {
            let moved = samples_per_insert * insert_transitions as f64 + batch_transitions as f64;
            let error_buffer = moved / 2.0 + slack * slack * moved;
            let options = RateLimiterOptions {
                samples_per_insert, min_size_to_sample, error_buffer, insert_transitions, batch_transitions,
                ..OPTIONS
            };
            let mut limiter = RateLimiter::new(&options).unwrap();
            let mut rng = Pcg64Mcg::seed_from_u64(seed);
            // One of the two is eager, so that the other must hold it back.
            let eagerness = rng.random::<f64>();
            for _ in 0..3000 {
                let (n_in, n_out) = (rng.random_range(1..=insert_transitions), rng.random_range(1..=batch_transitions));
                let (may_insert, may_sample) = (limiter.may_insert(n_in), limiter.may_sample(n_out));
                prop_assert!(may_insert || may_sample, "both wait");
                if may_insert && (!may_sample || rng.random_bool(eagerness)) {
                    limiter.inserted(n_in);
                } else {
                    limiter.sampled(n_out);
                }
                if limiter.n_sampled() > 0 {
                    let from_middle = limiter.lead(limiter.n_inserted(), limiter.n_sampled()) - limiter.middle();
                    prop_assert!(from_middle.abs() <= error_buffer + moved, "{from_middle}");
                } else {
                    prop_assert!(!may_sample || limiter.n_inserted() >= min_size_to_sample);
                }
            }
        }
    }

    #[test]
    fn a_limiter_that_could_stand_still_is_refused() {
        let refused = |options: RateLimiterOptions| RateLimiter::new(&options).unwrap_err();
        let error = refused(RateLimiterOptions { min_size_to_sample: 10_001, ..OPTIONS });
        assert!(matches!(error, Error::NeverSamples { wanted: 10_001, capacity: 10_000 }));
        let error = refused(RateLimiterOptions { error_buffer: 191.9, ..OPTIONS });
        assert!(matches!(error, Error::ErrorBuffer { found: 191.9, least: 192.0 }));
        for samples_per_insert in [0.0, -1.0, f64::INFINITY] {
            let error = refused(RateLimiterOptions { samples_per_insert, ..OPTIONS });
            assert!(matches!(error, Error::SamplesPerInsert { .. }));
        }
        assert!(RateLimiter::new(&RateLimiterOptions { samples_per_insert: f64::NAN, ..OPTIONS }).is_err());
        assert!(RateLimiter::new(&RateLimiterOptions { error_buffer: f64::NAN, ..OPTIONS }).is_err());
    }

    #[test]
    fn a_band_just_too_narrow_does_stand_still() {
        let options = RateLimiterOptions {
            samples_per_insert: 4.0,
            min_size_to_sample: 10,
            error_buffer: 18.0,
            insert_transitions: 1,
            batch_transitions: 32,
            ..OPTIONS
        };
        let mut limiter = RateLimiter::new(&options).unwrap();
        limiter.error_buffer = 14.0;
        limiter.inserted(10);
        while limiter.may_insert(1) {
            limiter.inserted(1);
        }
        assert!(!limiter.may_sample(32));
    }

    #[test]
    fn before_the_least_size_inserting_is_free_and_sampling_waits() {
        let mut limiter = RateLimiter::new(&OPTIONS).unwrap();
        limiter.inserted(999);
        assert!(limiter.may_insert(16) && !limiter.may_sample(1));
        limiter.inserted(1);
        assert!(limiter.may_sample(256) && !limiter.may_sample(257));
    }
}
