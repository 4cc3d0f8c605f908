//! The memory of the run's GPU: its limit, what learner steps cost there, and whether they fit.
//!
//! All bytes here are those of the GPU's own allocator. The plan of the process's memory ([`crate::memory::plan`]) counts
//! nothing that lies on the GPU.

use std::fmt;

use memsys::libtorch;
use memsys::limit::MemoryLimit;
use memsys::os::cuda_driver::gpu_bytes;
use memsys::step::cost::{StepConfig, StepCosts};
use tch::Device;

use crate::error::{Error, Result};
use crate::format;
use crate::resolve::Parts;

/// The part of the device limit that stays free for blocks that do not fit together: one in this many bytes.
const UNUSABLE_PART: u64 = 16;

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

/// Number of allocations that the run's GPU has refused; 0 without a GPU.
#[must_use]
pub fn n_refused() -> u64 {
    let statistics = libtorch::gpu_in_use().and_then(|gpu| gpu.statistics().ok());
    statistics.map_or(0, |statistics| statistics.n_refused)
}

/// Measures what a piece of work takes on the run's GPU.
#[derive(Debug)]
pub struct DeviceMeter {
    before_bytes: u64,
}

impl DeviceMeter {
    /// Begins to measure.
    #[must_use]
    pub fn start() -> Self {
        let gpu = libtorch::gpu_in_use();
        let before = gpu.and_then(|gpu| {
            gpu.restart_peaks();
            gpu.statistics().ok()
        });
        Self { before_bytes: before.map_or(0, |before| before.allocated_bytes) }
    }

    /// Bytes at the peak since the start beyond those before it; 0 without a GPU.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        let statistics = libtorch::gpu_in_use().and_then(|gpu| gpu.statistics().ok());
        statistics.map_or(0, |statistics| statistics.peak_allocated_bytes.saturating_sub(self.before_bytes))
    }
}

/// What the networks take on the run's GPU.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceProfile {
    /// The cost of each micro-batch size and activation mode.
    pub costs: StepCosts,
    /// Peak bytes while acting in all environments.
    pub acting_bytes: u64,
    /// Peak bytes while one block of positions is embedded for an evaluation.
    pub evaluation_bytes: u64,
}

/// What a run holds on its GPU, and which step configurations fit there.
#[derive(Debug, Clone, PartialEq)]
pub struct DevicePlan {
    /// The most bytes that the process may take.
    pub limit_bytes: u64,
    /// Bytes that are held for the whole run.
    pub held_bytes: u64,
    /// Bytes that acting, evaluating or testing takes at most beside those.
    pub others_bytes: u64,
    /// What learner steps take beside those.
    pub costs: StepCosts,
}

impl DevicePlan {
    /// Adds up the sets of weights, each of `flat_bytes`.
    #[must_use]
    pub fn new(parts: &Parts, profile: &DeviceProfile, flat_bytes: u64, limit_bytes: u64) -> Self {
        // Online and target network, two moments, the weights of the best validation, and gradients that stay.
        let mut n_sets = if parts.memory.offloads_gradients { 5 } else { 6 };
        let mut held_bytes = 0;
        if !parts.work.is_synchronous {
            // The actor's copy and one on its way to it; acting overlaps with learning.
            n_sets += 2;
            held_bytes += profile.acting_bytes;
        }
        held_bytes += n_sets * flat_bytes;
        // The test has weights of its own.
        let others_bytes = profile.acting_bytes.max(profile.evaluation_bytes + flat_bytes);
        Self { limit_bytes, held_bytes, others_bytes, costs: profile.costs.clone() }
    }

    /// Bytes of the run's peak in a step configuration; `None` if it was not measured on the GPU.
    #[must_use]
    pub fn peak_bytes(&self, step_config: StepConfig) -> Option<u64> {
        Some(self.held_bytes + self.costs.peak_bytes(step_config)?.max(self.others_bytes))
    }

    /// Whether the run fits the device limit in a step configuration.
    #[must_use]
    pub fn fits(&self, step_config: StepConfig) -> bool {
        self.peak_bytes(step_config).is_some_and(|bytes| with_unusable(bytes) <= self.limit_bytes)
    }

    /// The smallest device limit that can hold the run.
    #[must_use]
    pub fn smallest_limit_bytes(&self) -> u64 {
        let learning_bytes = self.costs.leanest().map_or(0, |(_, bytes)| bytes);
        with_unusable(self.held_bytes + learning_bytes.max(self.others_bytes)).next_multiple_of(1 << 20)
    }
}

/// `bytes` and the part of a limit that cannot be used beside them.
fn with_unusable(bytes: u64) -> u64 {
    bytes + bytes.div_ceil(UNUSABLE_PART - 1)
}

impl fmt::Display for DevicePlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "on the GPU")?;
        for (name, bytes) in [
            ("networks, moments and copies", self.held_bytes),
            ("acting, evaluating or testing", self.others_bytes),
            ("the leanest learner step", self.costs.leanest().map_or(0, |(_, bytes)| bytes)),
            ("the device limit", self.limit_bytes),
            ("the smallest device limit that would do", self.smallest_limit_bytes()),
        ] {
            writeln!(formatter, "  {name:<50} {:>12}", format::bytes(bytes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use memsys::nn::activations::ActivationMode;
    use memsys::step::cost::ModeCost;

    use super::*;

    #[test]
    fn a_step_config_fits_by_the_bytes_of_the_device_and_the_smallest_limit_fits_the_leanest() {
        let cost = |mode, bytes_per_sample| ModeCost {
            mode,
            base_bytes: 0.0,
            bytes_per_sample,
            micros_per_sample: if mode == ActivationMode::Keep { 1.0 } else { 2.0 },
        };
        let costs = vec![cost(ActivationMode::Keep, 1e6), cost(ActivationMode::Recompute, 4e5)];
        let costs = StepCosts { smallest: 8, largest: 64, costs, ..StepCosts::default() };
        let plan = |limit_bytes| DevicePlan {
            limit_bytes,
            held_bytes: 100 << 20,
            others_bytes: 0,
            costs: costs.clone(),
        };
        let config = StepConfig::new;
        assert!(plan(200 << 20).fits(config(64, ActivationMode::Keep)));
        let tight = plan(150 << 20);
        assert!(!tight.fits(config(64, ActivationMode::Keep)));
        assert!(tight.fits(config(64, ActivationMode::Recompute)));
        assert!(!tight.fits(config(8, ActivationMode::Spill)), "it was not measured");
        let smallest_bytes = tight.smallest_limit_bytes();
        assert!(plan(smallest_bytes).fits(config(8, ActivationMode::Recompute)));
        assert!(!plan(smallest_bytes - (2 << 20)).fits(config(8, ActivationMode::Recompute)));
        assert!(tight.to_string().contains("the smallest device limit that would do"), "{tight}");
    }

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
