//! The memory limit of a process: from here on bytes are counted and may be refused.

use memsys::ledger::budget;
use memsys::limit::MemoryLimit;
use memsys::os::probe::DeviceBytes;
use memsys::os::{probe, tune_malloc};
use memsys::step::cost::StepCosts;
use memsys::step::retry::StepRunner;
use memsys::system::MemoryOptimizationSystem;
use memsys::{ledger, libtorch};
use tch::Device;

use crate::console::say;
use crate::error::{Error, Result};
use crate::format;
use crate::memory::options::MemoryOptions;
use crate::memory::plan::{DataBytes, MemoryPlan, SLACK_BYTES};
use crate::memory::profile::{MemoryProfile, estimate, profile};
use crate::resolve::Parts;

/// Share of each GPU that the process takes at most, where the memory limit is given in bytes: those are of the host.
const DEVICE_FRACTION: f64 = 0.8;

/// A memory limit in bytes.
///
/// # Errors
/// [`Error::Config`] if it lies above what the machine or its control group allows.
pub fn limit_bytes(limit: MemoryLimit) -> Result<u64> {
    let allowed = probe::allowed_bytes()?;
    let bytes = limit.limit_bytes(allowed);
    if matches!(limit, MemoryLimit::Bytes(_)) && bytes > allowed {
        let problem = format!(
            "a memory limit of {} lies above the {} that this machine or its control group allows; give that or less, \
             or a share such as 80%",
            format::bytes(bytes),
            format::bytes(allowed)
        );
        return Err(Error::Config { key: "memory.limit".to_owned(), problem });
    }
    Ok(bytes)
}

/// What was measured and planned where a memory limit was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// What the networks cost.
    pub profile: MemoryProfile,
    /// What the whole run will hold.
    pub plan: MemoryPlan,
}

/// Applies a memory limit to the process: counts every tensor from here on, measures what the networks of `parts`
/// cost, plans the run, and refuses a limit that cannot hold it before anything is loaded. Without management nothing
/// is counted, and nothing is known.
///
/// # Errors
/// [`Error::LimitTooLow`], or if libtorch refuses a call.
pub fn apply(limit: MemoryLimit, parts: &Parts) -> Result<Option<Applied>> {
    let Some(applied) = measure(limit, parts)? else { return Ok(None) };
    if !applied.plan.fits() {
        return Err(applied.plan.too_low());
    }
    budget::begin_anew();
    ledger::set_base(applied.profile.base_bytes);
    ledger::restart_peak();
    budget::allow_residual(applied.profile.scratch_bytes + SLACK_BYTES);
    budget::inject_refusals(parts.memory.refuse_every);
    Ok(Some(applied))
}

/// Sets the memory limit, measures and plans as [`apply`] does, and leaves it to the caller whether the plan fits. A
/// limit that has no room even for measuring is answered with an estimate.
///
/// # Errors
/// If libtorch refuses a call.
pub fn measure(limit: MemoryLimit, parts: &Parts) -> Result<Option<Applied>> {
    let limit_bytes = limit_bytes(limit)?;
    let memory = &parts.memory;
    if !memory.is_managed {
        libtorch::attend_plainly();
        return Ok(None);
    }
    if parts.device.is_cuda() {
        let share = match limit {
            MemoryLimit::Percent(percent) => percent / 100.0,
            MemoryLimit::Bytes(_) => DEVICE_FRACTION,
        };
        libtorch::use_devices(share)?;
    }
    if !memory.is_counted {
        return Ok(None);
    }
    count()?;
    let data = DataBytes::estimated(parts)?;
    let planned = |profile: MemoryProfile| {
        let plan = MemoryPlan::new(parts, &profile, data, limit_bytes);
        Applied { profile, plan }
    };
    // What is resident already counts while the networks are measured under the memory limit.
    ledger::set_base(probe::resident_bytes()?.saturating_sub(ledger::counted_bytes()));
    let estimated = planned(estimate(parts)?);
    // Far below what can be: not even measuring would fit.
    if estimated.plan.smallest_limit_bytes * 3 / 4 > limit_bytes {
        return Ok(Some(estimated));
    }
    budget::set_limit(limit_bytes);
    match profile(parts, limit_bytes) {
        Ok(profile) => Ok(Some(planned(profile))),
        Err(_) if budget::n_denied() > 0 => Ok(Some(estimated)),
        Err(error) => Err(error),
    }
}

