//! What threads share of a replay: as much of `buffers::replay` as knows nothing of tensors.

#[path = "../../src/replay/priorities.rs"]
pub mod priorities;
#[path = "../../src/replay/sampler.rs"]
pub mod sampler;
#[path = "shared.rs"]
pub mod shared;
#[path = "../../src/replay/sum_tree.rs"]
pub mod sum_tree;
#[path = "../../src/replay/transitions.rs"]
pub mod transitions;

use serde::{Deserialize, Serialize};

use crate::frames::ObservationRef;

/// As `buffers::replay::Transition`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// The observation acted on.
    pub from: ObservationRef,
    /// Step of the observation bootstrapped from.
    pub to_t: u32,
    /// Local position of the observation bootstrapped from.
    pub to_local: u32,
    /// The action taken.
    pub action: u8,
    /// Σ γᵏ rₖ over the steps between.
    pub reward: f32,
    /// γⁿ (1 − terminated).
    pub discount: f32,
}

impl Transition {
    /// The observation bootstrapped from.
    #[must_use]
    pub fn to(&self) -> ObservationRef {
        ObservationRef { t: self.to_t, local: self.to_local, ..self.from }
    }
}
