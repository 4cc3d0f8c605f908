//! Measures the bytes of a run's networks before any data is loaded.
//!
//! The configured networks take learner steps, act and evaluate on rows of zeros, with the shapes that the run will
//! have: allocations depend on shapes, not on values. Every figure is taken from the ledger, as the memory limit will
//! see it, on a second pass over warm caches. Two figures come from the kernel: the bytes that are resident and not
//! counted between two pieces of work (the base), and those beyond the base at the peak of one (scratch).
//!
//! Libraries prepare kernels for each shape that they meet and keep them, so the base grows with a new shape; in bf16
//! by some 15 MiB. [`Profiler::rehearse`] therefore runs the step configuration that the plan has chosen, and the plan
//! is made again with what it found.

use std::sync::Arc;
use std::time::Instant;

use agents::embedding_cache::BLOCK;
use agents::{Agent, Policy};
use buffers::frames::{Dataset, FrameStream, Instrument, ObservationRef};
use buffers::replay::{Replay, ReplayOptions, StoreOptions, TensorBatch, Transition};
use memsys::ledger::budget;
use memsys::nn::activations;
use memsys::nn::activations::{ActivationMode, StageModes};
use memsys::nn::parameters::Weights;
use memsys::os::probe;
use memsys::step::cost::{ModeCost, StepConfig, StepCosts};
use memsys::step::stage_cost::{ModeTraces, StageCosts};
use memsys::step::stage_trace::StageTrace;
use memsys::{ledger, libtorch};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use crate::console::say;
use crate::envs::observation::{Observation, plain_views};
use crate::error::{Result, without_frames};
use crate::market::dataset::views;
use crate::memory::device::{DeviceMeter, DeviceProfile};
use crate::resolve::Parts;
use crate::run::actor_loop::{MOST_AT_ONCE, greedy_actions};

/// Steps of the stand-in instrument: enough for the longest window and one block of evaluation.
const N_STEPS: usize = 448;
/// The first step at which every window is full.
const FIRST_STEP: usize = 320;

/// Bytes that become resident at the first use of the embedders' kernels: code, and the buffers of oneDNN and MKL.
const FIRST_USE_BYTES: u64 = 50 << 20;
/// The same for plain layers alone.
const FIRST_USE_OF_LAYERS_BYTES: u64 = 14 << 20;
/// The same beyond those in bf16: oneDNN prepares and keeps kernels of its own for every shape.
const FIRST_USE_IN_BF16_BYTES: u64 = 260 << 20;
/// The same for the few shapes of an evaluation.
const FIRST_SHAPES_IN_BF16_BYTES: u64 = 32 << 20;
/// Peak activation bytes in mode recompute with four segments, as a fraction of mode keep.
const RECOMPUTED_SHARE: f64 = 0.45;
/// Peak activation bytes in mode spill, as a fraction of mode keep.
const SPILLED_SHARE: f64 = 0.3;

/// The measured or estimated bytes of a run's networks.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryProfile {
    /// Bytes that are resident but not counted after everything ran once: code, static data, libtorch's structures.
    pub base_bytes: u64,
    /// Bytes beyond the base, resident and not counted, at the peak of learning.
    pub scratch_bytes: u64,
    /// Base and scratch before a step configuration was rehearsed: what a run at the smallest limit has.
    pub least_runtime_bytes: u64,
    /// Bytes by which a shape that was not met yet raises the base.
    pub shape_bytes: u64,
    /// Share of the bytes in mode keep that libtorch allocates and never writes to.
    pub untouched_fraction: f64,
    /// Whether the profile was measured, not estimated.
    pub is_measured: bool,
    /// Counted bytes that the measurement itself needs at least.
    pub own_bytes: u64,
    /// Bytes of one set of weights.
    pub flat_bytes: u64,
    /// The cost of each micro-batch size and activation mode, including the batch.
    pub costs: StepCosts,
    /// Bytes of a batch, which stays allocated between learner steps.
    pub batch_bytes: u64,
    /// Peak counted bytes while acting in all environments.
    pub acting_bytes: u64,
    /// Peak counted bytes while one block of positions is embedded for an evaluation.
    pub evaluation_bytes: u64,
    /// What the networks take on the run's GPU, if there is one and it was measured.
    pub device: Option<DeviceProfile>,
}

