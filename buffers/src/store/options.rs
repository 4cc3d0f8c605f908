//! The tiers that chunks may go to, and the budget of bytes in memory.

use std::path::PathBuf;

use crate::store::rows::RowKind;

/// The default of [`StoreOptions::window_bytes`].
pub const WINDOW_BYTES: u64 = 64 << 20;
/// The default of [`StoreOptions::garbage_bytes`].
pub const GARBAGE_BYTES: u64 = 64 << 20;

/// The lowest tier that chunks may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tier {
    /// Chunks stay in memory uncompressed.
    #[default]
    Hot,
    /// Chunks are compressed in memory.
    Compressed,
    /// Chunks go to a file, and single rows are read from it.
    Mapped,
}

/// The tiers that chunks may go to, and when they move.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreOptions {
    /// The lowest tier.
    pub tier: Tier,
    /// Bytes of memory for transitions and rows. Encoding begins at `begin_fraction` of them; in [`Tier::Mapped`] chunks
    /// that exceed them go to the file. With 0 every full chunk moves to the lowest tier.
    pub budget_bytes: u64,
    /// The fraction of the budget at which encoding begins, so that the encoder's thread is done before the budget is
    /// full.
    pub begin_fraction: f64,
    /// The file of [`Tier::Mapped`].
    pub file: Option<PathBuf>,
    /// The most bytes of the file that may be resident through mappings. Other rows take one read call each.
    pub window_bytes: u64,
    /// The file is compacted when its garbage exceeds both this and the bytes of the chunks in use.
    pub garbage_bytes: u64,
    /// How the numbers of local rows are stored, exactly or rounded to two bytes.
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
            garbage_bytes: GARBAGE_BYTES,
            local_kind: RowKind::F32,
        }
    }
}

impl StoreOptions {
    /// Bytes of memory above which chunks move.
    #[must_use]
    pub fn begin_bytes(&self) -> u64 {
        match self.tier {
            Tier::Hot => u64::MAX,
            Tier::Compressed | Tier::Mapped => (self.budget_bytes as f64 * self.begin_fraction) as u64,
        }
    }
}
