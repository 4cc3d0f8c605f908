//! The bytes that a run needs, part by part, and the step configuration that fits the memory limit.
//!
//! ```text
//! steady = runtime + data + weights + replay            held for the whole run
//! peak   = the worst moment: loading, or steady + the largest of learning, acting, evaluating, testing, saving
//! ```
//!
//! A static plan runs nothing: it estimates networks from their widths and data from the sizes of the files. A
//! measured plan uses dry runs of the networks ([`crate::memory::profile`]).
//!
//! **The step configuration is chosen by planned bytes, never by a reading,** so that one seed and one memory limit give
//! one result. All bytes of the plan but the runtime's follow from shapes and are the same in every run. The runtime is
//! measured and varies by some MiB, so the choice and the smallest limit count it in coarse steps
//! (`in_coarse_steps`).
//!
//! What is only cached, kept target embeddings, is no part of the smallest limit: it gets what the rest leaves.

use std::fmt;

use buffers::replay::{Prefetch, Replay};
use memsys::libtorch;
use memsys::limit::MemoryLimit;
use memsys::step::activation_mode::ActivationMode;
use memsys::step::cost::StepConfig;

use crate::error::{Error, Result};
use crate::format;
use crate::market::import::extent::extent;
use crate::memory::device::DevicePlan;
use crate::memory::profile::MemoryProfile;
use crate::resolve::Parts;

/// Bytes below the memory limit that stay free for changes between two readings of memory: small blocks of the C
/// library's heap, and stacks.
pub const SLACK_BYTES: u64 = 8 << 20;
/// Heap bytes of tables, metrics and the report.
const REPORT_BYTES: u64 = 2 << 20;
/// The share of the runtime's bytes by which its readings differ between processes, at most: with several threads and in
/// bf16 it depends on which of them meets a kernel first.
const READING_SHARE: f64 = 1.0 / 16.0;
/// The share by which they mostly differ.
const USUAL_READING_SHARE: f64 = 1.0 / 64.0;
/// The smallest memory limit is rounded up to a multiple of this.
const LIMIT_STEP_BYTES: u64 = 1 << 20;
/// Copies of the weights with the best validation score.
const BEST_COPIES: u64 = 1;
/// Bytes of one bar's embedding in the cache of the target network's embeddings.
const EMBEDDING_BYTES: u64 = embedders::EMBEDDING_WIDTH as u64 * 4;
/// Bytes that wait to be written while a run is saved.
const SAVING_BYTES: u64 = 2 << 20;
/// Bytes per evaluated bar of one backtest: time, equity, price, position, and a trade at every fourth bar.
const BACKTEST_BYTES: u64 = 25 + 88 / 4;
/// Backtests of the test: the agent, four baselines and the oracle, and a moment's: one without the equity floor, or the
/// sums over returns that the intervals rest on.
const N_TEST_BACKTESTS: u64 = 7;
/// Bytes per bar of the agent's decisions: an action, and a value for each.
const DECISION_BYTES: u64 = 1 + 4 * crate::market::account::N_ACTIONS as u64;
/// Bytes per environment: its account, its episode, and the transitions that its n-step returns wait for.
const ENVIRONMENT_BYTES: u64 = 2 << 10;
/// Bytes per environment of a step on its way from the actor to the learner, without local rows.
const TIME_STEP_BYTES: u64 = 192;

/// The bytes of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataBytes {
    /// Decision bars, over all instruments.
    pub n_bars: u64,
    /// Bytes held for the whole run: streams, price series, splits.
    pub stays: u64,
    /// Peak bytes while files are read and features are computed.
    pub loading: u64,
}

/// Bytes per decision bar that stay: its prices, its rows in four streams, and the chunks that hold them.
const STAYS_BYTES_PER_BAR: u64 = 160;
const STAYS_BYTES: u64 = 1 << 20;
/// Bytes of a row of a file while it is loaded. All rows are held until the bars of the first instrument are made of them.
const LOADING_BYTES_PER_ROW: u64 = 56;
/// Bytes of the bars of both clocks, per decision bar. Those of half an hour are let go when the rows are made.
const CLOCK_BYTES_PER_BAR: u64 = 66;
const WIDE_BYTES_PER_BAR: u64 = CLOCK_BYTES_PER_BAR - 56;
/// Bytes that a reader holds of its file: buffers, and the pages of a Parquet file.
const READER_BYTES: u64 = 4 << 20;

