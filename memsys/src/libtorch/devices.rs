//! GPUs: statistics and settings of libtorch's caching allocator.
//!
//! A run uses one GPU. It is named by its index everywhere, because any question about another one would make the driver
//! open a context there, which takes hundreds of MiB.

use std::ffi::CString;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::{Error, Result};
use crate::libtorch::raw;
use crate::libtorch::status::checked;
use crate::os::probe::DeviceBytes;

/// The GPU in use. Until there is one, nothing is asked of CUDA, because a question may start it.
static IN_USE: RwLock<Option<Arc<dyn DeviceMemory>>> = RwLock::new(None);

/// Statistics of a GPU's caching allocator, under libtorch's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceStatistics {
    /// Bytes of live tensors.
    pub allocated_bytes: u64,
    /// Bytes taken from the device, free cached blocks included.
    pub reserved_bytes: u64,
    /// The most bytes of live tensors at once since the peaks were restarted.
    pub peak_allocated_bytes: u64,
    /// The most bytes taken from the device at once since the peaks were restarted.
    pub peak_reserved_bytes: u64,
    /// Number of allocations that failed even after the cache was emptied.
    pub n_refused: u64,
}

/// The memory of a device: what its allocator tells, and its cache. The one that [`use_gpu`] gives asks libtorch.
pub trait DeviceMemory: fmt::Debug + Send + Sync {
    /// The device's name, such as `cuda:0`.
    fn name(&self) -> &'static str;

    /// The most bytes that the process may take from the device.
    fn limit_bytes(&self) -> u64;

    /// The statistics now.
    ///
    /// # Errors
    /// If libtorch does not tell them.
    fn statistics(&self) -> Result<DeviceStatistics>;

    /// Restarts the peaks of the statistics at what is held now.
    fn restart_peaks(&self);

    /// Gives the cached blocks of the device back to its driver.
    fn empty_cache(&self);

    /// What the process holds on the device; 0 bytes if libtorch does not tell.
    fn bytes(&self) -> DeviceBytes {
        let statistics = self.statistics().unwrap_or_default();
        DeviceBytes {
            name: self.name(),
            allocated_bytes: statistics.allocated_bytes,
            reserved_bytes: statistics.reserved_bytes,
            limit_bytes: self.limit_bytes(),
        }
    }
}

/// A GPU with a limit on the bytes that this process takes from it.
#[derive(Debug)]
struct Gpu {
    index: i32,
    name: &'static str,
    limit_bytes: u64,
}

/// Begins to use GPU `index`, of which the process takes at most `limit_bytes` of its `total_bytes`. libtorch refuses
/// allocations beyond, and blocks grow in place if the driver supports it (`expandable_segments`). Call it before the
/// first tensor on a GPU, because the settings apply to what starts afterwards.
///
/// # Errors
/// If libtorch does not accept a setting.
pub fn use_gpu(index: usize, limit_bytes: u64, total_bytes: u64) -> Result<Arc<dyn DeviceMemory>> {
    let fraction = fraction_of(limit_bytes, total_bytes);
    let settings = format!("expandable_segments:True,per_process_memory_fraction:{fraction}");
    let settings = CString::new(settings).map_err(|_| Error::Libtorch {
        what: "set up the device",
        message: "a setting with a zero byte".to_owned(),
    })?;
    // SAFETY: `settings` is NUL-terminated and outlives the call, which copies it.
    checked("set up the device", unsafe { raw::memsys_device_settings(settings.as_ptr()) })?;
    // A run uses one device, so one name is leaked.
    let name = Box::leak(format!("cuda:{index}").into_boxed_str());
    let gpu: Arc<dyn DeviceMemory> = Arc::new(Gpu { index: index as i32, name, limit_bytes });
    *IN_USE.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&gpu));
    Ok(gpu)
}

/// The GPU that [`use_gpu`] began to use.
#[must_use]
pub fn gpu_in_use() -> Option<Arc<dyn DeviceMemory>> {
    IN_USE.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The share of a device that libtorch may take, above 0 and at most 1.
fn fraction_of(limit_bytes: u64, total_bytes: u64) -> f64 {
    (limit_bytes as f64 / total_bytes.max(1) as f64).clamp(f64::MIN_POSITIVE, 1.0)
}

impl DeviceMemory for Gpu {
    fn name(&self) -> &'static str {
        self.name
    }

    fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    fn statistics(&self) -> Result<DeviceStatistics> {
        let mut numbers = [0i64; 5];
        // SAFETY: `numbers` is room for the five numbers that are written, and outlives the call.
        checked("read a device's statistics", unsafe {
            raw::memsys_device_statistics(self.index, numbers.as_mut_ptr())
        })?;
        let [allocated_bytes, reserved_bytes, peak_allocated_bytes, peak_reserved_bytes, n_refused] =
            numbers.map(|number| u64::try_from(number).unwrap_or(0));
        Ok(DeviceStatistics {
            allocated_bytes,
            reserved_bytes,
            peak_allocated_bytes,
            peak_reserved_bytes,
            n_refused,
        })
    }

    fn restart_peaks(&self) {
        // SAFETY: takes no pointers. A peak that does not restart stays too high, which is the careful side.
        let _ = checked("restart a device's peaks", unsafe { raw::memsys_device_restart_peaks(self.index) });
    }

    fn empty_cache(&self) {
        // SAFETY: takes no pointers. Of the devices only this one holds blocks of the process. libtorch empties the cache
        // itself before it refuses, so a failure loses nothing.
        let _ = checked("empty a device's cache", unsafe { raw::memsys_device_empty_cache() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_device_nothing_is_in_use_and_asking_is_an_error() {
        assert!(gpu_in_use().is_none());
        if !tch::Cuda::is_available() {
            let gpu = Gpu { index: 1, name: "cuda:1", limit_bytes: 7 };
            assert!(matches!(gpu.statistics(), Err(Error::Libtorch { .. })));
            gpu.restart_peaks();
            gpu.empty_cache();
            let nothing =
                DeviceBytes { name: "cuda:1", allocated_bytes: 0, reserved_bytes: 0, limit_bytes: 7 };
            assert_eq!(gpu.bytes(), nothing);
        }
    }

    #[test]
    fn the_limit_is_a_share_of_the_device() {
        assert!((fraction_of(6 << 30, 24 << 30) - 0.25).abs() < 1e-12);
        assert!(fraction_of(25 << 30, 24 << 30) <= 1.0);
        assert!(fraction_of(0, 24 << 30) > 0.0);
    }
}
