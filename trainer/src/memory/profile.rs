//! Measures the bytes of a run's networks before any data is loaded.
//!
//! The configured networks take learner steps, act and evaluate on rows of zeros: allocations depend on shapes, not on
//! values. The bytes that are resident but not counted afterwards are the runtime's base. The peaks at two micro-batch
//! sizes give the linear cost of each activation mode ([`memsys::step::cost`]).

use std::sync::Arc;
use std::time::Instant;

use agents::embedding_cache::BLOCK;
use agents::{Agent, Policy};
use buffers::frames::{Dataset, FrameStream, Instrument, ObservationRef};
use buffers::replay::{Replay, ReplayOptions, StoreOptions, TensorBatch, Transition};
use memsys::ledger::budget;
use memsys::nn::activations;
use memsys::nn::activations::ActivationMode;
use memsys::nn::parameters::Weights;
use memsys::os::probe;
use memsys::step::cost::{ModeCost, StepConfig, StepCosts};
use memsys::step::stage_cost::{ModeTraces, StageCosts};
use memsys::step::stage_trace::StageTrace;
use memsys::{ledger, libtorch};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use crate::envs::observation::{Observation, observe, plain_views};
use crate::error::Result;
use crate::market::dataset::views;
use crate::resolve::Parts;

/// Steps of the stand-in instrument: enough for the longest window and one block of evaluation.
const N_STEPS: usize = 448;
/// The first step at which every window is full.
const FIRST_STEP: usize = 320;

/// Bytes that become resident at the first use of the embedders' kernels: code, and the buffers of oneDNN and MKL.
const FIRST_USE_BYTES: u64 = 58 << 20;
/// The same for plain layers alone.
const FIRST_USE_OF_LAYERS_BYTES: u64 = 18 << 20;
/// Peak activation bytes in mode recompute with four segments, as a fraction of mode keep.
const RECOMPUTED_SHARE: f64 = 0.45;
/// Peak activation bytes in mode spill, as a fraction of mode keep.
const SPILLED_SHARE: f64 = 0.3;

/// The measured or estimated bytes of a run's networks.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryProfile {
    /// Bytes that are resident but not counted after everything ran once: code, static data, libtorch's structures.
    pub base_bytes: u64,
    /// Bytes of scratch memory beyond the base at the peak of a step.
    pub scratch_bytes: u64,
    /// Share of the bytes in mode keep that libtorch allocates and never writes to.
    pub untouched_fraction: f64,
    /// Whether the profile was measured, not estimated.
    pub is_measured: bool,
    /// Bytes of tensors that the measurement itself needs at least.
    pub own_bytes: u64,
    /// Values per local row.
    pub local_width: usize,
    /// Bytes of one set of weights.
    pub flat_bytes: u64,
    /// The cost of each micro-batch size and activation mode, including the batch.
    pub costs: StepCosts,
    /// Bytes of a batch, which stays allocated between learner steps.
    pub batch_bytes: u64,
    /// Peak bytes of tensors while acting in all environments.
    pub acting_bytes: u64,
    /// Peak bytes of tensors during an evaluation.
    pub evaluation_bytes: u64,
}

/// The measurement of one micro-batch.
struct DryRun {
    peak_bytes: u64,
    untouched_bytes: u64,
    uncounted_bytes: u64,
    micros: f64,
    /// The bytes and times of its stages, unless a stage occurs twice.
    stages: Option<StageTrace>,
}

impl DryRun {
    fn untouched_fraction(&self) -> f64 {
        self.untouched_bytes as f64 / self.peak_bytes.max(1) as f64
    }
}

/// Measures one forward and backward pass of a micro-batch, after a first pass that makes its code resident.
fn dry_run(
    agent: &mut dyn Agent,
    replay: &Replay,
    options: &activations::Options,
    size: usize,
) -> Result<DryRun> {
    let batch: TensorBatch = replay.sample(size, 0.4, &mut Pcg64Mcg::seed_from_u64(0))?;
    let mut pass = || -> Result<f64> {
        let _activations = activations::enter(options)?;
        let began = Instant::now();
        agent.dry_run(&batch, size)?;
        Ok(began.elapsed().as_secs_f64() * 1e6)
    };
    budget::begin_anew();
    let (first, first_stages) = activations::traced(&mut pass);
    first?;
    let before = ledger::tensor_bytes();
    ledger::restart_tensor_peak();
    probe::restart_peak_resident();
    let counted = ledger::restart_peak();
    let (micros, stages) = activations::traced(&mut pass);
    let micros = micros?;
    let stages = stages.map(|stages| match &first_stages {
        Some(first) => stages.with_shorter_times(first),
        None => stages,
    });
    let peak_bytes = ledger::peak_tensor_bytes() - before;
    let counted_peak = ledger::peak_counted_bytes() - ledger::BASE.bytes();
    let uncounted_bytes = probe::recent_peak_resident_bytes()?.saturating_sub(counted_peak);
    ledger::raise_peak_to(counted);
    Ok(DryRun { peak_bytes, untouched_bytes: libtorch::untouched_bytes(), uncounted_bytes, micros, stages })
}

