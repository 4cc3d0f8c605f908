//! What a run's networks cost in bytes, measured before anything is loaded.
//!
//! The networks of the configuration go through learner steps, acting and evaluation over rows of zeros: shapes decide
//! what is allocated, not numbers. What is resident beyond the counted bytes afterwards is the runtime's base; the
//! peaks of two micro-batches give each activation mode's line ([`memsys::step::cost`]).

use std::sync::Arc;
use std::time::Instant;

use agents::dqn::{Actor, Body, DqnConfig, Learner, Network};
use agents::embedding_cache::{BLOCK, embed_range};
use buffers::frames::{Dataset, FrameStream, Instrument, ObservationRef};
use buffers::replay::{Replay, ReplayOptions, StoreOptions, TensorBatch as Batch, Transition};
use embedders::Fused;
use memsys::ledger::budget;
use memsys::nn::activations;
use memsys::nn::activations::ActivationMode;
use memsys::os::probe;
use memsys::step::cost::{ModeCost, StepConfig, StepCosts};
use memsys::{ledger, libtorch};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use tch::Device;

use crate::config::{ActivationChoice, Config};
use crate::error::Result;
use crate::market::dataset::views;
use crate::run::actor_loop::{Observation, observe};
use crate::run::evaluation::plain_views;

/// Steps of the stand-in instrument: enough for the longest window and a block of evaluation.
const N_STEPS: usize = 448;
/// The first of them at which every window is full.
const FIRST_STEP: usize = 320;

/// What libtorch makes resident at the first use of the embedders' kernels: code, and oneDNN's and MKL's own buffers.
const FIRST_USE_BYTES: u64 = 58 << 20;
/// The same of plain layers alone.
const FIRST_USE_OF_LAYERS_BYTES: u64 = 18 << 20;
/// Share of the kept activations that a step holds at its worst where they are recomputed in four parts.
const RECOMPUTED_SHARE: f64 = 0.45;
/// The same where they are spilled.
const SPILLED_SHARE: f64 = 0.3;

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryProfile {
    /// Bytes resident and not counted once everything had run once: code, static data, libtorch's own structures.
    pub base_bytes: u64,
    /// Bytes of scratch memory beyond that at the worst moment of a step.
    pub scratch_bytes: u64,
    /// Share of the activations' bytes that libtorch asks for and never writes to, where they are kept.
    pub untouched_fraction: f64,
    /// Whether it was measured, or estimated.
    pub is_measured: bool,
    /// Bytes of tensors that measuring takes at least.
    pub own_bytes: u64,
    /// Numbers of an environment's local row.
    pub local_width: usize,
    /// Bytes of one flat set of weights.
    pub flat_bytes: u64,
    /// What micro-batches and activation modes cost, batch included.
    pub costs: StepCosts,
    /// Bytes of a batch, which stays from step to step.
    pub batch_bytes: u64,
    /// Bytes of tensors at the peak of acting in all environments.
    pub acting_bytes: u64,
    /// Bytes of tensors at the peak of an evaluation.
    pub evaluation_bytes: u64,
}

/// What a rehearsal of a micro-batch held.
struct DryRun {
    peak_bytes: u64,
    untouched_bytes: u64,
    uncounted_bytes: u64,
    micros: f64,
}

impl DryRun {
    fn untouched_fraction(&self) -> f64 {
        self.untouched_bytes as f64 / self.peak_bytes.max(1) as f64
    }
}

/// One forward and backward pass of a micro-batch, after one that makes its kernels and code resident.
fn dry_run(
    learner: &mut Learner,
    replay: &Replay,
    options: &activations::Options,
    size: usize,
) -> Result<DryRun> {
    let batch: Batch = replay.sample(size, 0.4, &mut Pcg64Mcg::seed_from_u64(0))?;
    let mut pass = || -> Result<f64> {
        let _activations = activations::enter(options)?;
        let began = Instant::now();
        learner.dry_run(&batch, size)?;
        Ok(began.elapsed().as_secs_f64() * 1e6)
    };
    budget::begin_anew();
    pass()?;
    let before = ledger::tensor_bytes();
    ledger::restart_tensor_peak();
    probe::restart_peak_resident();
    let counted = ledger::restart_peak();
    let micros = pass()?;
    let peak_bytes = ledger::peak_tensor_bytes() - before;
    let counted_peak = ledger::peak_counted_bytes() - ledger::BASE.bytes();
    let uncounted_bytes = probe::recent_peak_resident_bytes()?.saturating_sub(counted_peak);
    ledger::raise_peak_to(counted);
    Ok(DryRun { peak_bytes, untouched_bytes: libtorch::untouched_bytes(), uncounted_bytes, micros })
}

