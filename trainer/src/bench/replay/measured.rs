//! The setting of a measurement and its result.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::bench::median;
use crate::bench::replay::work::Work;
use crate::error::Result;

/// The setting of a measurement.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) work: Arc<Work>,
    pub(super) threads: usize,
    pub(super) repeats: usize,
    pub(super) seconds: f64,
    pub(super) folder: PathBuf,
}

impl Bench {
    /// The rate of `work`, which returns how many items it did: the median of the repeats after one that warms up.
    pub(super) fn rate(&self, mut work: impl FnMut() -> Result<usize>) -> Result<f64> {
        let mut rates = Vec::with_capacity(self.repeats);
        for repeat in 0..=self.repeats {
            let began = Instant::now();
            let mut n = 0;
            while n == 0 || began.elapsed().as_secs_f64() < self.seconds {
                n += work()?;
            }
            if repeat > 0 {
                rates.push(n as f64 / began.elapsed().as_secs_f64());
            }
        }
        Ok(median(&mut rates))
    }
}

/// The result of a row.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) value: f64,
    /// A remark for the reader.
    pub(super) note: String,
    /// Further numbers.
    pub(super) details: Value,
}

impl Measured {
    /// A value without a remark.
    pub(super) fn plain(value: f64) -> Self {
        Self { value, note: String::new(), details: Value::Null }
    }
}
