//! The networks that turn windows of feature rows into the 136-number state.
//!
//! ```text
//! structure  B × 48 × 8 ── transformer ─────────────── 64 ┐
//! tactical   B × 60 × 7 ── bidirectional LSTM, scales ─ 48 ├─ state: B × 136 (means), B × 4 (confidence)
//! regime     B × 20 × 8 ── gate, LSTM, prototypes ───── 16 │
//! LVN        B × 5 ─────── two layers ───────────────── 8 ┘
//! ```
//!
//! Reading order: [`preset`] (the widths), [`blocks`] (what the networks share), [`structure`], [`tactical`],
//! [`regime`], [`lvn`], [`fused`]. A network holds places in a [`memsys::nn::parameters::Layout`] and is given the
//! weights at each call, so that one network serves the online and the target values. Names of parameters are
//! those that a `torch.nn.Module` of the same shape has: `tests/fixtures/embedders.py` holds that module, and
//! loads a checkpoint's weights as they are.
//!
//! It holds no normalisation fitted to data, no action values and no training: that is the agents' part.

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

/// Whether dropout acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout acts, drawing from libtorch's generator.
    Train,
    /// Dropout does nothing: the same input gives the same output.
    Evaluate,
}

/// What an embedder makes of a window: a Gaussian for each of its `W` numbers.
#[derive(Debug)]
pub struct Embedding {
    /// μ, shape B × W.
    pub mean: Tensor,
    /// σ > 0, shape B × W.
    pub spread: Tensor,
}

/// Refuses a window that is not B × `wanted`.
fn require_shape(view: &'static str, x: &Tensor, wanted: &[i64]) -> Result<()> {
    let found = x.size();
    if found.len() == wanted.len() + 1 && found[1..] == *wanted {
        return Ok(());
    }
    Err(Error::Shape { view, wanted: wanted.to_vec(), found })
}