/// The plan of a run whose networks are estimated from their widths: nothing is run.
///
/// # Errors
/// If the process's memory or a file cannot be read.
pub fn plan_statically(limit: MemoryLimit, parts: &Parts) -> Result<MemoryPlan> {
    let limit_bytes = limit_bytes(limit)?;
    Ok(MemoryPlan::new(parts, &estimate(parts)?, DataBytes::estimated(parts)?, limit_bytes))
}

/// Applies a memory limit to a process that learns nothing: what is resident now is its base, and what does not fit
/// beside it is refused.
///
/// # Errors
/// If the limit lies above what the machine allows, or libtorch refuses the allocator.
pub fn hold(limit: MemoryLimit) -> Result<()> {
    let limit_bytes = limit_bytes(limit)?;
    count()?;
    ledger::set_base(probe::resident_bytes()?.saturating_sub(ledger::counted_bytes()));
    budget::allow_residual(SLACK_BYTES);
    budget::set_limit(limit_bytes);
    Ok(())
}

/// Begins to count: every tensor, and what the C library's heap does with freed blocks.
///
/// # Errors
/// If libtorch refuses the allocator.
pub fn count() -> Result<()> {
    tune_malloc();
    libtorch::count_tensors()?;
    Ok(())
}

/// How learner steps are made: on the step configuration that fits what is free now, less `growth_bytes` that will be
/// taken later. A resumed run had `resumed` as its largest micro-batch, and has it again.
///
/// # Errors
/// [`Error::LimitTooLow`] if not even the leanest step configuration fits.
pub fn steps(
    memory: &MemoryOptions,
    applied: Option<&Applied>,
    growth_bytes: u64,
    resumed: Option<usize>,
) -> Result<StepRunner> {
    let Some(Applied { profile, plan }) = applied else {
        let is_cut = memory.is_managed;
        return Ok(StepRunner::fixed(if is_cut { memory.largest_micro_batch } else { memory.batch }));
    };
    let free = budget::headroom_bytes() + ledger::CACHE.bytes();
    let largest = resumed.unwrap_or(memory.largest_micro_batch);
    let costs = StepCosts { largest, ..profile.costs.clone() };
    match costs.choose(free.saturating_sub(growth_bytes)) {
        Some(step_config) => Ok(StepRunner::new(costs, step_config)),
        None => Err(plan.too_low()),
    }
}

/// Starts to watch over the memory of a managed run. Alerts go to the person.
///
/// # Errors
/// If the kernel does not tell how memory stands, or no thread can be started.
pub fn watch(
    memory: &MemoryOptions,
    device: Device,
    steps: &mut StepRunner,
) -> Result<Option<MemoryOptimizationSystem>> {
    if !memory.is_managed || !memory.is_counted {
        return Ok(None);
    }
    let mut builder = MemoryOptimizationSystem::builder()
        .thresholds(memory.thresholds)
        .interval(memory.interval)
        .on_alert(|alert| say(&alert.to_string()));
    if let Device::Cuda(index) = device {
        builder = builder.device(move || device_bytes(index));
    }
    let system = builder.start()?;
    steps.follow(system.step_configs());
    Ok(Some(system))
}

fn device_bytes(index: usize) -> DeviceBytes {
    let statistics = libtorch::device_statistics(index).unwrap_or_default();
    DeviceBytes {
        name: "cuda",
        allocated_bytes: statistics.allocated_bytes,
        reserved_bytes: statistics.reserved_bytes,
        limit_bytes: statistics.total_bytes,
    }
}
