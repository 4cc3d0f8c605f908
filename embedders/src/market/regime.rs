//! The embedder of the market's regime: an LSTM over the last 20 half hours.

use memsys::libtorch::ScalarOps as _;
use memsys::nn::activations::{Stage, sequential};
use memsys::nn::parameters::{Init, Layout, ParameterId, Weights};
use tch::Tensor;

use crate::blocks::{Direction, Linear, Lstm, spread};
use crate::error::{Error, Result};
use crate::market::preset::Widths;
use crate::market::stages::REGIME;
use crate::{Embedding, Mode, require_shape};

/// Half hours in a regime window.
pub const REGIME_TIMES: i64 = 20;
/// Features of a half hour.
pub const REGIME_FEATURES: i64 = 8;
/// Numbers in the regime embedding.
pub const REGIME_OUT: i64 = 16;

const N_PROTOTYPES: i64 = 16;
const N_LAYERS: i64 = 2;

/// Importance gate, transition net on (previous, current), two-layer LSTM, soft assignment to 16 prototypes, μ
/// and σ.
#[derive(Debug, Clone)]
pub struct Regime {
    importance: Linear,
    transition: [Linear; 2],
    lstm: Lstm,
    prototypes: ParameterId,
    mean: Linear,
    spread: Linear,
    width: i64,
}

impl Regime {
    /// Adds the parameters under `prefix`.
    pub fn new(layout: &mut Layout, prefix: &str, widths: &Widths) -> Self {
        let (width, transition) = (widths.regime_lstm, widths.regime_transition);
        let inputs = REGIME_FEATURES + transition;
        let pooled = width + N_PROTOTYPES;
        Self {
            importance: Linear::new(
                layout,
                &format!("{prefix}.importance"),
                REGIME_FEATURES,
                REGIME_FEATURES,
            ),
            transition: [
                Linear::new(layout, &format!("{prefix}.transition.0"), 2 * REGIME_FEATURES, transition),
                Linear::new(layout, &format!("{prefix}.transition.2"), transition, transition),
            ],
            lstm: Lstm::new(layout, &format!("{prefix}.lstm"), inputs, width, N_LAYERS, Direction::Forward),
            // The LSTM's outputs lie in (-1, 1), so the prototypes begin there.
            prototypes: layout.add(
                format!("{prefix}.prototypes"),
                &[N_PROTOTYPES, width],
                Init::Uniform { bound: 0.5 },
            ),
            mean: Linear::new(layout, &format!("{prefix}.mean"), pooled, REGIME_OUT),
            spread: Linear::new(layout, &format!("{prefix}.spread"), pooled, REGIME_OUT),
            width,
        }
    }

    /// Floating-point operations of a forward pass of one window. A multiply-add of a matrix product counts as two,
    /// everything else as none.
    #[must_use]
    pub fn flops(widths: &Widths) -> u64 {
        let (width, transition) = (widths.regime_lstm, widths.regime_transition);
        let row = REGIME_FEATURES * (REGIME_FEATURES + 2 * transition) + transition * transition;
        let layers = 4 * width * (REGIME_FEATURES + transition + width + 2 * width);
        let last = N_PROTOTYPES * width + 2 * REGIME_OUT * (width + N_PROTOTYPES);
        (2 * (REGIME_TIMES * (row + layers) + last)) as u64
    }

    /// B × 20 × 8 → μ and σ, B × 16 each. It has no dropout in either mode.
    ///
    /// # Errors
    /// Where `x` has another shape, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, x: &Tensor, _mode: Mode) -> Result<Embedding> {
        require_shape("regime", x, &[REGIME_TIMES, REGIME_FEATURES])?;
        let (network, shared) = (self.clone(), weights.share());
        let stages: Vec<Stage<Error>> = vec![Box::new(move |x| network.pooled(&shared, x))];
        let pooled = sequential(REGIME, stages, x)?;
        Ok(Embedding {
            mean: self.mean.forward(weights, &pooled)?,
            spread: spread(&self.spread.forward(weights, &pooled)?)?,
        })
    }

    /// B × 20 × 8 → the LSTM's last row and its assignment to the prototypes, B × (width + 16).
    fn pooled(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        // libtorch's LSTM reads time first.
        let x = x.f_transpose(0, 1)?;
        let current = self.importance.forward(weights, &x)?.f_sigmoid()?.f_mul(&x)?;
        // The oldest row has no row before it and takes itself as its previous one.
        let previous =
            Tensor::f_cat(&[current.f_narrow(0, 0, 1)?, current.f_narrow(0, 0, REGIME_TIMES - 1)?], 0)?;
        let [first, last] = &self.transition;
        let change = first.forward(weights, &Tensor::f_cat(&[&previous, &current], -1)?)?.f_relu()?;
        let change = last.forward(weights, &change)?;
        let h = self.lstm.forward(weights, &Tensor::f_cat(&[&current, &change], -1)?)?;
        let h = h.f_select(0, REGIME_TIMES - 1)?;
        Ok(Tensor::f_cat(&[&h, &self.assign(weights, &h)?], -1)?)
    }

    /// Soft assignment of each row to the prototypes, B × 16: softmax(−‖h − p‖² / √width). ‖h‖² is equal for all
    /// prototypes and cancels in the softmax.
    fn assign(&self, weights: &Weights, h: &Tensor) -> Result<Tensor> {
        let prototypes = &weights[self.prototypes];
        let squares = prototypes.f_mul(prototypes)?.f_sum_dim_intlist(1, false, None)?;
        let distance = squares.f_sub(&h.f_matmul(&prototypes.f_transpose(0, 1)?)?.mul_scalar(2.0)?)?;
        Ok(distance.mul_scalar(-1.0 / (self.width as f64).sqrt())?.f_softmax(1, None)?)
    }
}
