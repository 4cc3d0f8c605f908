//! Long short-term memory (Hochreiter and Schmidhuber 1997). libtorch computes it with oneDNN on a CPU and with cuDNN
//! on a GPU.

use memsys::nn::parameters::{Init, Layout, ParameterId, Weights};
use tch::Tensor;

use crate::error::Result;

/// The direction in which an LSTM reads time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the oldest row to the newest.
    Forward,
    /// Both directions side by side. Outputs are twice as wide.
    Both,
}

impl Direction {
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Forward => &[""],
            Self::Both => &["", "_reverse"],
        }
    }
}

/// A stack of LSTM layers whose initial states are zero. Its parameters have the names, order and initial values of
/// `torch.nn.LSTM`'s.
#[derive(Debug, Clone)]
pub struct Lstm {
    parameters: Vec<ParameterId>,
    direction: Direction,
    width: i64,
    n_layers: i64,
}

impl Lstm {
    /// Adds `prefix.weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, then those of the other direction
    /// and of the other layers, all uniform in ±1/√width.
    pub fn new(
        layout: &mut Layout,
        prefix: &str,
        inputs: i64,
        width: i64,
        n_layers: i64,
        direction: Direction,
    ) -> Self {
        let init = Init::Uniform { bound: 1.0 / (width as f64).sqrt() };
        let suffixes = direction.suffixes();
        let mut parameters = Vec::new();
        for layer in 0..n_layers {
            let layer_inputs = if layer == 0 { inputs } else { width * suffixes.len() as i64 };
            for suffix in suffixes {
                let mut add = |name: &str, shape: &[i64]| {
                    parameters.push(layout.add(format!("{prefix}.{name}_l{layer}{suffix}"), shape, init));
                };
                add("weight_ih", &[4 * width, layer_inputs]);
                add("weight_hh", &[4 * width, width]);
                add("bias_ih", &[4 * width]);
                add("bias_hh", &[4 * width]);
            }
        }
        Self { parameters, direction, width, n_layers }
    }

    /// T × B × inputs → T × B × (width × directions): the last layer's output at each time.
    ///
    /// # Errors
    /// Where shapes do not fit, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        let (_, batch, _) = x.size3()?;
        let n_directions = self.direction.suffixes().len() as i64;
        let zero =
            Tensor::f_zeros([self.n_layers * n_directions, batch, self.width], (x.kind(), x.device()))?;
        let parameters: Vec<&Tensor> = self.parameters.iter().map(|&id| &weights[id]).collect();
        let both = self.direction == Direction::Both;
        // `train` makes libtorch keep what backward needs. It drops nothing, since the dropout is 0. A parameter
        // requires gradients even within `no_grad`, and only a view of it shows whether gradients are recorded now.
        let train = x.requires_grad() || parameters[0].f_alias()?.requires_grad();
        let (output, _, _) =
            x.f_lstm(&[&zero, &zero], &parameters, true, self.n_layers, 0.0, train, both, false)?;
        Ok(output)
    }
}
