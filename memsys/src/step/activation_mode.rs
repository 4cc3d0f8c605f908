//! The activation modes: what can become of the tensors that forward saves for backward.
//!
//! This is the choice alone. `nn::activations` carries it out in libtorch.

/// What becomes of saved tensors between forward and backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActivationMode {
    /// They stay: the fastest.
    #[default]
    Keep,
    /// Chains of stages keep the inputs of groups of stages alone, and backward runs each group again.
    Recompute,
    /// Storages are written to a file in forward and read in backward.
    Spill,
}

impl ActivationMode {
    /// Its name in a configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Recompute => "recompute",
            Self::Spill => "spill",
        }
    }
}
