//! An affine map of the last dimension.

use memsys::nn::parameters::{Init, Layout, ParameterId, Weights};
use tch::Tensor;

use crate::error::Result;

/// `y = x Aᵀ + b`, with the parameter names and initial values of `torch.nn.Linear`.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    pub(crate) weight: ParameterId,
    pub(crate) bias: ParameterId,
}

impl Linear {
    /// Adds `prefix.weight` (outputs × inputs) and `prefix.bias`, both uniform in ±1/√inputs.
    pub fn new(layout: &mut Layout, prefix: &str, inputs: i64, outputs: i64) -> Self {
        let init = Init::Uniform { bound: 1.0 / (inputs as f64).sqrt() };
        Self {
            weight: layout.add(format!("{prefix}.weight"), &[outputs, inputs], init),
            bias: layout.add(format!("{prefix}.bias"), &[outputs], init),
        }
    }

    /// … × inputs → … × outputs.
    ///
    /// # Errors
    /// Where shapes do not fit, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&weights[self.weight], Some(&weights[self.bias]))?)
    }
}
