//! Prioritized replay over positions in the streams.
//!
//! Reading order: [`accumulator`] makes n-step transitions, [`Replay`] keeps and samples them by a
//! [`sum_tree`]. Chunks that are compressed or mapped will come under [`crate::frames::FrameStream`]; nothing
//! here copies an observation until a batch is built.

pub mod accumulator;
mod prioritized;
pub mod sum_tree;

pub use prioritized::{Batch, Replay, ReplayOptions, Slot};

use serde::{Deserialize, Serialize};

use crate::frames::Place;

/// An n-step transition: from an observation, by an action, to the observation that is bootstrapped from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// The observation acted on.
    pub from: Place,
    /// Base position of the observation bootstrapped from (of the same scene and environment).
    pub to_base: u32,
    /// Own position of the observation bootstrapped from.
    pub to_own: u32,
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
    pub fn to(&self) -> Place {
        Place { base: self.to_base, own: self.to_own, ..self.from }
    }
}
