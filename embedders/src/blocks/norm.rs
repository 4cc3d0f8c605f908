//! Layer normalisation (Ba, Kiros and Hinton 2016).

use memsys::nn::parameters::{Init, Layout, ParameterId, Weights};
use tch::Tensor;

use crate::error::Result;

/// Added to the variance, as in PyTorch.
const EPSILON: f64 = 1e-5;

/// Normalises the last dimension to mean 0 and variance 1, then scales and shifts it.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm {
    weight: ParameterId,
    bias: ParameterId,
    width: i64,
}

impl LayerNorm {
    /// Adds `prefix.weight` (ones) and `prefix.bias` (zeros).
    pub fn new(layout: &mut Layout, prefix: &str, width: i64) -> Self {
        Self {
            weight: layout.add(format!("{prefix}.weight"), &[width], Init::Constant(1.0)),
            bias: layout.add(format!("{prefix}.bias"), &[width], Init::Constant(0.0)),
            width,
        }
    }

    /// … × width → … × width.
    ///
    /// # Errors
    /// Where shapes do not fit, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (&weights[self.weight], &weights[self.bias]);
        Ok(x.f_layer_norm(self.width, Some(weight), Some(bias), EPSILON, true)?)
    }
}
