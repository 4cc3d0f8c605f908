//! The memory limit of a run: from here on bytes are counted and may be refused.

use std::time::Duration;

use agents::dqn::DqnConfig;
use memsys::ledger::budget;
use memsys::limit::MemoryLimit;
use memsys::nn::activations::ActivationMode;
use memsys::os::probe;
use memsys::os::probe::DeviceBytes;
use memsys::step::cost::StepCosts;
use memsys::step::retry::StepRunner;
use memsys::system::MemoryOptimizationSystem;
use memsys::system::level::Thresholds;
use memsys::system::recommend;
use memsys::{ledger, libtorch};
use tch::Device;

use crate::config::{ActivationChoice, Config, EnvironmentKind};
use crate::console::say;
use crate::envs::Environment;
use crate::envs::cartpole::CartPole;
use crate::error::{Error, Result};
use crate::format;
use crate::market::account::ACCOUNT_WIDTH;
use crate::memory::plan::{DataBytes, Plan, SLACK_BYTES};
use crate::memory::profile::{MemoryProfile, estimate, micro_batches, profile};
use crate::run::build::dqn_config;

/// Share of each GPU that the process takes at most, where the memory limit is given in bytes: those are of the host.
const DEVICE_FRACTION: f64 = 0.8;

/// The memory limit in bytes.
///
/// # Errors
/// [`Error::Config`] where it lies above what the machine or its control group allows.
pub fn limit_bytes(config: &Config) -> Result<u64> {
    let allowed = probe::allowed_bytes()?;
    let limit = config.memory.limit.limit_bytes(allowed);
    if matches!(config.memory.limit, MemoryLimit::Bytes(_)) && limit > allowed {
        let problem = format!(
            "a memory limit of {} lies above the {} that this machine or its control group allows; give that or less, \
             or as a share such as 80%",
            format::bytes(limit),
            format::bytes(allowed)
        );
        return Err(Error::Config { key: "memory.limit".to_owned(), problem });
    }
    Ok(limit)
}

/// Sets the memory limit: counts every tensor from here on, measures what the networks cost, and refuses a memory limit that cannot
/// hold the run, before anything is loaded. Without management nothing is counted and nothing is known.
///
/// # Errors
/// [`Error::LimitTooLow`], or where libtorch refuses a call.
pub fn apply_limit(config: &Config, device: Device) -> Result<Option<MemoryProfile>> {
    let limit = limit_bytes(config)?;
    if !config.memory.managed {
        libtorch::attend_plainly();
        return Ok(None);
    }
    if device.is_cuda() {
        let share = match config.memory.limit {
            MemoryLimit::Percent(percent) => percent / 100.0,
            MemoryLimit::Bytes(_) => DEVICE_FRACTION,
        };
        libtorch::use_devices(share)?;
    }
    if !config.memory.counted {
        return Ok(None);
    }
    count()?;
    let dqn = network(config);
    let data = DataBytes::estimated(config)?;
    let too_low =
        |profile: &MemoryProfile| Error::LimitTooLow(Box::new(Plan::new(config, profile, data, limit)));
    // What is resident already counts while the survey runs under the memory limit.
    ledger::set_base(probe::resident_bytes()?.saturating_sub(ledger::counted_bytes()));
    let estimated = estimate(config, &dqn)?;
    // Far below what can be: not even the survey would fit.
    if Plan::new(config, &estimated, data, limit).smallest_limit_bytes * 3 / 4 > limit {
        return Err(too_low(&estimated));
    }
    budget::set_limit(limit);
    let profiled = match profile(config, &dqn, device, limit) {
        Ok(profiled) => profiled,
        Err(_) if budget::n_denied() > 0 => return Err(too_low(&estimated)),
        Err(error) => return Err(error),
    };
    let plan = Plan::new(config, &profiled, data, limit);
    if !plan.fits() {
        return Err(Error::LimitTooLow(Box::new(plan)));
    }
    budget::begin_anew();
    ledger::set_base(profiled.base_bytes);
    ledger::restart_peak();
    budget::allow_residual(profiled.scratch_bytes + SLACK_BYTES);
    budget::inject_refusals(config.memory.refuse_every);
    Ok(Some(profiled))
}

/// Begins to count: every tensor, and what the C library's heap does with freed blocks.
///
/// # Errors
/// Where libtorch refuses the allocator.
pub fn count() -> Result<()> {
    memsys::os::tune_malloc();
    libtorch::count_tensors()?;
    Ok(())
}

/// The network of a run, before its environment is made.
#[must_use]
pub fn network(config: &Config) -> DqnConfig {
    let (n_actions, local_width) = match config.run.environment {
        EnvironmentKind::Market => (3, ACCOUNT_WIDTH),
        EnvironmentKind::Cartpole => {
            let environment = CartPole::new();
            (environment.n_actions(), environment.local_width())
        }
    };
    dqn_config(config, n_actions, local_width)
}

/// How learner steps are made: on the step configuration that fits what is free now, less `growth_bytes` that will be taken later. A
/// resumed run had `resumed` as its largest micro-batch, and has it again.
///
/// # Errors
/// [`Error::LimitTooLow`] where not even the leanest step configuration fits.
pub fn steps(
    config: &Config,
    profile: Option<&MemoryProfile>,
    growth_bytes: u64,
    resumed: Option<usize>,
) -> Result<StepRunner> {
    let Some(profile) = profile else {
        let whole = config.agent.batch;
        return Ok(StepRunner::fixed(if config.memory.managed {
            config.agent.micro_batch.min(whole)
        } else {
            whole
        }));
    };
    let free = budget::headroom_bytes() + ledger::CACHE.bytes();
    let (_, largest) = micro_batches(config);
    let costs = StepCosts { largest: resumed.unwrap_or(largest), ..profile.costs.clone() };
    match costs.choose(free.saturating_sub(growth_bytes)) {
        Some(step_config) => Ok(StepRunner::new(costs, step_config)),
        None => {
            let data = DataBytes::estimated(config)?;
            Err(Error::LimitTooLow(Box::new(Plan::new(config, profile, data, budget::limit_bytes()))))
        }
    }
}

/// Starts to watch over the memory of a managed run. Alerts go to the person.
///
/// # Errors
/// Where the kernel does not tell how memory stands, or no thread can be started.
pub fn watch(
    config: &Config,
    device: Device,
    steps: &mut StepRunner,
) -> Result<Option<MemoryOptimizationSystem>> {
    if !config.memory.managed || !config.memory.counted {
        return Ok(None);
    }
    let memory = &config.memory;
    let thresholds = Thresholds {
        warning_fraction: memory.memory_warning_threshold,
        critical_fraction: memory.memory_critical_threshold,
        ..Thresholds::default()
    };
    let mut builder = MemoryOptimizationSystem::builder()
        .thresholds(thresholds)
        .interval(Duration::from_secs_f64(memory.monitoring_interval))
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

/// What the memory system may recommend settings of.
#[must_use]
pub fn run_settings(config: &Config) -> recommend::RunSettings {
    recommend::RunSettings {
        replay_capacity_transitions: config.replay.capacity as u64,
        n_environments: config.run.n_environments as u64,
        micro_batch: config.agent.micro_batch as u64,
        activations: match config.memory.activations {
            ActivationChoice::Auto => None,
            ActivationChoice::Keep => Some(ActivationMode::Keep),
            ActivationChoice::Recompute => Some(ActivationMode::Recompute),
            ActivationChoice::Spill => Some(ActivationMode::Spill),
        },
        compact_preset_bytes: None,
    }
}
