//! The networks that turn windows of feature rows into an embedding: 136 means and 4 confidences.
//!
//! ```text
//! structure  B × 48 × 8 ── transformer ─────────────── 64 ┐
//! tactical   B × 60 × 7 ── bidirectional LSTM, scales ─ 48 ├─ state: B × 136 (means), B × 4 (confidence)
//! regime     B × 20 × 8 ── gate, LSTM, prototypes ───── 16 │
//! LVN        B × 5 ─────── two layers ───────────────── 8 ┘
//! ```
//!
//! Reading order: [`market`] (the networks, widths first), then [`blocks`] (the layers that they share).
//!
//! A network holds parameter ids of a [`memsys::nn::parameters::Layout`] and receives the weights at each call, so
//! one network serves online and target weights. Parameters have the names of a `torch.nn.Module` of the same shape.
//! `trainer/src/export/plimsoll_torch.py` holds that module, and it loads a checkpoint's weights as they are.
//!
//! This crate fits no normalisation to data, computes no action values and trains nothing. The `agents` crate does.

pub mod blocks;
pub mod error;
pub mod market;

pub use error::{Error, Result};
pub use market::config::{Dropout, EmbedderSettings};
pub use market::fused::{CONFIDENCE_WIDTH, EMBEDDING_WIDTH, Fused, STATE_WIDTH, State, Views};
pub use market::low_volume_node::{LVN_OUT, Lvn};
pub use market::preset::{Preset, Widths};
pub use market::regime::{REGIME_OUT, Regime};
pub use market::structure::{STRUCTURE_OUT, Structure};
pub use market::tactical::{TACTICAL_OUT, Tactical};

#[cfg(test)]
mod tests;

use tch::Tensor;

/// Whether a forward pass drops numbers at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout acts. It draws from libtorch's generator, which all threads of the process share.
    Train,
    /// Dropout does nothing: the same input gives the same output.
    Evaluate,
}

/// The embedding of a window: a Gaussian for each of its `W` numbers.
#[derive(Debug)]
pub struct Embedding {
    /// μ, shape B × W.
    pub mean: Tensor,
    /// σ > 0, shape B × W.
    pub spread: Tensor,
}

/// Checks that `x` is B × `wanted`.
fn require_shape(view: &'static str, x: &Tensor, wanted: &[i64]) -> Result<()> {
    let found = x.size();
    if found.len() == wanted.len() + 1 && found[1..] == *wanted {
        return Ok(());
    }
    Err(Error::Shape { view, wanted: wanted.to_vec(), found })
}