impl DataBytes {
    /// Estimates the bytes from the configuration and the sizes of the files.
    ///
    /// # Errors
    /// If a file cannot be opened.
    pub fn estimated(parts: &Parts) -> Result<Self> {
        let (mut n_bars, mut n_rows) = (0, 0);
        if !parts.work.is_market {
            return Ok(Self { n_bars, stays: 0, loading: 0 });
        }
        for source in &parts.market.sources {
            let extent = extent(source)?;
            n_bars += extent.n_decision_bars;
            n_rows += extent.n_rows;
        }
        if parts.market.sources.is_empty() {
            // Markets trade on five of seven days, with 288 five-minute bars per day. They are made with their expected
            // returns.
            n_bars = u64::from(parts.market.synthetic.days) * 288 * 5 / 7;
            n_rows = n_bars * 2;
        }
        let stays = STAYS_BYTES + n_bars * STAYS_BYTES_PER_BAR;
        // Several instruments are laid out at the same time, and which files are one is not known yet.
        let resampling = n_rows * LOADING_BYTES_PER_ROW + n_bars * CLOCK_BYTES_PER_BAR + READER_BYTES;
        let laying_out = stays + n_bars * WIDE_BYTES_PER_BAR;
        Ok(Self { n_bars, stays, loading: resampling.max(laying_out) })
    }
}

/// One item of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanItem {
    /// The key in the JSON output.
    pub key: &'static str,
    /// The label in the printed table.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// The plan of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPlan {
    /// Whether the networks were measured, not estimated.
    pub is_measured: bool,
    /// The memory limit in bytes.
    pub limit_bytes: u64,
    /// The memory limit as the user wrote it.
    pub limit_as_written: MemoryLimit,
    /// Items that are held for the whole run.
    pub steady: Vec<PlanItem>,
    /// Items that are held for a time on top of the steady ones. Only the largest counts.
    pub moments: Vec<PlanItem>,
    /// Peak bytes while data is loaded, including the runtime.
    pub loading_bytes: u64,
    /// The chosen step configuration. `None` if none fits the memory limit.
    pub step_config: Option<StepConfig>,
    /// Bytes of the target network's embeddings that the learner keeps; 0 where they have no room.
    pub kept_embeddings_bytes: u64,
    /// The run's peak with that step configuration, or with the one of fewest bytes if none fits.
    pub peak_bytes: u64,
    /// The smallest memory limit that this process accepts.
    needed_bytes: u64,
    /// The smallest memory limit that can hold the run. Every process accepts it, whatever its reading of the runtime.
    pub smallest_limit_bytes: u64,
    /// Every step configuration with the run's peak bytes under it.
    pub step_configs: Vec<(StepConfig, u64)>,
    /// Microseconds per sample in each activation mode. Empty if nothing was measured.
    pub micros_per_sample: Vec<(&'static str, f64)>,
    /// The plan of the run's GPU, if there is one and it was measured.
    pub device: Option<DevicePlan>,
}