/// What a piece of work took.
#[derive(Debug)]
struct Taken {
    /// Counted bytes at the peak beyond those before.
    peak_bytes: u64,
    /// Of these, bytes that were never written to.
    untouched_bytes: u64,
    /// Resident bytes at the peak that are not counted, the base included.
    uncounted_bytes: u64,
    /// Bytes on the run's GPU at the peak beyond those before.
    device_bytes: u64,
    micros: f64,
    /// The bytes and times of its stages, unless a stage occurs twice.
    stages: Option<StageTrace>,
}

/// Does `work` twice and measures the second time.
fn measure(mut work: impl FnMut() -> Result<()>) -> Result<Taken> {
    budget::begin_anew();
    let before = ledger::counted_bytes();
    let (first, first_stages) = activations::traced(&mut work);
    first?;
    // What the first pass left is kept for the second, as a learner step's tensors are for the next step.
    probe::restart_peak_resident();
    let peak_before = ledger::restart_peak();
    let meter = DeviceMeter::start();
    let began = Instant::now();
    let (second, stages) = activations::traced(&mut work);
    second?;
    let micros = began.elapsed().as_secs_f64() * 1e6;
    let stages = stages.map(|stages| match &first_stages {
        Some(first) => stages.with_shorter_times(first),
        None => stages,
    });
    let counted = ledger::peak_counted_bytes();
    let uncounted_bytes =
        (probe::recent_peak_resident_bytes()? + ledger::BASE.bytes()).saturating_sub(counted);
    let untouched_bytes = libtorch::untouched_bytes();
    ledger::raise_peak_to(peak_before);
    let peak_bytes = counted.saturating_sub(before);
    let device_bytes = meter.peak_bytes();
    Ok(Taken { peak_bytes, untouched_bytes, uncounted_bytes, device_bytes, micros, stages })
}

/// Runs the networks of a run on rows of zeros and measures them. Tensors must already be counted.
#[derive(Debug)]
pub struct Profiler<'a> {
    parts: &'a Parts,
    dataset: Arc<Dataset>,
    policy: Arc<dyn Policy>,
    agent: Box<dyn Agent>,
    replay: Replay,
    profile: MemoryProfile,
    /// Scratch bytes of acting that learning overlaps with.
    beside_bytes: u64,
}

impl<'a> Profiler<'a> {
    /// Measures acting, evaluating, and learner steps of two small micro-batches in every activation mode.
    ///
    /// # Errors
    /// If libtorch refuses a call, for example because the memory limit is too low.
    pub fn start(parts: &'a Parts) -> Result<Self> {
        let memory = &parts.memory;
        let local_width = parts.learning.replay.local_width;
        let dataset = stand_in(parts.work.is_market, local_width);
        let policy = parts.agent.policy();
        let mut agent = parts.agent.agent(Arc::clone(&dataset), parts.device)?;
        agent.disable_caches();
        let replay = filled(local_width, &dataset)?;
        let flat_bytes = policy.layout().flat_bytes();
        let (smallest, largest) = (memory.smallest_micro_batch, memory.largest_micro_batch);
        let costs = StepCosts { smallest, largest, ..StepCosts::default() };
        // Weights on a GPU take no memory of the process.
        let own_bytes = if parts.device.is_cuda() { 0 } else { 5 * flat_bytes };
        let device = libtorch::gpu_in_use()
            .map(|_| DeviceProfile { costs: costs.clone(), ..DeviceProfile::default() });
        let profile = MemoryProfile {
            base_bytes: 0,
            scratch_bytes: 0,
            least_runtime_bytes: 0,
            shape_bytes: 0,
            untouched_fraction: 0.0,
            is_measured: true,
            own_bytes,
            flat_bytes,
            costs,
            batch_bytes: 0,
            acting_bytes: 0,
            evaluation_bytes: 0,
            device,
        };
        let mut profiler = Self { parts, dataset, policy, agent, replay, profile, beside_bytes: 0 };
        profiler.measure_all()?;
        Ok(profiler)
    }

