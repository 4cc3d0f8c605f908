//! Every embedder against PyTorch, and under every activation mode.

mod activation_policies;
mod pytorch_parity;
pub(crate) mod rng_lock;
