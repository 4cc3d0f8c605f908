//! A device for tests on machines without a GPU: it counts bytes, refuses beyond its limit, and has a cache.

use std::sync::Mutex;

use crate::error::{Error, Result};
use crate::libtorch::{DeviceMemory, DeviceStatistics};

/// A device that holds at most `limit_bytes`.
#[derive(Debug)]
pub(crate) struct FakeDevice {
    limit_bytes: u64,
    state: Mutex<(DeviceStatistics, u64)>,
}

impl FakeDevice {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, state: Mutex::default() }
    }

    /// Takes `bytes`, or refuses as libtorch does: with an error that is not of the memory limit.
    pub(crate) fn allocate(&self, bytes: u64) -> Result<()> {
        let (statistics, _) = &mut *self.state.lock().unwrap();
        if statistics.allocated_bytes + bytes > self.limit_bytes {
            statistics.n_refused += 1;
            return Err(Error::Libtorch { what: "allocate", message: "CUDA out of memory".to_owned() });
        }
        statistics.allocated_bytes += bytes;
        statistics.peak_allocated_bytes = statistics.peak_allocated_bytes.max(statistics.allocated_bytes);
        statistics.reserved_bytes = statistics.reserved_bytes.max(statistics.allocated_bytes);
        Ok(())
    }

    /// Frees `bytes` into the cache.
    pub(crate) fn free(&self, bytes: u64) {
        self.state.lock().unwrap().0.allocated_bytes -= bytes;
    }

    /// Takes and frees `bytes`.
    pub(crate) fn visit(&self, bytes: u64) -> Result<()> {
        self.allocate(bytes)?;
        self.free(bytes);
        Ok(())
    }

    /// How often the cache was emptied.
    pub(crate) fn n_emptied(&self) -> u64 {
        self.state.lock().unwrap().1
    }
}

impl DeviceMemory for FakeDevice {
    fn name(&self) -> &'static str {
        "fake:1"
    }

    fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    fn statistics(&self) -> Result<DeviceStatistics> {
        Ok(self.state.lock().unwrap().0)
    }

    fn restart_peaks(&self) {
        let (statistics, _) = &mut *self.state.lock().unwrap();
        statistics.peak_allocated_bytes = statistics.allocated_bytes;
        statistics.peak_reserved_bytes = statistics.reserved_bytes;
    }

    fn empty_cache(&self) {
        let (statistics, n_emptied) = &mut *self.state.lock().unwrap();
        statistics.reserved_bytes = statistics.allocated_bytes;
        *n_emptied += 1;
    }
}