/// Measures. Tensors must be counted already.
///
/// # Errors
/// Where libtorch refuses a call; memory among its reasons.
pub fn profile(config: &Config, dqn: &DqnConfig, device: Device, limit_bytes: u64) -> Result<MemoryProfile> {
    let dataset = stand_in(dqn);
    let mut learner =
        Learner::new(*dqn, Network::new(dqn), Arc::clone(&dataset), device)?.without_kept_embeddings();
    let replay = filled(dqn, &dataset)?;
    let mut rng = Pcg64Mcg::seed_from_u64(0);

    let (smallest, largest) = micro_batches(config);
    let sizes = if largest >= 8 { [4, 8] } else { [largest, largest] };
    let mut costs = Vec::new();
    let (mut scratch_bytes, mut dry_run_bytes, mut untouched_fraction) = (0, 0, 0.0);
    // The first pass makes kernels and code resident.
    let warm: Batch = replay.sample(sizes[1], 0.4, &mut rng)?;
    learner.dry_run(&warm, 1)?;
    let of_batch = batch_bytes(&warm) * dqn.batch as u64 / sizes[1] as u64;
    drop(warm);
    for mode in modes(config.memory.activations) {
        let options = options(config, mode);
        let mut measure = |size: usize| -> Result<DryRun> { dry_run(&mut learner, &replay, &options, size) };
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
    }
    // The step configuration of a run far from its memory limit is measured itself, where there is room for that.
    let preferred = StepConfig { micro_batch: largest, mode: ActivationMode::Keep };
    let mut costs = StepCosts { smallest, largest, costs, measured: Vec::new() };
    if let Some(bytes) = costs.peak_bytes(preferred)
        && probe::resident_bytes()? + bytes + bytes / 8 <= limit_bytes
        && largest > sizes[1]
    {
        let rehearsed = dry_run(&mut learner, &replay, &options(config, ActivationMode::Keep), largest)?;
        scratch_bytes = scratch_bytes.max(rehearsed.uncounted_bytes);
        untouched_fraction = rehearsed.untouched_fraction();
        costs.measured.push((preferred, rehearsed.peak_bytes + of_batch));
    }
    let acting_bytes = peak_of(|| act(config, dqn, &dataset, &learner, device))?;
    let evaluation_bytes = peak_of(|| evaluate(dqn, &dataset, &learner))?;
    let flat_bytes = learner.network().layout().flat_bytes();
    drop((learner, replay, dataset));
    budget::collect(u64::MAX);
    memsys::os::trim_heap();
    let base_bytes = uncounted_bytes(probe::resident_bytes()?);
    Ok(MemoryProfile {
        base_bytes,
        scratch_bytes: scratch_bytes.saturating_sub(base_bytes),
        untouched_fraction,
        is_measured: true,
        own_bytes: 5 * flat_bytes + dry_run_bytes,
        local_width: dqn.local_width as usize,
        flat_bytes,
        costs,
        batch_bytes: of_batch,
        acting_bytes,
        evaluation_bytes,
    })
}

