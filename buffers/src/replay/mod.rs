//! Prioritized replay over positions in the streams.
//!
//! ```text
//! accumulator ──> Transition ──> Sampler: ring of transitions, priorities, sum tree ──> Drawn (places, weights)
//!   n-step                          │                                                      │
//!                                   └ Sequences: the same for recurrent learners        windows
//!                                                                                          ▼
//!                                Replay = Sampler + the environments' local rows ────────> Batch (tensors)
//! ```
//!
//! Reading order: [`accumulator`], [`transitions`], [`sum_tree`], [`priorities`], [`sampler`], [`windows`],
//! `tiers`, [`Replay`]; then [`sequences`], [`rate_limiter`] and [`shared`] (the same for many threads). Nothing here
//! copies an observation until a batch is
//! built, and of all this only [`Replay`] knows of tensors.

mod batch;
pub mod config;
mod copied_observations;
pub mod gather;
pub mod n_step;
pub mod priorities;
mod prioritized;
pub mod rate_limiter;
pub mod sampler;
pub mod sequences;
pub mod shared;
pub mod sum_tree;
mod tiers;
pub mod transitions;

pub use batch::Batch;
pub use config::{LocalRows, Prefetch, ReplaySettings, ReplayTier};
pub use prioritized::{Draws, Replay, ReplayOptions, Rows};
pub use shared::{SharedReplay, SharedSampler, Writer};
pub use tiers::ReplayBuffer;
pub use transitions::Slot;

pub use crate::frames::TierBytes;
pub use crate::store::{StoreOptions, Tier};

use serde::{Deserialize, Serialize};

use crate::frames::ObservationRef;

/// An n-step transition: from an observation, by an action, to the observation that is bootstrapped from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// The observation acted on.
    pub from: ObservationRef,
    /// Step of the observation bootstrapped from (of the same instrument and environment).
    pub to_t: u32,
    /// Local position of the observation bootstrapped from.
    pub to_local: u32,
    /// The action taken.
    pub action: u8,
    /// Σ γᵏ rₖ over the steps between.
    pub reward: f32,
    /// γⁿ (1 − terminated): the weight of the bootstrapped value.
    pub discount: f32,
}

impl Transition {
    /// The observation bootstrapped from.
    #[must_use]
    pub fn to(&self) -> ObservationRef {
        ObservationRef { t: self.to_t, local: self.to_local, ..self.from }
    }
}
