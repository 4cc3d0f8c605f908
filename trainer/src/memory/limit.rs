//! Applies the memory limit to the process: from then on bytes are counted and may be refused.

use memsys::ledger::budget;
use memsys::limit::MemoryLimit;
use memsys::nn::activations;
use memsys::os::{probe, tune_malloc};
use memsys::step::retry::StepRunner;
use memsys::system::MemoryOptimizationSystem;
use memsys::{ledger, libtorch};

use crate::console::say;
use crate::error::{Error, Result};
use crate::format;
use crate::memory::device;
use crate::memory::options::MemoryOptions;
use crate::memory::plan::{DataBytes, MemoryPlan, SLACK_BYTES};
use crate::memory::profile::{MemoryProfile, Profiler, estimate};
use crate::resolve::Parts;

/// Converts a memory limit to bytes.
///
/// # Errors
/// [`Error::Config`] if it is above what the machine or its control group allows.
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

/// The measurement and the plan behind an applied memory limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The bytes of the networks.
    pub profile: MemoryProfile,
    /// The bytes of the whole run.
    pub plan: MemoryPlan,
    /// Bytes that are resident and not counted before the run begins.
    pub base_bytes: u64,
}

/// Applies a memory limit to the process: counts every tensor from here on, measures the networks of `parts`, plans
/// the run, and refuses a limit that cannot hold it before any data is loaded. Returns `None` if memory is not
/// managed or not counted.
///
/// # Errors
/// [`Error::LimitTooLow`], or if libtorch refuses a call.
pub fn apply(limit: MemoryLimit, parts: &Parts) -> Result<Option<Applied>> {
    let Some(applied) = measure(limit, parts)? else { return Ok(None) };
    if !applied.plan.fits() {
        return Err(applied.plan.too_low());
    }
    budget::begin_anew();
    ledger::set_base(applied.base_bytes);
    ledger::restart_peak();
    budget::allow_residual(applied.profile.scratch_bytes + SLACK_BYTES);
    budget::inject_refusals(parts.memory.refuse_every);
    Ok(Some(applied))
}

/// Sets the memory limit, measures and plans as [`apply`] does, but accepts a plan that does not fit. Returns an
/// estimate if the limit has no room even for measuring.
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
    device::begin(parts)?;
    if !memory.is_counted {
        return Ok(None);
    }
    count()?;
    let data = DataBytes::estimated(parts)?;
    // The networks are measured under the memory limit, so the bytes that are already resident must count.
    ledger::set_base(probe::resident_bytes()?.saturating_sub(ledger::counted_bytes()));
    let profile = estimate(parts)?;
    let plan = MemoryPlan::new(parts, &profile, data, limit_bytes);
    let estimated = Applied { base_bytes: profile.base_bytes, profile, plan };
    if estimated.plan.is_hopeless() {
        return Ok(Some(estimated));
    }
    budget::set_limit(limit_bytes);
    match measure_networks(parts, data, limit_bytes) {
        Ok(applied) => Ok(Some(applied)),
        // The memory limit has no room even for measuring.
        Err(error) if error.is_out_of_room() || budget::take_refusal().is_some() => Ok(Some(estimated)),
        Err(error) => Err(error),
    }
}

/// Measures the networks and plans with what was found. The plan's step configuration has been run with the shapes that
/// the run will have; where it took more than was planned, the plan chose again.
fn measure_networks(parts: &Parts, data: DataBytes, limit_bytes: u64) -> Result<Applied> {
    let mut profiler = Profiler::start(parts)?;
    let plan = loop {
        let plan = MemoryPlan::new(parts, profiler.profile(), data, limit_bytes);
        let Some(chosen) = plan.step_config.filter(|_| plan.fits()) else { break plan };
        if profiler.profile().costs.is_measured(chosen) {
            break plan;
        }
        let n_failed = || budget::n_denied() + activations::n_failed_spills() + device::n_refused();
        let before = n_failed();
        match profiler.rehearse(chosen) {
            // A memory limit or a full disk refused it, so that it counts as one that does not fit.
            Err(_) if n_failed() > before => {
                activations::release_failed_backward()?;
                let _ = budget::take_refusal();
            }
            outcome => outcome?,
        }
    };
    let (profile, base_bytes) = profiler.finish()?;
    Ok(Applied { profile, plan, base_bytes })
}