/// Estimates the same from the widths of the networks, running nothing.
///
/// # Errors
/// Where the process's memory cannot be read.
pub fn estimate(config: &Config, dqn: &DqnConfig) -> Result<MemoryProfile> {
    let (smallest, largest) = micro_batches(config);
    let network = Network::new(dqn);
    let own_bytes = dqn.local_width as u64 * 4;
    let (activations, observation_bytes) = match dqn.body {
        Body::Market { preset, dropout } => {
            let bytes = Fused::activation_bytes(&preset.widths().with_dropout(dropout));
            (bytes, views().iter().map(|view| view.n_numbers() as u64 * 4).sum())
        }
        // Two layers and a head, each with its input and its gradient.
        Body::Plain => {
            let kept = 6 * 4 * dqn.hidden as u64 + own_bytes;
            (embedders::market::fused::ActivationBytes { kept, evaluated: kept / 3 }, own_bytes)
        }
    };
    let first_use_bytes = if dqn.body == Body::Plain { FIRST_USE_OF_LAYERS_BYTES } else { FIRST_USE_BYTES };
    let base_bytes = 2.0 * observation_bytes as f64 * dqn.batch as f64;
    let cost = |mode: ActivationMode| {
        let share = match mode {
            ActivationMode::Keep => 1.0,
            ActivationMode::Recompute => RECOMPUTED_SHARE,
            ActivationMode::Spill => SPILLED_SHARE,
        };
        let bytes_per_sample = activations.kept as f64 * share;
        ModeCost { mode, base_bytes, bytes_per_sample, micros_per_sample: 0.0 }
    };
    let costs = modes(config.memory.activations).into_iter().map(cost).collect();
    Ok(MemoryProfile {
        base_bytes: uncounted_bytes(probe::resident_bytes()?) + first_use_bytes,
        scratch_bytes: 0,
        untouched_fraction: 0.0,
        is_measured: false,
        own_bytes: 5 * network.layout().flat_bytes() + 8 * activations.kept,
        local_width: dqn.local_width as usize,
        flat_bytes: network.layout().flat_bytes(),
        costs: StepCosts { smallest, largest, costs, measured: Vec::new() },
        batch_bytes: base_bytes as u64,
        acting_bytes: (activations.evaluated + observation_bytes) * config.run.n_environments as u64,
        evaluation_bytes: (activations.evaluated + observation_bytes) * BLOCK as u64,
    })
}

/// Bytes of `resident_bytes` that nothing counts but the base.
fn uncounted_bytes(resident_bytes: u64) -> u64 {
    (resident_bytes + ledger::BASE.bytes()).saturating_sub(ledger::counted_bytes())
}

/// The smallest and the largest micro-batch that the configuration allows.
#[must_use]
pub fn micro_batches(config: &Config) -> (usize, usize) {
    let largest = config.agent.micro_batch.min(config.agent.batch);
    (config.memory.smallest_micro_batch.min(largest), largest)
}

/// How activations are treated under an activation mode.
#[must_use]
pub fn options(config: &Config, mode: ActivationMode) -> activations::Options {
    activations::Options {
        mode,
        segments: config.memory.checkpoint_segments,
        threshold_bytes: config.memory.spill_threshold as u64,
        spill_folder: spill_folder(config),
    }
}

fn spill_folder(config: &Config) -> std::path::PathBuf {
    let folder =
        config.memory.spill_folder.clone().or_else(|| config.run.out.clone().filter(|out| out.is_dir()));
    folder.unwrap_or_else(|| ".".into())
}

fn modes(choice: ActivationChoice) -> Vec<ActivationMode> {
    match choice {
        ActivationChoice::Auto => {
            vec![ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill]
        }
        ActivationChoice::Keep => vec![ActivationMode::Keep],
        ActivationChoice::Recompute => vec![ActivationMode::Recompute],
        ActivationChoice::Spill => vec![ActivationMode::Spill],
    }
}

fn peak_of(work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = ledger::tensor_bytes();
    ledger::restart_tensor_peak();
    work()?;
    Ok(ledger::peak_tensor_bytes() - before)
}

fn act(config: &Config, dqn: &DqnConfig, dataset: &Dataset, learner: &Learner, device: Device) -> Result<()> {
    let seen =
        Observation { instrument: 0, t: FIRST_STEP as u32, local: vec![0.0; dqn.local_width as usize] };
    let seen = vec![seen; config.run.n_environments];
    Actor::new(Network::new(dqn)).greedy(learner.online(), &observe(dataset, &seen, device)?)?;
    Ok(())
}

fn evaluate(dqn: &DqnConfig, dataset: &Dataset, learner: &Learner) -> Result<()> {
    match dqn.body {
        Body::Market { .. } => {
            embed_range(
                learner.network().embedders().expect("a market network embeds"),
                learner.online(),
                dataset,
                0,
                FIRST_STEP..N_STEPS,
            )?;
        }
        Body::Plain => {}
    }
    Ok(())
}

fn batch_bytes(batch: &Batch) -> u64 {
    let tensors = batch.observations.iter().chain(&batch.next_observations);
    let columns = [&batch.actions, &batch.rewards, &batch.discounts, &batch.weights];
    tensors.chain(columns).map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
}

fn stand_in(dqn: &DqnConfig) -> Arc<Dataset> {
    if dqn.body == Body::Plain {
        return Arc::new(Dataset::new(plain_views(dqn.local_width as usize), Vec::new()));
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

fn filled(dqn: &DqnConfig, dataset: &Arc<Dataset>) -> Result<Replay> {
    let local_width = dqn.local_width as usize;
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
