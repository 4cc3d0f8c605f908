//! Prioritized replay over positions in the streams.
//!
//! ```text
//! Accumulator ──> Transition ──> Sampler: ring of transitions, priorities, sum tree ──> Drawn (references, weights)
//!   n-step                          │                                                      │
//!                                   └ Sequences: the same for recurrent learners         gather
//!                                                                                          ▼
//!                                Replay = Sampler + the environments' local rows ────────> Batch
//! ```
//!
//! Reading order: `intake`, [`n_step`], [`transitions`], [`sum_tree`], [`priorities`], [`sampler`], [`gather`](mod@gather), `tiers`,
//! [`Replay`]; then [`sequences`], [`rate_limiter`] and [`shared`] (a replay for many threads). No observation is copied
//! before a batch is gathered.

mod array_batch;
mod batch;
pub mod config;
mod copied_observations;
pub mod gather;
mod intake;
pub mod n_step;
pub mod priorities;
mod prioritized;
pub mod rate_limiter;
pub mod sampler;
mod segments;
pub mod sequences;
pub mod shared;
pub mod sum_tree;
#[cfg(feature = "tensors")]
mod tensor_batch;
mod tiers;
pub mod transitions;

pub use array_batch::ArrayBatch;
pub use batch::Batch;
pub use config::{LocalRows, Prefetch, ReplaySettings, ReplayTier};
pub use prioritized::{Draws, Replay, ReplayOptions, Rows};
pub use shared::{SharedReplay, SharedSampler, Writer};
#[cfg(feature = "tensors")]
pub use tensor_batch::TensorBatch;
pub use transitions::Slot;

pub use crate::frames::TierBytes;
pub use crate::store::{StoreOptions, Tier};

use serde::{Deserialize, Serialize};

use crate::frames::ObservationRef;

/// An n-step transition: an observation, the action taken there, and the observation to bootstrap from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// The observation in which the action was taken.
    pub from: ObservationRef,
    /// `t` of the observation to bootstrap from, which has the same instrument and environment.
    pub to_t: u32,
    /// Local row of the observation to bootstrap from.
    pub to_local: u32,
    /// The action's number.
    pub action: u8,
    /// The n-step reward: Σ γᵏ rₖ over the steps between.
    pub reward: f32,
    /// γⁿ (1 − terminated), the weight of the bootstrapped value.
    pub discount: f32,
}

impl Transition {
    /// The observation to bootstrap from.
    #[must_use]
    pub fn to(&self) -> ObservationRef {
        ObservationRef { t: self.to_t, local: self.to_local, ..self.from }
    }
}