/// The plan of a run, with its networks estimated from their widths. No network is run.
///
/// # Errors
/// If the process's memory or a file cannot be read.
pub fn plan_statically(limit: MemoryLimit, parts: &Parts) -> Result<MemoryPlan> {
    let limit_bytes = limit_bytes(limit)?;
    Ok(MemoryPlan::new(parts, &estimate(parts)?, DataBytes::estimated(parts)?, limit_bytes))
}

/// Applies a memory limit to a process that does not learn. The bytes that are resident now become the ledger's
/// base; an allocation that does not fit beside them is refused. `first_use_bytes` are set aside for what libraries will come
/// to hold uncounted.
///
/// # Errors
/// If the limit is above what the machine allows; [`Error::LimitTooLow`] if it has no room for the program itself; or if
/// libtorch refuses the allocator.
pub fn hold(limit: MemoryLimit, first_use_bytes: u64) -> Result<()> {
    let limit_bytes = limit_bytes(limit)?;
    count()?;
    let resident_bytes = probe::resident_bytes()?;
    let least_bytes = (resident_bytes + first_use_bytes + SLACK_BYTES).next_multiple_of(1 << 20);
    if least_bytes > limit_bytes {
        return Err(Error::LimitTooLow {
            limit_bytes,
            smallest_limit_bytes: least_bytes,
            table: String::new(),
        });
    }
    ledger::set_base(resident_bytes.saturating_sub(ledger::counted_bytes()));
    budget::allow_residual(first_use_bytes + SLACK_BYTES);
    budget::set_limit(limit_bytes);
    Ok(())
}

/// Starts to count every tensor, and makes the C library's heap return freed blocks to the system.
///
/// # Errors
/// If libtorch refuses the allocator.
pub fn count() -> Result<()> {
    tune_malloc();
    libtorch::count_tensors()?;
    Ok(())
}

/// The runner of the learner steps, in the step configuration that was planned.
///
/// # Errors
/// [`Error::LimitTooLow`] if no step configuration fits.
pub fn steps(memory: &MemoryOptions, applied: Option<&Applied>) -> Result<StepRunner> {
    let Some(Applied { profile, plan, .. }) = applied else {
        let is_cut = memory.is_managed;
        return Ok(StepRunner::fixed(if is_cut { memory.largest_micro_batch } else { memory.batch }));
    };
    let Some(step_config) = plan.step_config else { return Err(plan.too_low()) };
    let steps = StepRunner::new(profile.costs.clone(), step_config);
    Ok(match (&profile.device, libtorch::gpu_in_use()) {
        (Some(device), Some(gpu)) => steps.on_device(gpu, device.costs.clone()),
        _ => steps,
    })
}

/// Starts the memory monitor of a managed run, which prints its alerts. Returns `None` if nothing is counted.
///
/// # Errors
/// If the kernel's memory figures cannot be read, or the thread cannot be started.
pub fn watch(memory: &MemoryOptions, steps: &mut StepRunner) -> Result<Option<MemoryOptimizationSystem>> {
    if !memory.is_managed || !memory.is_counted {
        return Ok(None);
    }
    let mut builder = MemoryOptimizationSystem::builder()
        .thresholds(memory.thresholds)
        .interval(memory.interval)
        .on_alert(|alert| say(&alert.to_string()));
    if let Some(gpu) = libtorch::gpu_in_use() {
        builder = builder.device(move || gpu.bytes());
    }
    let system = builder.start()?;
    steps.follow(system.step_advice());
    Ok(Some(system))
}