impl MemoryPlan {
    /// Adds up the items and chooses the step configuration.
    #[must_use]
    pub fn new(parts: &Parts, profile: &MemoryProfile, data: DataBytes, limit_bytes: u64) -> Self {
        let runtime_bytes = profile.base_bytes + profile.scratch_bytes;
        let beside = actor_bytes(parts, profile);
        let mut steady = steady(parts, profile, data);
        let held: u64 = steady.iter().map(|part| part.bytes).sum();
        let mut moments = moments(parts, profile, data);
        let others = moments.iter().map(|part| part.bytes).max().unwrap_or(0);
        // The batch is part of learning's bytes, but stays allocated between learner steps.
        let run_peak =
            |learning: u64| data.loading.max(held + (learning + beside).max(others + profile.batch_bytes));
        let configs = profile.costs.step_configs();
        let room =
            |runtime_bytes: u64| limit_bytes.saturating_sub(in_coarse_steps(runtime_bytes) + SLACK_BYTES);
        let fits = |step_config: StepConfig, learning: u64| {
            let is_met = profile.costs.is_size_measured(step_config.micro_batch);
            let new_shape = if is_met { 0 } else { profile.shape_bytes };
            run_peak(learning) <= room(runtime_bytes + new_shape)
        };
        let device = profile
            .device
            .as_ref()
            .zip(libtorch::gpu_in_use())
            .map(|(device, gpu)| DevicePlan::new(parts, device, profile.flat_bytes, gpu.limit_bytes()));
        let step_config = match &device {
            // On a GPU step configurations differ in the GPU's bytes, and little in those of the process.
            Some(device) => device.costs.choose_where(|step_config, _| {
                let learning = profile.costs.peak_bytes(step_config);
                device.fits(step_config) && learning.is_some_and(|learning| fits(step_config, learning))
            }),
            None => profile.costs.choose_where(fits),
        };
        let least_learning = configs.iter().map(|(_, bytes)| *bytes).min().unwrap_or(0);
        let (shown, learning) = step_config
            .and_then(|step_config| Some((step_config, profile.costs.peak_bytes(step_config)?)))
            .or_else(|| profile.costs.leanest())
            .map_or((None, 0), |(step_config, bytes)| (Some(step_config), bytes));
        let kept = parts.work.kept_embeddings(data.n_bars) * EMBEDDING_BYTES;
        // All or none: where a part is kept, the rest costs whole blocks.
        let kept_embeddings_bytes = if run_peak(learning) + kept <= room(runtime_bytes) { kept } else { 0 };
        let of_activations = shown.map_or_else(String::new, |step_config| format!("learning: {step_config}"));
        moments.insert(0, part("learning", &of_activations, learning));
        if beside > 0 {
            moments.insert(1, part("actor", "beside it: the actor's weights, its steps, and acting", beside));
        }
        let keeps = shown.is_some_and(StepConfig::keeps);
        // What is allocated and never written to is counted by the memory limit and takes no memory.
        let untouched = if keeps { share(learning, profile.untouched_fraction) } else { 0 };
        let least = run_peak(least_learning).max(profile.own_bytes);
        let needed = |runtime_bytes: u64| in_coarse_steps(runtime_bytes) + least + SLACK_BYTES;
        let is_leanest_met = profile.costs.is_size_measured(profile.costs.smallest);
        let new_shape = if is_leanest_met { 0 } else { profile.shape_bytes };
        // Where not even the leanest step configuration fits beside what the chosen ones have left in libraries.
        let least_runtime_bytes = if step_config.is_none() && device.is_none() {
            profile.least_runtime_bytes.max(runtime_bytes) + new_shape
        } else {
            profile.least_runtime_bytes + new_shape
        };
        // A run's reading may be higher than this one.
        let shown_runtime = runtime_bytes + share(runtime_bytes, USUAL_READING_SHARE);
        steady.insert(0, part("runtime", "runtime: code, libtorch, its scratch memory", shown_runtime));
        if kept_embeddings_bytes > 0 {
            steady.push(part("kept_embeddings", "the target network's embeddings", kept_embeddings_bytes));
        }
        Self {
            is_measured: profile.is_measured,
            limit_bytes,
            limit_as_written: parts.memory.limit,
            steady,
            moments,
            loading_bytes: shown_runtime + data.loading,
            step_config,
            kept_embeddings_bytes,
            peak_bytes: shown_runtime + kept_embeddings_bytes + run_peak(learning - untouched),
            needed_bytes: needed(least_runtime_bytes),
            smallest_limit_bytes: needed(least_runtime_bytes + share(least_runtime_bytes, READING_SHARE))
                .next_multiple_of(LIMIT_STEP_BYTES),
            step_configs: configs
                .iter()
                .map(|(at, learning)| (*at, runtime_bytes + run_peak(*learning)))
                .collect(),
            micros_per_sample: profile
                .costs
                .costs
                .iter()
                .filter(|_| profile.is_measured)
                .map(|cost| (cost.mode.word(), cost.micros_per_sample))
                .collect(),
            device,
        }
    }

