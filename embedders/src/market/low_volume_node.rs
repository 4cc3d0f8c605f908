//! The embedder of the nearest low-volume node (LVN).

use memsys::nn::parameters::{Layout, Weights};
use tch::Tensor;

use crate::blocks::{LayerNorm, Linear, spread};
use crate::error::Result;
use crate::market::preset::Widths;
use crate::{Embedding, Mode, require_shape};

/// Features of the nearest low-volume node.
pub const LVN_FEATURES: i64 = 5;
/// Numbers in the LVN embedding.
pub const LVN_OUT: i64 = 8;

/// Linear, layer norm, ReLU, then one linear layer for μ and one for σ.
#[derive(Debug, Clone, Copy)]
pub struct Lvn {
    hidden: Linear,
    norm: LayerNorm,
    mean: Linear,
    spread: Linear,
}

impl Lvn {
    /// Adds the parameters under `prefix`.
    pub fn new(layout: &mut Layout, prefix: &str, widths: &Widths) -> Self {
        let width = widths.lvn_hidden;
        Self {
            hidden: Linear::new(layout, &format!("{prefix}.hidden"), LVN_FEATURES, width),
            norm: LayerNorm::new(layout, &format!("{prefix}.norm"), width),
            mean: Linear::new(layout, &format!("{prefix}.mean"), width, LVN_OUT),
            spread: Linear::new(layout, &format!("{prefix}.spread"), width, LVN_OUT),
        }
    }

    /// Floating-point operations of a forward pass of one window. A multiply-add of a matrix product counts as two,
    /// everything else as none.
    #[must_use]
    pub fn flops(widths: &Widths) -> u64 {
        (2 * widths.lvn_hidden * (LVN_FEATURES + 2 * LVN_OUT)) as u64
    }

    /// B × 5 → μ and σ, B × 8 each. It has no dropout in either mode.
    ///
    /// # Errors
    /// Where `x` has another shape, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, x: &Tensor, _mode: Mode) -> Result<Embedding> {
        require_shape("LVN", x, &[LVN_FEATURES])?;
        let hidden = self.norm.forward(weights, &self.hidden.forward(weights, x)?)?.f_relu()?;
        Ok(Embedding {
            mean: self.mean.forward(weights, &hidden)?,
            spread: spread(&self.spread.forward(weights, &hidden)?)?,
        })
    }
}