/// Measures the networks of `parts`. Tensors must already be counted.
///
/// # Errors
/// If libtorch refuses a call, for example because the memory limit is too low.
pub fn profile(parts: &Parts, limit_bytes: u64) -> Result<MemoryProfile> {
    let memory = &parts.memory;
    let local_width = parts.learning.replay.local_width;
    let dataset = stand_in(parts.work.is_market, local_width);
    let policy = parts.agent.policy();
    let mut agent = parts.agent.agent(Arc::clone(&dataset), parts.device)?;
    agent.disable_caches();
    let replay = filled(local_width, &dataset)?;
    let mut rng = Pcg64Mcg::seed_from_u64(0);

    let (smallest, largest) = (memory.smallest_micro_batch, memory.largest_micro_batch);
    let sizes = if largest >= 8 { [4, 8] } else { [largest, largest] };
    let (mut costs, mut traces) = (Vec::new(), Vec::new());
    let (mut scratch_bytes, mut dry_run_bytes, mut untouched_fraction) = (0, 0, 0.0);
    // The first pass makes code and kernels resident, so that they count to no mode.
    let warm: TensorBatch = replay.sample(sizes[1], 0.4, &mut rng)?;
    agent.dry_run(&warm, 1)?;
    let of_batch = batch_bytes(&warm) * memory.batch as u64 / sizes[1] as u64;
    drop(warm);
    for mode in memory.modes.clone() {
        let options = memory.activations(mode);
        let mut measure = |size: usize| -> Result<DryRun> { dry_run(&mut *agent, &replay, &options, size) };
        let (small, large) = (measure(sizes[0])?, measure(sizes[1])?);
        scratch_bytes = scratch_bytes.max(small.uncounted_bytes).max(large.uncounted_bytes);
        dry_run_bytes = dry_run_bytes.max(large.peak_bytes);
        if mode == ActivationMode::Keep {
            untouched_fraction = large.untouched_fraction();
        }
        let micros_per_sample = large.micros / sizes[1] as f64;
        let mut cost = if sizes[0] == sizes[1] {
            let bytes_per_sample = large.peak_bytes as f64 / sizes[1] as f64;
            ModeCost { mode, base_bytes: 0.0, bytes_per_sample, micros_per_sample }
        } else {
            let peaks = [(sizes[0], small.peak_bytes), (sizes[1], large.peak_bytes)];
            ModeCost::through(mode, peaks, micros_per_sample)
        };
        cost.base_bytes += of_batch as f64;
        costs.push(cost);
        if let (Some(small), Some(large)) = (small.stages, large.stages) {
            traces.push(ModeTraces { mode, traces: [(sizes[0], small), (sizes[1], large)] });
        }
    }
    // A run far below its memory limit uses the largest micro-batch in mode keep, so that is measured directly if it
    // fits.
    let preferred = StepConfig::new(largest, ActivationMode::Keep);
    let mut costs = StepCosts { smallest, largest, costs, ..StepCosts::default() };
    if let Some(stages) = StageCosts::new(&traces) {
        costs = costs.with_stages(&stages, of_batch);
    }
    if let Some(bytes) = costs.peak_bytes(preferred)
        && probe::resident_bytes()? + bytes + bytes / 8 <= limit_bytes
        && largest > sizes[1]
    {
        let measured = dry_run(&mut *agent, &replay, &memory.activations(ActivationMode::Keep), largest)?;
        scratch_bytes = scratch_bytes.max(measured.uncounted_bytes);
        untouched_fraction = measured.untouched_fraction();
        costs.measured.push((preferred, measured.peak_bytes + of_batch));
    }
    let acting_bytes = peak_of(|| act(parts, &*policy, agent.online(), &dataset))?;
    let evaluation_bytes = peak_of(|| evaluate(&*policy, agent.online(), &dataset))?;
    let flat_bytes = policy.layout().flat_bytes();
    drop((agent, replay, dataset));
    budget::collect(u64::MAX);
    memsys::os::trim_heap();
    let base_bytes = uncounted_bytes(probe::resident_bytes()?);
    Ok(MemoryProfile {
        base_bytes,
        scratch_bytes: scratch_bytes.saturating_sub(base_bytes),
        untouched_fraction,
        is_measured: true,
        own_bytes: 5 * flat_bytes + dry_run_bytes,
        local_width,
        flat_bytes,
        costs,
        batch_bytes: of_batch,
        acting_bytes,
        evaluation_bytes,
    })
}