    /// Whether the memory limit can hold the run.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.step_config.is_some() && self.needed_bytes <= self.limit_bytes
    }

    /// Whether the memory limit lies so far below what the run needs that the networks cannot even be measured under it.
    /// Without what the smallest limit leaves for other readings: else a minimum that was measured would be refused by an
    /// estimate.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.needed_bytes * 3 / 4 > self.limit_bytes
    }

    /// The error for a limit that cannot hold the run, with the table of the plan.
    #[must_use]
    pub fn too_low(&self) -> Error {
        self.refusal(self.to_string())
    }

    /// The same error without the table, if that was already printed.
    #[must_use]
    pub fn too_low_in_short(&self) -> Error {
        self.refusal(String::new())
    }

    fn refusal(&self, table: String) -> Error {
        let Self { limit_bytes, smallest_limit_bytes, .. } = *self;
        if let Some(device) =
            self.device.as_ref().filter(|device| device.smallest_limit_bytes() > device.limit_bytes)
        {
            let (limit_bytes, smallest_limit_bytes) = (device.limit_bytes, device.smallest_limit_bytes());
            return Error::DeviceLimitTooLow { limit_bytes, smallest_limit_bytes };
        }
        Error::LimitTooLow { limit_bytes, smallest_limit_bytes, table }
    }

    /// The sum of the steady items.
    #[must_use]
    pub fn steady_bytes(&self) -> u64 {
        self.steady.iter().map(|part| part.bytes).sum()
    }

    /// The settings that the plan recommends, as TOML.
    #[must_use]
    pub fn recommended(&self) -> String {
        let step_config = self.step_config.or_else(|| {
            self.step_configs.iter().min_by_key(|(_, peak)| *peak).map(|(step_config, _)| *step_config)
        });
        let limit_as_written =
            if self.fits() { self.limit_as_written } else { MemoryLimit::Bytes(self.smallest_limit_bytes) };
        let mut text = format!("[memory]\nlimit = \"{limit_as_written}\"\n");
        if let Some(step_config) = step_config {
            text.push_str(&format!(
                "activations = \"{}\"\n\n[agent]\nmicro_batch = {}\n",
                step_config.modes.uniform().map_or("auto", ActivationMode::word),
                step_config.micro_batch
            ));
        }
        text
    }

    /// The plan as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let parts = |parts: &[PlanItem]| -> serde_json::Value {
            parts.iter().map(|part| (part.key.to_owned(), serde_json::json!(part.bytes))).collect()
        };
        let step_config = |step_config: &StepConfig| serde_json::json!({"micro_batch": step_config.micro_batch, "activations": step_config.modes.to_string()});
        serde_json::json!({
            "mode": if self.is_measured { "measured" } else { "static" },
            "limit_bytes": self.limit_bytes,
            "fits": self.fits(),
            "peak_bytes": self.peak_bytes,
            "smallest_limit_bytes": self.smallest_limit_bytes,
            "slack_bytes": SLACK_BYTES,
            "kept_embeddings_bytes": self.kept_embeddings_bytes,
            "loading_bytes": self.loading_bytes,
            "steady": parts(&self.steady),
            "moments": parts(&self.moments),
            "step_config": self.step_config.as_ref().map(step_config),
            "step_configs": self.step_configs.iter().map(|(at, peak)| {
                serde_json::json!({"step_config": step_config(at), "peak_bytes": peak})
            }).collect::<Vec<_>>(),
            "device": self.device.as_ref().map(|device| serde_json::json!({
                "limit_bytes": device.limit_bytes,
                "held_bytes": device.held_bytes,
                "others_bytes": device.others_bytes,
                "smallest_limit_bytes": device.smallest_limit_bytes(),
            })),
            "micros_per_sample": self.micros_per_sample.iter().map(|(mode, micros)| {
                ((*mode).to_owned(), serde_json::json!(micros))
            }).collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// Items that are held for the whole run, without the runtime and without what is only cached.
fn steady(parts: &Parts, profile: &MemoryProfile, data: DataBytes) -> Vec<PlanItem> {
    // Weights on a GPU are in the plan of the GPU.
    let is_on_gpu = parts.device.is_cuda();
    let flat = if is_on_gpu { 0 } else { profile.flat_bytes };
    let gradients = if is_on_gpu && parts.memory.offloads_gradients {
        // Pinned memory comes in blocks whose size is a power of two.
        profile.flat_bytes.next_power_of_two()
    } else {
        flat
    };
    let n_environments = parts.work.n_environments as u64;
    let mut steady = vec![
        part("streams", "market: streams and price series", data.stays),
        part("parameters", "parameters", flat),
        part("gradients", "gradients", gradients),
        part("optimizer", "optimizer: two moments", 2 * flat),
        part("target", "target network", flat),
        part("best", "weights of the best validation", BEST_COPIES * flat),
        part("replay", "replay, full", replay_bytes(parts)),
        part("environments", "environments", n_environments * ENVIRONMENT_BYTES),
        part("report", "metrics, report", REPORT_BYTES),
    ];
    if parts.learning.prefetch != Prefetch::Off {
        steady.push(part("next_batch", "the batch of the next learner step", profile.batch_bytes));
    }
    steady
}

/// Bytes of an actor that overlaps with learning, evaluating and saving, but not with the test: its copy of the weights, a
/// copy on its way to it, its steps on their way to the learner, and acting.
fn actor_bytes(parts: &Parts, profile: &MemoryProfile) -> u64 {
    if parts.work.is_synchronous {
        return 0;
    }
    let flat = if parts.device.is_cuda() { 0 } else { profile.flat_bytes };
    let local_bytes = 2 * parts.learning.replay.local_width as u64 * 4;
    let n_steps = (parts.run.queue_batches as u64 + 2) * parts.work.n_environments as u64;
    2 * flat + n_steps * (TIME_STEP_BYTES + local_bytes) + profile.acting_bytes
}

/// Items that are held for a time, without learning.
fn moments(parts: &Parts, profile: &MemoryProfile, data: DataBytes) -> Vec<PlanItem> {
    let flat = profile.flat_bytes;
    let tested = if parts.device.is_cuda() { 0 } else { flat };
    let bars = (data.n_bars as f64 * parts.work.largest_evaluated_fraction) as u64;
    let embedded = profile.evaluation_bytes;
    let acting = if parts.work.is_synchronous { profile.acting_bytes } else { 0 };
    let beside = actor_bytes(parts, profile);
    let with_actor =
        |name: &str| if beside > 0 { format!("{name}, beside the actor") } else { name.to_owned() };
    vec![
        part("acting", "acting", acting),
        part("evaluating", &with_actor("evaluating"), embedded + bars * BACKTEST_BYTES + beside),
        part(
            "testing",
            "the test: evaluating, with weights and baselines",
            embedded + tested + bars * (N_TEST_BACKTESTS * BACKTEST_BYTES + DECISION_BYTES),
        ),
        part("saving", &with_actor("saving: a part of the numbers at a time"), SAVING_BYTES + beside),
    ]
}

/// A reading of the runtime's bytes, rounded up to eight steps per power of two: 16 MiB from 128 MiB on, 32 MiB from
/// 256 MiB on. Readings differ between runs by far less than a step.
fn in_coarse_steps(runtime_bytes: u64) -> u64 {
    let step_bytes = (runtime_bytes.max(64 << 20) + 1).next_power_of_two() / 16;
    runtime_bytes.next_multiple_of(step_bytes)
}

fn share(bytes: u64, share: f64) -> u64 {
    (bytes as f64 * share) as u64
}

/// Bytes of memory of the replay when it is as full as it gets in this run.
#[must_use]
pub fn replay_bytes(parts: &Parts) -> u64 {
    Replay::planned_bytes(&parts.learning.replay, parts.work.environment_steps)
}

fn part(key: &'static str, name: &str, bytes: u64) -> PlanItem {
    PlanItem { key, name: name.to_owned(), bytes }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.is_measured { "measured" } else { "static" };
        writeln!(formatter, "{:<52} {:>12}", format!("held for the whole run ({mode})"), "bytes")?;
        let row = |formatter: &mut fmt::Formatter<'_>, name: &str, bytes: u64| {
            writeln!(formatter, "  {name:<50} {:>12}", format::bytes(bytes))
        };
        for part in &self.steady {
            row(formatter, &part.name, part.bytes)?;
        }
        row(formatter, "together", self.steady_bytes())?;
        writeln!(formatter, "held for a time, the largest counts")?;
        for part in &self.moments {
            row(formatter, &part.name, part.bytes)?;
        }
        row(formatter, "loading, with the runtime alone", self.loading_bytes)?;
        writeln!(formatter, "the run")?;
        row(formatter, "peak", self.peak_bytes)?;
        row(formatter, "margin", SLACK_BYTES)?;
        row(formatter, "the memory limit", self.limit_bytes)?;
        row(formatter, "the smallest memory limit that would do", self.smallest_limit_bytes)?;
        self.device.as_ref().map_or(Ok(()), |device| device.fmt(formatter))
    }
}
