//! Resolves the device, the threads and the seeds of a run.

use memsys::libtorch::Runtime;
use tch::Device;

use crate::error::{Error, Result};
use crate::run::config::DeviceChoice;

/// The seed of one part of a run. Each part has a different one.
#[must_use]
pub fn seed_of(seed: u64, part: u64) -> u64 {
    seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(part.wrapping_mul(0xD1B5_4A32_D192_ED03))
}

/// The number of threads that compute. 0 in the configuration means all cores.
#[must_use]
pub fn threads(wanted: usize) -> i32 {
    let threads =
        if wanted > 0 { wanted } else { std::thread::available_parallelism().map_or(1, usize::from) };
    threads as i32
}

/// The chosen device.
///
/// # Errors
/// [`Error::Config`] if the requested GPU cannot be used.
pub fn device(choice: DeviceChoice, runtime: &Runtime) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(if runtime.cuda { Device::Cuda(0) } else { Device::Cpu }),
        DeviceChoice::Cuda(n) if runtime.cuda && i64::from(n) < tch::Cuda::device_count() => {
            Ok(Device::Cuda(n as usize))
        }
        DeviceChoice::Cuda(n) => Err(Error::Config {
            key: "run.device".to_owned(),
            problem: format!("there is no CUDA device {n} that can be used here; take `auto` or `cpu`"),
        }),
    }
}
