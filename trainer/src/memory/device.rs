//! The memory of the run's GPU: its limit, its readings, and what learner steps cost there.

use memsys::libtorch;
use memsys::limit::MemoryLimit;
use memsys::os::cuda_driver::gpu_bytes;
use tch::Device;

use crate::error::{Error, Result};
use crate::format;
use crate::resolve::Parts;

/// Begins to use the run's GPU, of which the process takes at most `memory.device_limit`. Does nothing for a run without
/// a GPU. Call it before the first tensor.
///
/// # Errors
/// [`Error::Config`] if the limit is above what is free on the GPU, or if the driver or libtorch refuses a call.
pub fn begin(parts: &Parts) -> Result<()> {
    if let Device::Cuda(index) = parts.device
        && libtorch::gpu_in_use().is_none()
    {
        let gpu = gpu_bytes(index)?;
        let limit_bytes = device_limit_bytes(parts.memory.device_limit, index, gpu.free_bytes)?;
        libtorch::use_gpu(index, limit_bytes, gpu.total_bytes)?;
    }
    Ok(())
}

/// The most bytes that the process may take from GPU `index`, of which `free_bytes` are free.
fn device_limit_bytes(limit: MemoryLimit, index: usize, free_bytes: u64) -> Result<u64> {
    let bytes = limit.limit_bytes(free_bytes);
    if bytes > free_bytes {
        let problem = format!(
            "a device limit of {} lies above the {} that are free on cuda:{index}; give that or less, or a share such as 90%",
            format::bytes(bytes),
            format::bytes(free_bytes)
        );
        return Err(Error::Config { key: "memory.device_limit".to_owned(), problem });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_limit_is_a_share_of_what_is_free_or_at_most_that() {
        let free_bytes = 20 << 30;
        let bytes = |limit| device_limit_bytes(limit, 1, free_bytes);
        assert_eq!(bytes(MemoryLimit::Percent(90.0)).unwrap(), 18 << 30);
        assert_eq!(bytes(MemoryLimit::Bytes(20 << 30)).unwrap(), 20 << 30);
        let refused = bytes(MemoryLimit::Bytes(21 << 30)).unwrap_err();
        assert!(refused.is_usage());
        let told = refused.to_string();
        assert!(told.starts_with("memory.device_limit: a device limit of 21"), "{told}");
        assert!(told.contains("free on cuda:1"), "{told}");
    }
}