/// Estimates the profile from the widths of the networks. No network is run.
///
/// # Errors
/// If the process's resident bytes cannot be read.
pub fn estimate(parts: &Parts) -> Result<MemoryProfile> {
    let (memory, policy) = (&parts.memory, parts.agent.policy());
    let (smallest, largest) = (memory.smallest_micro_batch, memory.largest_micro_batch);
    let local_width = parts.learning.replay.local_width;
    let activations = policy.activation_bytes();
    let (observation_bytes, first_use_bytes) = if parts.work.is_market {
        (views().iter().map(|view| view.n_numbers() as u64 * 4).sum(), FIRST_USE_BYTES)
    } else {
        (local_width as u64 * 4, FIRST_USE_OF_LAYERS_BYTES)
    };
    let base_bytes = 2.0 * observation_bytes as f64 * memory.batch as f64;
    let cost = |mode: ActivationMode| {
        let share = match mode {
            ActivationMode::Keep => 1.0,
            ActivationMode::Recompute => RECOMPUTED_SHARE,
            ActivationMode::Spill => SPILLED_SHARE,
        };
        let bytes_per_sample = activations.kept as f64 * share;
        ModeCost { mode, base_bytes, bytes_per_sample, micros_per_sample: 0.0 }
    };
    let costs = memory.modes.iter().copied().map(cost).collect();
    Ok(MemoryProfile {
        base_bytes: uncounted_bytes(probe::resident_bytes()?) + first_use_bytes,
        scratch_bytes: 0,
        untouched_fraction: 0.0,
        is_measured: false,
        own_bytes: 5 * policy.layout().flat_bytes() + 8 * activations.kept,
        local_width,
        flat_bytes: policy.layout().flat_bytes(),
        costs: StepCosts { smallest, largest, costs, ..StepCosts::default() },
        batch_bytes: base_bytes as u64,
        acting_bytes: (activations.evaluated + observation_bytes) * parts.work.n_environments as u64,
        evaluation_bytes: (activations.evaluated + observation_bytes) * BLOCK as u64,
    })
}

/// The part of `resident_bytes` that only the ledger's base counts.
fn uncounted_bytes(resident_bytes: u64) -> u64 {
    (resident_bytes + ledger::BASE.bytes()).saturating_sub(ledger::counted_bytes())
}

fn peak_of(work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = ledger::tensor_bytes();
    ledger::restart_tensor_peak();
    work()?;
    Ok(ledger::peak_tensor_bytes() - before)
}

fn act(parts: &Parts, policy: &dyn Policy, weights: &Weights, dataset: &Dataset) -> Result<()> {
    let local = vec![0.0; parts.learning.replay.local_width];
    let observation = Observation { instrument: 0, t: FIRST_STEP as u32, local };
    let observations = vec![observation; parts.work.n_environments];
    policy.greedy(weights, &observe(dataset, &observations, parts.device)?)?;
    Ok(())
}

fn evaluate(policy: &dyn Policy, weights: &Weights, dataset: &Dataset) -> Result<()> {
    if dataset.n_instruments() > 0 {
        policy.embed_range(weights, dataset, 0, FIRST_STEP..N_STEPS)?;
    }
    Ok(())
}

fn batch_bytes(batch: &TensorBatch) -> u64 {
    let tensors = batch.observations.iter().chain(&batch.next_observations);
    let columns = [&batch.actions, &batch.rewards, &batch.discounts, &batch.weights];
    tensors.chain(columns).map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
}

fn stand_in(is_market: bool, local_width: usize) -> Arc<Dataset> {
    if !is_market {
        return Arc::new(Dataset::new(plain_views(local_width), Vec::new()));
    }
    let views = views();
    let stream = |width: usize| {
        let mut stream = FrameStream::new(width);
        let row = vec![0f32; width];
        (0..N_STEPS).for_each(|_| {
            stream.append(&row);
        });
        stream
    };
    let streams = views.iter().map(|view| stream(view.width)).collect();
    let slow_row = (0..N_STEPS as u32).map(|t| t / 6).collect();
    Arc::new(Dataset::new(views, vec![Instrument { streams, slow_row, first_step: FIRST_STEP }]))
}

fn filled(local_width: usize, dataset: &Arc<Dataset>) -> Result<Replay> {
    let options = ReplayOptions {
        capacity_transitions: 64,
        priority_exponent: 0.6,
        n_environments: 1,
        local_width,
        copies_observations: false,
        store: StoreOptions::default(),
    };
    let mut replay = Replay::new(&options, Arc::clone(dataset))?;
    let row = vec![0f32; local_width];
    let mut local = replay.append_local(0, &row);
    for t in FIRST_STEP as u32..FIRST_STEP as u32 + 64 {
        let from = ObservationRef { t, local, ..ObservationRef::default() };
        local = replay.append_local(0, &row);
        replay.insert(Transition {
            from,
            to_t: t + 1,
            to_local: local,
            action: 0,
            reward: 0.0,
            discount: 0.9,
        });
    }
    Ok(replay)
}
