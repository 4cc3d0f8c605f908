//! Settings of the replay.

use std::path::PathBuf;

use documented::{Documented, DocumentedFields};
use memsys::settings::{Check, Settings, size};
use serde::{Deserialize, Serialize};

use crate::store::{RowKind, StoreOptions, Tier};

/// How an environment's local rows are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalRows {
    /// As they are.
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

/// When a batch is drawn, and who gathers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefetch {
    /// It is drawn and gathered when its learner step begins.
    Off,
    /// It is drawn a step ahead, and gathered on a thread of its own.
    Ahead,
    /// It is drawn a step ahead, and gathered at once.
    Synchronous,
}

/// How far down the tiers the replay's rows may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayTier {
    /// They stay in memory as they are.
    Hot,
    /// They are compressed in memory.
    Compressed,
    /// They go to a file.
    Mapped,
}

/// The replay: which transitions are kept, and which of them are learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Documented, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct ReplaySettings {
    /// Transitions that it holds; then the oldest is overwritten.
    pub capacity: usize,
    /// true: transitions with a large error are sampled more often. false: all alike.
    pub prioritized: bool,
    /// How far priority matters (α): 0 is not at all, 1 in proportion to the error. Errors in a market are noise for
    /// the most part, so its default is lower than elsewhere (0.6).
    pub priority_exponent: f64,
    /// How far weights make up for it at first (β): 0 is not at all, 1 wholly. It rises to 1 over the run.
    pub importance_sampling_exponent: f64,
    /// How far down its rows may go: `hot` (they stay in memory as they are), `compressed` (in memory, encoded), or
    /// `mapped` (to `replay.plr` in the run's folder; checkpoints then refer to that file). All give the same bits.
    pub tier: ReplayTier,
    /// What the replay and the market's streams may each hold in memory, where `tier` is `compressed`.
    #[serde(with = "size")]
    pub memory_budget: u64,
    /// Share of `memory_budget`, or of `mmap_above`, at which a thread of its own begins to compress, the oldest rows
    /// first.
    pub compress_at: f64,
    /// Compressed rows and transitions above this size go to the file, where `tier` is `mapped`; the market's streams
    /// by the same measure. Priorities stay in memory.
    #[serde(with = "size")]
    pub mmap_above: u64,
    /// Bytes of the file that may be resident through mappings, where reading a row takes no call to the system.
    #[serde(with = "size")]
    pub mmap_window: u64,
    /// How an environment's local rows are stored: `f32` as they are; `f16` in half the bytes, with a relative error
    /// of at most 0.05 % from 6.1e-5 to 65,504; `bf16` in half the bytes, with one of at most 0.4 % over the range of
    /// f32.
    pub local_rows: LocalRows,
    /// `off`: a batch is drawn when its learner step begins. `ahead`: it is drawn when the step before begins, and
    /// gathered on a thread of its own while that is computed. `synchronous`: drawn as with `ahead`, gathered at
    /// once; the results are those of `ahead`, to the bit.
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
    }
}

impl ReplaySettings {
    /// α, which is 0 where priorities are off.
    #[must_use]
    pub fn effective_priority_exponent(&self) -> f64 {
        if self.prioritized { self.priority_exponent } else { 0.0 }
    }

    /// In which tiers rows are kept, and in which file where they go to one.
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
            local_kind: self.local_rows.kind(),
        }
    }
}
