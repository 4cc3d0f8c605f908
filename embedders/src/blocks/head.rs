//! The head of an embedder: from a pooled row to one Gaussian per number.

use memsys::libtorch::ScalarOps as _;
use memsys::nn::parameters::{Layout, Weights};
use tch::Tensor;

use crate::Embedding;
use crate::blocks::{LayerNorm, Linear};
use crate::error::Result;

/// Added to softplus, which rounds to 0 for very negative numbers. A spread must be positive.
const SPREAD_FLOOR: f64 = 1e-6;

/// The nonlinearity of a hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x Φ(x), by the error function.
    Gelu,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// Applies it to each number.
    ///
    /// # Errors
    /// Where libtorch refuses the memory.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Gelu => x.f_gelu("none")?,
            Self::Relu => x.f_relu()?,
        })
    }
}

/// σ = softplus(x) + floor.
pub(crate) fn spread(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_softplus()?.add_scalar(SPREAD_FLOOR)?)
}

/// Computes μ and σ by two layers each, with a layer norm between the layers and softplus after σ's.
#[derive(Debug, Clone, Copy)]
pub struct GaussianHead {
    mean: TwoLayers,
    spread: TwoLayers,
}

#[derive(Debug, Clone, Copy)]
struct TwoLayers {
    first: Linear,
    norm: LayerNorm,
    activation: Activation,
    last: Linear,
}

impl TwoLayers {
    fn new(layout: &mut Layout, prefix: &str, widths: [i64; 3], activation: Activation) -> Self {
        let [inputs, hidden, outputs] = widths;
        Self {
            first: Linear::new(layout, &format!("{prefix}.0"), inputs, hidden),
            norm: LayerNorm::new(layout, &format!("{prefix}.1"), hidden),
            activation,
            last: Linear::new(layout, &format!("{prefix}.3"), hidden, outputs),
        }
    }

    fn forward(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        let hidden = self.norm.forward(weights, &self.first.forward(weights, x)?)?;
        self.last.forward(weights, &self.activation.forward(&hidden)?)
    }
}

impl GaussianHead {
    /// Adds `prefix.mean` and `prefix.spread`, each numbered as the `torch.nn.Sequential` of linear, layer norm,
    /// activation, linear. `widths`: inputs, hidden, outputs.
    pub fn new(layout: &mut Layout, prefix: &str, widths: [i64; 3], activation: Activation) -> Self {
        Self {
            mean: TwoLayers::new(layout, &format!("{prefix}.mean"), widths, activation),
            spread: TwoLayers::new(layout, &format!("{prefix}.spread"), widths, activation),
        }
    }

    /// B × inputs → μ and σ, B × outputs each.
    ///
    /// # Errors
    /// Where shapes do not fit, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Result<Embedding> {
        let mean = self.mean.forward(weights, x)?;
        Ok(Embedding { mean, spread: spread(&self.spread.forward(weights, x)?)? })
    }
}