    /// What was measured so far.
    #[must_use]
    pub fn profile(&self) -> &MemoryProfile {
        &self.profile
    }

    fn measure_all(&mut self) -> Result<()> {
        // The first pass makes code and kernels resident, so that they count to no mode.
        let warm = self.batch(8)?;
        self.agent.dry_run(&warm, 1)?;
        self.profile.batch_bytes = batch_bytes(&warm) * self.parts.memory.batch as u64 / 8;
        drop(warm);
        let acting = self.act()?;
        let evaluating = measure(|| evaluate(&*self.policy, self.agent.online(), &self.dataset))?;
        self.profile.base_bytes = uncounted_bytes()?;
        self.note(&acting);
        if !self.parts.work.is_synchronous {
            self.beside_bytes = self.profile.scratch_bytes;
        }
        self.note(&evaluating);
        self.profile.acting_bytes = acting.peak_bytes;
        self.profile.evaluation_bytes = evaluating.peak_bytes;
        if let Some(device) = &mut self.profile.device {
            device.acting_bytes = acting.device_bytes;
            device.evaluation_bytes = evaluating.device_bytes;
        }
        let mut traces = Vec::new();
        let parts = self.parts;
        let modes = &parts.memory.modes;
        for mode in modes {
            let n_failed = activations::n_failed_spills();
            match self.measure_mode(*mode) {
                Ok(measured) => traces.extend(measured),
                // The disk under the spill folder is full, and the run has other modes.
                Err(error) if activations::n_failed_spills() > n_failed && modes.len() > 1 => {
                    let problem = error.to_string();
                    say(&format!("activations are not spilled: {}", without_frames(&problem)));
                    activations::release_failed_backward()?;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(stages) = StageCosts::new(&traces) {
            let costs = std::mem::take(&mut self.profile.costs);
            self.profile.costs = costs.with_stages(&stages, self.profile.batch_bytes);
        }
        let MemoryProfile { base_bytes, scratch_bytes, .. } = self.profile;
        self.profile.least_runtime_bytes = base_bytes + scratch_bytes;
        Ok(())
    }

    /// Measures the line of an activation mode through the peaks of two micro-batches, and gives what its stages took.
    fn measure_mode(&mut self, mode: ActivationMode) -> Result<Option<ModeTraces>> {
        let largest = self.profile.costs.largest;
        let sizes = if largest >= 8 { [4, 8] } else { [largest, largest] };
        let small = self.step(mode, sizes[0])?;
        let large = self.step(mode, sizes[1])?;
        if mode == ActivationMode::Keep {
            self.profile.untouched_fraction = large.untouched_bytes as f64 / large.peak_bytes.max(1) as f64;
        }
        let weights_bytes = if self.parts.device.is_cuda() { 0 } else { 5 * self.profile.flat_bytes };
        self.profile.own_bytes = self.profile.own_bytes.max(weights_bytes + large.peak_bytes);
        let micros_per_sample = large.micros / sizes[1] as f64;
        let line = |small_bytes: u64, large_bytes: u64| {
            if sizes[0] == sizes[1] {
                let bytes_per_sample = large_bytes as f64 / sizes[1] as f64;
                return ModeCost { mode, base_bytes: 0.0, bytes_per_sample, micros_per_sample };
            }
            ModeCost::through(mode, [(sizes[0], small_bytes), (sizes[1], large_bytes)], micros_per_sample)
        };
        if let Some(device) = &mut self.profile.device {
            device.costs.costs.push(line(small.device_bytes, large.device_bytes));
        }
        let mut cost = line(small.peak_bytes, large.peak_bytes);
        cost.base_bytes += self.profile.batch_bytes as f64;
        self.profile.costs.costs.push(cost);
        let step_config = StepConfig::new(sizes[1], mode);
        self.profile.costs.measured.push((step_config, large.peak_bytes + self.profile.batch_bytes));
        let traces = small.stages.zip(large.stages);
        Ok(traces.map(|(small, large)| ModeTraces { mode, traces: [(sizes[0], small), (sizes[1], large)] }))
    }

    /// Runs learner steps in a step configuration, with the shapes that the run's batch will have in it.
    ///
    /// # Errors
    /// If libtorch refuses a call. The step configuration then counts as one that takes twice its estimate.
    pub fn rehearse(&mut self, step_config: StepConfig) -> Result<()> {
        let outcome = self.step(step_config.modes, step_config.micro_batch);
        let refused = |bytes: u64| bytes.saturating_mul(2).max(1);
        let bytes = match &outcome {
            Ok(taken) => taken.peak_bytes + self.profile.batch_bytes,
            Err(_) => refused(self.profile.costs.peak_bytes(step_config).unwrap_or(0)),
        };
        if let Ok(taken) = &outcome
            && step_config.keeps()
        {
            self.profile.untouched_fraction = taken.untouched_bytes as f64 / taken.peak_bytes.max(1) as f64;
        }
        self.profile.costs.measured.push((step_config, bytes));
        if let Some(device) = &mut self.profile.device {
            let bytes = match &outcome {
                Ok(taken) => taken.device_bytes,
                Err(_) => refused(device.costs.peak_bytes(step_config).unwrap_or(0)),
            };
            device.costs.measured.push((step_config, bytes));
        }
        outcome.map(|_| ())
    }

    /// Frees the networks and what they left in caches. Returns what was measured, and the bytes that are resident and not
    /// counted now.
    ///
    /// # Errors
    /// If the process's resident bytes cannot be read.
    pub fn finish(self) -> Result<(MemoryProfile, u64)> {
        let Self { agent, replay, dataset, profile, .. } = self;
        drop((agent, replay, dataset));
        let base_bytes = uncounted_bytes()?;
        Ok((profile, base_bytes))
    }

    fn batch(&self, size: usize) -> Result<TensorBatch> {
        Ok(self.replay.sample(size, 0.4, &mut Pcg64Mcg::seed_from_u64(0))?)
    }

    /// Forward and backward of one micro-batch of each size that a batch is cut into.
    fn step(&mut self, modes: impl Into<StageModes>, micro_batch: usize) -> Result<Taken> {
        let rest = self.parts.memory.batch.saturating_sub(micro_batch) % micro_batch;
        let batch = self.batch(micro_batch + rest)?;
        let options = self.parts.memory.activations(modes);
        let agent = &mut self.agent;
        let taken = measure(|| {
            let _activations = activations::enter(&options)?;
            Ok(agent.dry_run(&batch, micro_batch)?)
        })?;
        drop(batch);
        let before = self.profile.base_bytes;
        self.profile.base_bytes = before.max(uncounted_bytes()?);
        self.profile.shape_bytes = self.profile.shape_bytes.max(self.profile.base_bytes - before);
        self.note(&taken);
        Ok(taken)
    }

    fn act(&self) -> Result<Taken> {
        let (parts, policy, dataset) = (self.parts, &*self.policy, &*self.dataset);
        if parts.work.is_synchronous {
            return measure(|| act(parts, policy, self.agent.online(), dataset));
        }
        // The actor has a thread with weights of its own, and with buffers of its own inside libraries.
        std::thread::scope(|scope| {
            let acting = scope.spawn(|| {
                libtorch::adopt_threads()?;
                let weights = Weights::zeros(policy.layout(), parts.device)?;
                measure(|| act(parts, policy, &weights, dataset))
            });
            acting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Raises the scratch bytes to those of a piece of work.
    fn note(&mut self, taken: &Taken) {
        let scratch_bytes = taken.uncounted_bytes.saturating_sub(self.profile.base_bytes) + self.beside_bytes;
        self.profile.scratch_bytes = self.profile.scratch_bytes.max(scratch_bytes);
    }
}

/// Bytes that libraries come to hold uncounted once the networks of a run evaluate for the first time.
#[must_use]
pub fn first_evaluation_bytes(parts: &Parts) -> u64 {
    match (parts.work.is_market, parts.agent.is_bf16()) {
        (true, true) => FIRST_USE_BYTES + FIRST_SHAPES_IN_BF16_BYTES,
        (true, false) => FIRST_USE_BYTES,
        (false, _) => FIRST_USE_OF_LAYERS_BYTES,
    }
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
    let batch_bytes = 2.0 * observation_bytes as f64 * memory.batch as f64;
    let cost = |mode: ActivationMode| {
        let share = match mode {
            ActivationMode::Keep => 1.0,
            ActivationMode::Recompute => RECOMPUTED_SHARE,
            ActivationMode::Spill => SPILLED_SHARE,
        };
        let bytes_per_sample = activations.kept as f64 * share;
        ModeCost { mode, base_bytes: batch_bytes, bytes_per_sample, micros_per_sample: 0.0 }
    };
    let costs = memory.modes.iter().copied().map(cost).collect();
    let of_precision =
        if parts.agent.is_bf16() && parts.work.is_market { FIRST_USE_IN_BF16_BYTES } else { 0 };
    let base_bytes = probe::resident_bytes()? + ledger::BASE.bytes() + first_use_bytes + of_precision;
    let base_bytes = base_bytes.saturating_sub(ledger::counted_bytes());
    Ok(MemoryProfile {
        base_bytes,
        scratch_bytes: 0,
        least_runtime_bytes: base_bytes,
        shape_bytes: 0,
        untouched_fraction: 0.0,
        is_measured: false,
        own_bytes: 5 * policy.layout().flat_bytes() + 8 * activations.kept,
        flat_bytes: policy.layout().flat_bytes(),
        costs: StepCosts { smallest, largest, costs, ..StepCosts::default() },
        batch_bytes: batch_bytes as u64,
        acting_bytes: (activations.evaluated + observation_bytes)
            * parts.work.n_environments.min(MOST_AT_ONCE) as u64,
        evaluation_bytes: (activations.evaluated + observation_bytes) * BLOCK as u64,
        device: None,
    })
}

/// Bytes that are resident and that only the ledger's base counts, with every cache collected and the heap trimmed.
fn uncounted_bytes() -> Result<u64> {
    budget::collect(u64::MAX);
    memsys::os::trim_heap();
    Ok((probe::resident_bytes()? + ledger::BASE.bytes()).saturating_sub(ledger::counted_bytes()))
}

fn act(parts: &Parts, policy: &dyn Policy, weights: &Weights, dataset: &Dataset) -> Result<()> {
    let local = vec![0.0; parts.learning.replay.local_width];
    let observation = Observation { instrument: 0, t: FIRST_STEP as u32, local };
    let observations = vec![observation; parts.work.n_environments];
    greedy_actions(policy, weights, dataset, &observations, parts.device)?;
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
    let mut local = replay.begin_episode(0, &row)?;
    for t in FIRST_STEP as u32..FIRST_STEP as u32 + 64 {
        let from = ObservationRef { t, local, ..ObservationRef::default() };
        local = replay.append_local(0, &row)?;
        replay.insert(Transition {
            from,
            to_t: t + 1,
            to_local: local,
            action: 0,
            reward: 0.0,
            discount: 0.9,
        })?;
    }
    Ok(replay)
}
