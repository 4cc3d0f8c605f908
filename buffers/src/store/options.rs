//! In which tiers chunks are kept, and how many bytes that leaves in memory.

use std::path::PathBuf;

use crate::store::rows::RowKind;

/// Bytes of a file that may be resident through mappings, where nothing else is said.
pub const WINDOW_BYTES: u64 = 64 << 20;

/// How far down chunks may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tier {
    /// All stay in memory as they are.
    #[default]
    Hot,
    /// They are compressed in memory.
    Compressed,
    /// They go to a file, from which single rows are read.
    Mapped,
}

/// Where chunks may go, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreOptions {
    /// How far down they may go.
    pub tier: Tier,
    /// Bytes of memory for transitions and rows. Encoding begins at `begin_fraction` of them; in [`Tier::Mapped`] chunks
    /// that pass them go to the file. With 0 every full chunk goes down.
    pub budget_bytes: u64,
    /// Share of the budget at which encoding begins, so that the other thread is done before the budget is full.
    pub begin_fraction: f64,
    /// The file of [`Tier::Mapped`].
    pub file: Option<PathBuf>,
    /// Bytes of that file that may be resident through mappings; others are read by a call each.
    pub window_bytes: u64,
    /// How the environments' local rows are stored: as they are, or rounded to two bytes a number.
    pub local_kind: RowKind,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            tier: Tier::Hot,
            budget_bytes: u64::MAX,
            begin_fraction: 0.8,
            file: None,
            window_bytes: WINDOW_BYTES,
            local_kind: RowKind::F32,
        }
    }
}

impl StoreOptions {
    /// Bytes of memory from which on chunks move.
    #[must_use]
    pub fn begin_bytes(&self) -> u64 {
        match self.tier {
            Tier::Hot => u64::MAX,
            Tier::Compressed | Tier::Mapped => (self.budget_bytes as f64 * self.begin_fraction) as u64,
        }
    }
}
