//! The bytes that a run needs, part by part, and the step configuration that fits the memory limit.
//!
//! ```text
//! steady = runtime + data + weights + replay            held for the whole run
//! peak   = the worst moment: loading, or steady + the largest of learning, acting, evaluating, testing, saving
//! ```
//!
//! A static plan runs nothing: it estimates networks from their widths and data from the sizes of the files. A
//! measured plan uses dry runs of the networks ([`crate::memory::profile`]), and the data itself if it is loaded.

use std::fmt;

use buffers::replay::Replay;
use buffers::replay::sum_tree::SumTree;
use memsys::limit::MemoryLimit;
use memsys::nn::activations::ActivationMode;
use memsys::step::cost::StepConfig;

use crate::error::{Error, Result};
use crate::format;
use crate::market::import::extent::extent;
use crate::memory::profile::MemoryProfile;
use crate::resolve::Parts;

/// Bytes below the memory limit that stay free for changes between two readings of memory: small blocks of the C
/// library's heap, and stacks.
pub const SLACK_BYTES: u64 = 8 << 20;
/// Heap bytes of tables, metrics and the report.
const REPORT_BYTES: u64 = 2 << 20;
/// The smallest memory limit rounds the runtime up to a multiple of this. The runtime's measured bytes vary a little
/// between runs, and every run must refuse below the same limit that the plan states.
const RUNTIME_STEP_BYTES: u64 = 16 << 20;
/// The smallest memory limit is rounded up to a multiple of this.
const LIMIT_STEP_BYTES: u64 = 1 << 20;
/// Copies of the weights with the best validation score.
const BEST_COPIES: u64 = 1;
/// Bytes of one bar's embedding. An evaluation holds the embeddings of a whole part.
const EMBEDDING_BYTES: u64 = embedders::EMBEDDING_WIDTH as u64 * 4;

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

/// Bytes per decision bar that stay, and bytes per decision bar and per file row at the peak of loading. They were
/// measured on synthetic and real bars; `plan --mode measured` measures any data.
const STAYS_BYTES_PER_BAR: u64 = 216;
const STAYS_BYTES: u64 = 1 << 20;
const LOADING_BYTES_PER_BAR: u64 = 440;
const LOADING_BYTES_PER_ROW: u64 = 64;

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
            // Markets trade on five of seven days, with 288 five-minute bars per day.
            n_bars = u64::from(parts.market.synthetic.days) * 288 * 5 / 7;
        }
        let loading = n_bars * LOADING_BYTES_PER_BAR + n_rows * LOADING_BYTES_PER_ROW;
        Ok(Self { n_bars, stays: STAYS_BYTES + n_bars * STAYS_BYTES_PER_BAR, loading: loading + STAYS_BYTES })
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
    /// The run's peak with that step configuration, or with the one of fewest bytes if none fits.
    pub peak_bytes: u64,
    /// The smallest memory limit that can hold the run.
    pub smallest_limit_bytes: u64,
    /// Every step configuration with the run's peak bytes under it.
    pub step_configs: Vec<(StepConfig, u64)>,
    /// Microseconds per sample in each activation mode. Empty if nothing was measured.
    pub micros_per_sample: Vec<(&'static str, f64)>,
}

