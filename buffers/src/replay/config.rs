//! Settings of the replay.

use std::path::PathBuf;

use documented::{Documented, DocumentedFields};
use memsys::settings::{Check, Settings, size};
use serde::{Deserialize, Serialize};

use crate::store::{RowKind, StoreOptions, Tier};

/// The number format of stored local rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalRows {
    /// Unchanged f32 values.
    F32,
    /// Rounded to IEEE half precision.
    F16,
    /// Rounded to the upper half of an f32.
    Bf16,
}

impl LocalRows {
    fn kind(self) -> RowKind {
        match self {
            Self::F32 => RowKind::F32,
            Self::F16 => RowKind::F16,
            Self::Bf16 => RowKind::Bf16,
        }
    }
}

/// When a batch is drawn, and which thread gathers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefetch {
    /// It is drawn and gathered when its learner step starts.
    Off,
    /// It is drawn one step ahead, and gathered on a separate thread.
    Ahead,
    /// It is drawn one step ahead, and gathered immediately on the learner's thread.
    Synchronous,
}

/// The lowest tier that the replay's rows may move to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayTier {
    /// They stay in memory unchanged.
    Hot,
    /// They are compressed in memory.
    Compressed,
    /// They move to a file.
    Mapped,
}

/// The replay: which transitions are kept, and how they are sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Documented, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct ReplaySettings {
    /// The most transitions in the replay. A full replay overwrites the oldest.
    pub capacity: usize,
    /// `true`: transitions with a larger error are sampled more often. `false`: sampling is uniform.
    pub prioritized: bool,
    /// Priority exponent (α): 0 samples uniformly, 1 in proportion to the error. Errors in a market are mostly noise,
    /// so the market's default is lower than that of other environments (0.6).
    pub priority_exponent: f64,
    /// Exponent of the importance-sampling weights at the start (β): 0 does not correct for priorities, 1 corrects
    /// fully. It rises to 1 over the run.
    pub importance_sampling_exponent: f64,
    /// The lowest tier for rows: `hot` (unchanged in memory), `compressed` (encoded in memory), or `mapped` (in
    /// `replay.plr` in the run's folder; checkpoints then refer to that file). All give the same results to the bit.
    pub tier: ReplayTier,
    /// The most memory that the replay and the market's streams may each hold, if `tier` is `compressed`.
    #[serde(with = "size")]
    pub memory_budget: u64,
    /// Share of `memory_budget`, or of `mmap_above`, at which a background thread starts to compress rows, the oldest
    /// first.
    pub compress_at: f64,
    /// If `tier` is `mapped`, compressed rows and transitions beyond this size move to the file. The same size applies
    /// to the market's streams. Priorities stay in memory.
    #[serde(with = "size")]
    pub mmap_above: u64,
    /// The most bytes of the file that may be resident through mappings. Reading a mapped row needs no system call.
    #[serde(with = "size")]
    pub mmap_window: u64,
    /// The tier `mapped` writes its file anew when more bytes of it than this, and more than half of it, are of use no more.
    #[serde(with = "size")]
    pub compact_above: u64,
    /// Number format of stored local rows: `f32` (unchanged), `f16` (half the bytes, with a relative error of at most
    /// 0.05 % from 6.1e-5 to 65,504), or `bf16` (half the bytes, with a relative error of at most 0.4 % over the range
    /// of f32).
    pub local_rows: LocalRows,
    /// `off`: a batch is drawn when its learner step starts. `ahead`: it is drawn when the previous step starts, and a
    /// separate thread gathers it during that step. `synchronous`: it is drawn as with `ahead` but gathered
    /// immediately; the results equal those of `ahead` to the bit.
    pub prefetch: Prefetch,
}

impl Default for ReplaySettings {
    fn default() -> Self {
        Self {
            capacity: 200_000,
            prioritized: true,
            priority_exponent: 0.2,
            importance_sampling_exponent: 0.4,
            tier: ReplayTier::Hot,
            memory_budget: 1 << 30,
            compress_at: 0.8,
            mmap_above: 100_000_000,
            mmap_window: 64 << 20,
            compact_above: 64 << 20,
            local_rows: LocalRows::F32,
            prefetch: Prefetch::Off,
        }
    }
}

impl Settings for ReplaySettings {
    fn check(&self, check: &mut Check) {
        check.range("capacity", self.capacity, 1..=1_000_000_000, "transitions");
        check.range("priority_exponent", self.priority_exponent, 0.0..=1.0, "exponent");
        let first = self.importance_sampling_exponent;
        check.range("importance_sampling_exponent", first, 0.0..=1.0, "exponent");
        check.range("memory_budget", self.memory_budget, 0.., "bytes");
        check.range("compress_at", self.compress_at, 0.0..=1.0, "share of the budget");
        check.range("mmap_above", self.mmap_above, 0.., "bytes");
        check.range("mmap_window", self.mmap_window, 0.., "bytes");
        check.range("compact_above", self.compact_above, 0.., "bytes");
    }
}

impl ReplaySettings {
    /// The priority exponent α, or 0 if `prioritized` is off.
    #[must_use]
    pub fn effective_priority_exponent(&self) -> f64 {
        if self.prioritized { self.priority_exponent } else { 0.0 }
    }

    /// The options of the row store: its lowest tier, its budget, and its file, if rows move to one.
    #[must_use]
    pub fn store_options(&self, file: Option<PathBuf>) -> StoreOptions {
        let (tier, budget_bytes) = match self.tier {
            ReplayTier::Hot => (Tier::Hot, u64::MAX),
            ReplayTier::Compressed => (Tier::Compressed, self.memory_budget),
            ReplayTier::Mapped => (Tier::Mapped, self.mmap_above),
        };
        StoreOptions {
            tier,
            budget_bytes,
            begin_fraction: self.compress_at,
            file,
            window_bytes: self.mmap_window,
            garbage_bytes: self.compact_above,
            local_kind: self.local_rows.kind(),
        }
    }
}
