//! A replay larger than its memory limit: memory holds packed rows, the file holds the rest.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use buffers::replay::sum_tree::SumTree;
use buffers::replay::{Replay, ReplayOptions, StoreOptions, Tier};
use memsys::ledger;
use memsys::ledger::budget;
use memsys::os::probe;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bench::replay::measured::{Bench, Measured};
use crate::bench::replay::sampling::bytes_read;
use crate::bench::replay::work::{Filled, N_ENVIRONMENTS, PRIORITY_EXPONENT, Work, settled};
use crate::console::say;
use crate::error::{Error, Result};
use crate::format;
use crate::market::account::ACCOUNT_WIDTH;

/// Transitions of a batch.
const BATCH: usize = 256;
/// The memory limit of the table's row.
const LIMIT_BYTES: u64 = 512 << 20;
/// Calendar days of its market: the streams are shared and small, and the memory limit is for transitions.
const DAYS: u32 = 60;
/// Bytes under the memory limit reserved for unfinished chunks, chunks that are being packed, batches and freed
/// blocks.
const ASIDE_BYTES: u64 = 48 << 20;
/// Turns that the two are measured in.
const TURNS: usize = 3;
/// Seconds of sampling before the measurement: the system's page cache learns what is read.
const WARM_SECONDS: f64 = 5.0;

/// What a replay under a memory limit does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UnderLimit {
    pub(super) limit_bytes: u64,
    pub(super) transitions: usize,
    /// Transitions per second, drawn, gathered and given new priorities.
    pub(super) transitions_per_second: f64,
    pub(super) peak_resident_bytes: u64,
    pub(super) packed_bytes: u64,
    pub(super) mapped_bytes: u64,
    pub(super) denied_allocations: u64,
    /// Bytes read from disks per drawn transition.
    pub(super) read_bytes_per_transition: f64,
}

impl UnderLimit {
    /// What it did, in words.
    pub(super) fn text(&self) -> String {
        format!(
            "{} transitions in a memory limit of {}: {} transitions/s; peak resident {}, of rows {} packed in memory and {} in \
             the file; {:.0} bytes read from the disk a transition; {} allocations refused",
            format::count(self.transitions as u64),
            format::bytes(self.limit_bytes),
            format::count(self.transitions_per_second as u64),
            format::bytes(self.peak_resident_bytes),
            format::bytes(self.packed_bytes),
            format::bytes(self.mapped_bytes),
            self.read_bytes_per_transition,
            self.denied_allocations,
        )
    }
}

/// Fills and samples a replay of `capacity` transitions in this process, which keeps to `limit_bytes` from now on.
pub(super) fn measure(bench: &Bench, capacity: usize, limit_bytes: u64) -> Result<UnderLimit> {
    let resident = probe::resident_bytes()?;
    ledger::set_base(resident.saturating_sub(ledger::counted_bytes()));
    budget::set_limit(limit_bytes);
    let fixed = resident + SumTree::planned_bytes(capacity, capacity) + ASIDE_BYTES;
    let Some(budget_bytes) = limit_bytes.checked_sub(fixed) else {
        return Err(Error::ReplayLimitTooLow { limit_bytes, least_bytes: fixed });
    };
    let store = StoreOptions { window_bytes: 0, budget_bytes, ..bench.work.store(Tier::Mapped, "own")? };
    let dataset = Arc::new(bench.work.dataset().clone());
    let options = ReplayOptions {
        capacity_transitions: capacity,
        priority_exponent: PRIORITY_EXPONENT,
        n_environments: N_ENVIRONMENTS,
        local_width: ACCOUNT_WIDTH,
        copies_observations: false,
        store,
    };
    let mut replay = Replay::new(&options, Arc::clone(&dataset))?;
    let mut play = bench.work.play(1)?;
    for tenth in 1..=10 {
        let n_more = capacity * tenth / 10 - replay.len();
        play.fill(&mut replay, n_more)?;
        say(&format!(
            "{} of {} transitions written",
            format::count(replay.len() as u64),
            format::count(capacity as u64)
        ));
    }
    drop(play);
    settled(&mut replay)?;
    let mut filled = Filled::of(replay, dataset)?;
    let warm = Bench { seconds: WARM_SECONDS, repeats: 1, ..bench.clone() };
    warm.rate(|| filled.sample_and_update(BATCH).map(|()| BATCH))?;
    let (before, mut n) = (bytes_read(), 0);
    let rate = bench.rate(|| {
        n += BATCH;
        filled.sample_and_update(BATCH).map(|()| BATCH)
    })?;
    let read = bytes_read() - before;
    let bytes = filled.replay.tier_bytes();
    Ok(UnderLimit {
        limit_bytes,
        transitions: filled.replay.len(),
        transitions_per_second: rate,
        peak_resident_bytes: probe::peak_resident_bytes()?,
        packed_bytes: bytes.compressed,
        mapped_bytes: bytes.mapped,
        denied_allocations: budget::n_denied(),
        read_bytes_per_transition: read as f64 / n as f64,
    })
}

/// The market of a replay under a memory limit.
pub(super) fn work(folder: &Path) -> Result<Work> {
    Work::of_days(folder, DAYS)
}

/// A replay in its own process under the memory limit, against a hot one of the same capacity without a limit. They
/// take turns, since other programs may slow either.
pub(super) fn against_hot(bench: &Bench, capacity: usize) -> Result<Measured> {
    let (mut filled, _) = work(&bench.folder)?.filled(capacity, Tier::Hot)?;
    let mut hot = || bench.rate(|| filled.sample_and_update(BATCH).map(|()| BATCH));
    let mut turns = Vec::with_capacity(TURNS);
    let mut hot_before = hot()?;
    for turn in 1..=TURNS {
        say(&format!("turn {turn} of {TURNS}: under the memory limit, then hot"));
        let under = in_own_process(bench, capacity)?;
        let hot_after = hot()?;
        turns.push((under, f64::midpoint(hot_before, hot_after)));
        hot_before = hot_after;
    }
    let ratio = |(under, hot): &(UnderLimit, f64)| under.transitions_per_second / hot;
    turns.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
    let ratios: Vec<f64> = turns.iter().map(ratio).collect();
    let told: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    let (under, hot) = &turns[TURNS / 2];
    let note = format!(
        "the median of turns at {}: {}; hot, without a memory limit, before and after, {} transitions/s",
        told.join(", "),
        under.text(),
        format::count(*hot as u64)
    );
    let value = ratios[TURNS / 2];
    let details = json!({ "under_line": under, "hot_transitions_per_second": hot, "ratios": ratios });
    Ok(Measured { value, note, details })
}

fn in_own_process(bench: &Bench, capacity: usize) -> Result<UnderLimit> {
    let program = std::env::current_exe().map_err(Error::io("/proc/self/exe"))?;
    let json_path = bench.folder.join("limit.json");
    let output = Command::new(program)
        .args(["bench", "replay", "--memory", &LIMIT_BYTES.to_string(), "--most", &capacity.to_string()])
        .args(["--repeats", &bench.repeats.to_string(), "--seconds", &bench.seconds.to_string()])
        .arg("--folder")
        .arg(&bench.folder)
        .arg("--json")
        .arg(&json_path)
        .output()
        .map_err(Error::io("/proc/self/exe"))?;
    let failed = |problem: String| Error::File { path: json_path.clone(), problem };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.trim().lines().last().unwrap_or_default().to_owned()));
    }
    let text = std::fs::read(&json_path).map_err(Error::io(&json_path))?;
    serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))
}
