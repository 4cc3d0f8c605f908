//! Activation modes: what becomes of the tensors that forward saves for backward.
//!
//! Each stage of a network has one ([`stage_modes`](crate::step::stage_modes)). This is the choice alone, which needs no libtorch. `nn::activations` carries it out.

/// What becomes of saved tensors between forward and backward. Every mode gives the same gradients to the bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActivationMode {
    /// They stay in memory: the fastest mode.
    #[default]
    Keep,
    /// Of each stage only the input stays; backward runs the stage again.
    Recompute,
    /// Forward writes the storages to a file, and backward reads them.
    Spill,
}

impl ActivationMode {
    /// The mode's name in a configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Recompute => "recompute",
            Self::Spill => "spill",
        }
    }
}
