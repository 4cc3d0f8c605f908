//! Tests of all embedders: against PyTorch, and under every activation mode.

mod activation_modes;
mod pytorch_parity;
pub(crate) mod rng_lock;
mod stage_modes;
