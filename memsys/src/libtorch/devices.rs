//! GPUs: statistics and settings of libtorch's caching allocator.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Once};

use crate::error::{Error, Result};
use crate::ledger::reclaimable::{self, Generation, Reclaimable};
use crate::libtorch::raw;
use crate::libtorch::status::checked;

/// Whether a GPU is in use. Until then nothing is asked of CUDA, because a question may start it.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// Statistics of a GPU's caching allocator, under libtorch's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceStatistics {
    /// Bytes of live tensors.
    pub allocated_bytes: u64,
    /// Bytes taken from the device, free cached blocks included.
    pub reserved_bytes: u64,
    /// The most bytes of live tensors at once so far.
    pub peak_allocated_bytes: u64,
    /// The most bytes taken from the device at once so far.
    pub peak_reserved_bytes: u64,
    /// Number of allocations that failed even after the cache was emptied.
    pub n_refused: u64,
    /// Bytes of the device that no process has taken.
    pub free_bytes: u64,
    /// Bytes of the device in all.
    pub total_bytes: u64,
}

/// Begins to use GPUs. The process takes at most `fraction` (above 0, up to 1) of each device, blocks grow in place if the
/// driver supports it (`expandable_segments`), and [`begin_anew`](crate::ledger::budget::begin_anew) also empties the
/// devices' caches. Call it before the first tensor on a GPU.
///
/// # Errors
/// If libtorch does not accept a setting.
pub fn use_devices(fraction: f64) -> Result<()> {
    static ONCE: Once = Once::new();
    IN_USE.store(true, Relaxed);
    ONCE.call_once(|| reclaimable::register(Arc::new(DeviceCaches)).for_good());
    let settings = format!("expandable_segments:True,per_process_memory_fraction:{fraction}");
    let settings = CString::new(settings).map_err(|_| Error::Libtorch {
        what: "set up the devices",
        message: "a setting with a zero byte".to_owned(),
    })?;
    // SAFETY: `settings` is NUL-terminated and outlives the call, which copies it.
    checked("set up the devices", unsafe { raw::memsys_device_settings(settings.as_ptr()) })
}

/// Reads the statistics of GPU `index`.
///
/// # Errors
/// If there is no such device.
pub fn device_statistics(index: usize) -> Result<DeviceStatistics> {
    let mut numbers = [0i64; 7];
    // SAFETY: `numbers` is room for the seven numbers that are written, and outlives the call.
    checked("read a device's statistics", unsafe {
        raw::memsys_device_statistics(index as i32, numbers.as_mut_ptr())
    })?;
    let [allocated, reserved, peak_allocated, peak_reserved, refused, free, total] =
        numbers.map(|number| u64::try_from(number).unwrap_or(0));
    Ok(DeviceStatistics {
        allocated_bytes: allocated,
        reserved_bytes: reserved,
        peak_allocated_bytes: peak_allocated,
        peak_reserved_bytes: peak_reserved,
        n_refused: refused,
        free_bytes: free,
        total_bytes: total,
    })
}

/// The free blocks that libtorch keeps of each device. None of them is the process's memory, so no collection asks for them.
struct DeviceCaches;

impl Reclaimable for DeviceCaches {
    fn name(&self) -> &'static str {
        "the caches of devices"
    }

    fn generation(&self) -> Generation {
        Generation::Caches
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn restore_nanos_per_byte(&self) -> f64 {
        0.1
    }

    fn give_back(&self, _: u64) -> u64 {
        0
    }

    fn begin_anew(&self) {
        empty_device_caches();
    }
}

/// Number of allocations that GPU 0 refused so far; 0 if no GPU is in use. If it rises during a call, an error of that
/// call means out of memory.
pub(crate) fn n_refused_by_devices() -> u64 {
    if IN_USE.load(Relaxed) { device_statistics(0).map_or(0, |statistics| statistics.n_refused) } else { 0 }
}

/// Gives the cached blocks of every GPU back and returns how many bytes of GPU 0 that freed; 0 if no GPU is in use.
fn empty_device_caches() -> u64 {
    if !IN_USE.load(Relaxed) {
        return 0;
    }
    let reserved = || device_statistics(0).map_or(0, |statistics| statistics.reserved_bytes);
    let before = reserved();
    // SAFETY: takes no pointers.
    if checked("empty the devices' caches", unsafe { raw::memsys_device_empty_cache() }).is_err() {
        return 0;
    }
    before.saturating_sub(reserved())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_device_in_use_nothing_is_asked_and_asking_is_an_error() {
        assert_eq!((n_refused_by_devices(), empty_device_caches()), (0, 0));
        if !tch::Cuda::is_available() {
            assert!(matches!(device_statistics(0), Err(Error::Libtorch { .. })));
        }
    }
}