impl MemoryPlan {
    /// Adds up the items and chooses the step configuration.
    #[must_use]
    pub fn new(parts: &Parts, profile: &MemoryProfile, data: DataBytes, limit_bytes: u64) -> Self {
        let flat = profile.flat_bytes;
        let replay = replay_bytes(parts);
        let mut steady = vec![
            part(
                "runtime",
                "runtime: code, libtorch, its scratch memory",
                profile.base_bytes + profile.scratch_bytes,
            ),
            part("streams", "market: streams and price series", data.stays),
            part("parameters", "parameters", flat),
            part("gradients", "gradients", flat),
            part("optimizer", "optimizer: two moments", 2 * flat),
            part("target", "target network", flat),
            part("best", "weights of the best validation", BEST_COPIES * flat),
            part("replay", "replay, full", replay),
            part("report", "metrics, report", REPORT_BYTES),
        ];
        if !parts.work.is_synchronous {
            // The actor's copy of the weights, a copy on its way to the actor, and the bytes of acting, which overlaps
            // with learning.
            steady.push(part("actor", "the actor's weights and acting", 2 * flat + profile.acting_bytes));
        }
        let held: u64 = steady.iter().map(|part| part.bytes).sum();
        let evaluated_bars = (data.n_bars as f64 * parts.work.largest_evaluated_fraction) as u64;
        let judging = profile.evaluation_bytes + evaluated_bars * EMBEDDING_BYTES;
        let mut moments = vec![
            part("acting", "acting", profile.acting_bytes),
            part("evaluating", "evaluating", judging),
            part("testing", "the test: evaluating, with weights of its own", judging + flat),
            part("saving", "saving: a copy of one set of numbers", flat),
        ];
        let loading_bytes = profile.base_bytes + data.loading;
        let others = moments.iter().map(|part| part.bytes).max().unwrap_or(0);
        // The batch is part of learning's bytes, but stays allocated between learner steps.
        let run_peak = |learning: u64| loading_bytes.max(held + learning.max(others + profile.batch_bytes));
        let step_configs: Vec<(StepConfig, u64)> = profile
            .costs
            .step_configs()
            .into_iter()
            .map(|(step_config, bytes)| (step_config, run_peak(bytes)))
            .collect();
        let room = limit_bytes.saturating_sub(SLACK_BYTES);
        let step_config = profile.costs.choose(room.saturating_sub(held)).filter(|_| run_peak(0) <= room);
        let (leanest, learning) = step_config
            .and_then(|step_config| Some((step_config, profile.costs.peak_bytes(step_config)?)))
            .or_else(|| profile.costs.leanest())
            .map_or((None, 0), |(step_config, bytes)| (Some(step_config), bytes));
        let of_activations =
            leanest.map_or_else(String::new, |step_config| format!("learning: {step_config}"));
        moments.insert(0, part("learning", &of_activations, learning));
        let keeps = leanest.is_some_and(|step_config| step_config.mode == ActivationMode::Keep);
        let untouched = if keeps { (learning as f64 * profile.untouched_fraction) as u64 } else { 0 };
        if untouched > 0 {
            moments.insert(1, part("untouched", "of which counted and never touched", untouched));
        }
        let runtime = profile.base_bytes + profile.scratch_bytes;
        let stepped = runtime.next_multiple_of(RUNTIME_STEP_BYTES);
        let least =
            step_configs.iter().map(|(_, peak)| *peak).min().unwrap_or(0) - runtime.min(loading_bytes);
        let least = stepped + least.max(profile.own_bytes);
        Self {
            is_measured: profile.is_measured,
            limit_bytes,
            limit_as_written: parts.memory.limit,
            steady,
            moments,
            loading_bytes,
            step_config,
            peak_bytes: run_peak(learning - untouched.min(learning)),
            smallest_limit_bytes: (least + SLACK_BYTES).next_multiple_of(LIMIT_STEP_BYTES),
            step_configs,
            micros_per_sample: profile
                .costs
                .costs
                .iter()
                .filter(|_| profile.is_measured)
                .map(|cost| (cost.mode.word(), cost.micros_per_sample))
                .collect(),
        }
    }

    /// Whether the memory limit can hold the run.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.step_config.is_some() && self.smallest_limit_bytes <= self.limit_bytes
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
                step_config.mode.word(),
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
        let step_config = |step_config: &StepConfig| serde_json::json!({"micro_batch": step_config.micro_batch, "activations": step_config.mode.word()});
        serde_json::json!({
            "mode": if self.is_measured { "measured" } else { "static" },
            "limit_bytes": self.limit_bytes,
            "fits": self.fits(),
            "peak_bytes": self.peak_bytes,
            "smallest_limit_bytes": self.smallest_limit_bytes,
            "slack_bytes": SLACK_BYTES,
            "loading_bytes": self.loading_bytes,
            "steady": parts(&self.steady),
            "moments": parts(&self.moments),
            "step_config": self.step_config.as_ref().map(step_config),
            "step_configs": self.step_configs.iter().map(|(at, peak)| {
                serde_json::json!({"step_config": step_config(at), "peak_bytes": peak})
            }).collect::<Vec<_>>(),
            "micros_per_sample": self.micros_per_sample.iter().map(|(mode, micros)| {
                ((*mode).to_owned(), serde_json::json!(micros))
            }).collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// Bytes of memory of the replay when it is as full as it gets in this run.
#[must_use]
pub fn replay_bytes(parts: &Parts) -> u64 {
    // Rows that no transition fills are never touched, so they are not resident. The sum tree is touched as a whole.
    let (n_steps, replay) = (parts.work.environment_steps, &parts.learning.replay);
    let capacity = replay.capacity_transitions;
    let filled = capacity.min(usize::try_from(n_steps).unwrap_or(usize::MAX));
    let tree = |capacity| SumTree::planned_bytes(capacity);
    Replay::planned_tier_bytes(&replay.store, filled, n_steps, replay.local_width, replay.n_environments)
        + tree(capacity).saturating_sub(tree(filled))
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
        row(formatter, "the smallest memory limit that would do", self.smallest_limit_bytes)
    }
}
