//! Pooling over time: a weighted mean of the rows of a window, with learned weights.

use memsys::nn::parameters::{Layout, Weights};
use tch::Tensor;

use crate::blocks::Linear;
use crate::error::Result;

/// Σₜ softmaxₜ(a·hₜ + b) hₜ. Windows are always full, so no time is masked.
#[derive(Debug, Clone, Copy)]
pub struct TimePooling {
    score: Linear,
}

impl TimePooling {
    /// Adds `prefix.weight` (1 × width) and `prefix.bias`.
    pub fn new(layout: &mut Layout, prefix: &str, width: i64) -> Self {
        Self { score: Linear::new(layout, prefix, width, 1) }
    }

    /// B × T × width → B × width.
    ///
    /// # Errors
    /// Where shapes do not fit, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, h: &Tensor) -> Result<Tensor> {
        let share = self.score.forward(weights, h)?.f_softmax(1, None)?;
        Ok(share.f_transpose(1, 2)?.f_bmm(h)?.f_squeeze_dim(1)?)
    }
}
