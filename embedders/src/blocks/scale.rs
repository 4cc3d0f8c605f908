//! Gated attention of every time to means of the window over stretches of one length.

use memsys::libtorch::ScalarOps as _;
use memsys::nn::parameters::{Layout, Weights};
use tch::{Kind, Tensor};

use crate::blocks::Linear;
use crate::blocks::attention::Projections;
use crate::error::Result;

/// `g y + (1 − g) h` with `y` the attention of `h` to its means over stretches of `scale` times and
/// `g = sigmoid(Linear([h, y]))`.
///
/// The stretches do not overlap: there are T / scale keys, and the window is never copied. There are far fewer keys
/// than numbers in a row, so the projections of queries and outputs, which are linear, are applied to the keys and
/// values instead of to every time:
///
/// ```text
/// (A h + a) · k          =  h · (Aᵀ k) + a · k          scores of a head
/// Σ over heads O Σ p v + o  =  Σ over heads Σ p (O v + o / heads)      since the p of a head sum to 1
/// G y                    =  Σ over heads Σ p G (O v + o / heads)       the gate's share
/// ```
///
/// The result equals that of `torch.nn.MultiheadAttention` and the gate but for rounding, with about half of the
/// arithmetic.
#[derive(Debug, Clone, Copy)]
pub struct ScaleAttention {
    projections: Projections,
    gate: Linear,
    scale: i64,
    width: i64,
    n_heads: i64,
}

impl ScaleAttention {
    /// Adds the parameters of `torch.nn.MultiheadAttention` under `prefix.attention` and the gate under
    /// `prefix.gate`. `n_heads` divides `width`.
    pub fn new(layout: &mut Layout, prefix: &str, width: i64, n_heads: i64, scale: i64) -> Self {
        Self {
            projections: Projections::new(layout, &format!("{prefix}.attention"), width),
            gate: Linear::new(layout, &format!("{prefix}.gate"), 2 * width, width),
            scale,
            width,
            n_heads,
        }
    }

    /// Multiply-adds of one window of `times` rows with `n_keys` means.
    pub(crate) fn products(width: i64, n_heads: i64, times: i64, n_keys: i64) -> i64 {
        let folded = n_keys * n_heads;
        let keys_and_values = 2 * n_keys * width * width;
        let folds = 2 * n_keys * width * width + folded * width * width;
        keys_and_values + folds + 3 * times * folded * width + times * width * width
    }

    /// B × T × width → B × T × width; `scale` divides T.
    ///
    /// # Errors
    /// Where shapes do not fit, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, h: &Tensor) -> Result<Tensor> {
        let (width, n_heads) = (self.width, self.n_heads);
        let head = width / n_heads;
        let (batch, times, _) = h.size3()?;
        let n_keys = times / self.scale;
        let Projections { in_weight, in_bias, out_weight, out_bias } = self.projections;
        let in_weight = weights[in_weight].f_split_with_sizes([width, 2 * width], 0)?;
        let in_bias = weights[in_bias].f_split_with_sizes([width, 2 * width], 0)?;

        let means = h.f_view([batch, n_keys, self.scale, width])?.f_mean_dim(2, false, None)?;
        let pairs = means.f_linear(&in_weight[1], Some(&in_bias[1]))?;
        // Keys and values, each heads × B × keys × width of a head.
        let pairs =
            pairs.f_view([batch, n_keys, 2, n_heads, head])?.f_permute([2, 3, 0, 1, 4])?.f_unbind(0)?;

        let keys = self.fold(&pairs[0], &in_weight[0].f_view([n_heads, head, width])?)?;
        let query_bias = in_bias[0].f_view([n_heads, 1, head, 1])?;
        let query_bias = pairs[0].f_matmul(&query_bias)?.f_transpose(0, 1)?;
        let query_bias = query_bias.f_reshape([batch, n_heads * n_keys, 1])?;
        let shrink = 1.0 / (head as f64).sqrt();
        // Time is the last dimension, so that the softmax over a few keys runs along long rows.
        let scores = query_bias.baddbmm_scalars(&keys, &h.f_transpose(1, 2)?, shrink, shrink)?;
        let shares = scores.f_view([batch, n_heads, n_keys, times])?.f_softmax(2, None::<Kind>)?;
        let shares = shares.f_view([batch, n_heads * n_keys, times])?.f_transpose(1, 2)?;

        let out_weight = weights[out_weight].f_view([width, n_heads, head])?.f_permute([1, 2, 0])?;
        let out_bias = weights[out_bias].div_scalar(n_heads as f64)?;
        let values = self.fold(&pairs[1], &out_weight)?.f_add(&out_bias)?;
        let y = shares.f_bmm(&values)?;

        let gate_weight = weights[self.gate.weight].f_split_with_sizes([width, width], 1)?;
        let of_h = h.f_linear(&gate_weight[0], Some(&weights[self.gate.bias]))?;
        let of_y = values.f_linear(&gate_weight[1], None::<&Tensor>)?;
        let gate = of_h.baddbmm_scalars(&shares, &of_y, 1.0, 1.0)?.f_sigmoid_()?;
        Ok(h.f_lerp_tensor(&y, &gate)?)
    }

    /// heads × B × keys × width of a head, by heads × width of a head × width → B × (heads × keys) × width.
    fn fold(&self, rows: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let (n_heads, batch, n_keys, head) = rows.size4()?;
        let folded = rows.f_reshape([n_heads, batch * n_keys, head])?.f_bmm(weight)?;
        let folded = folded.f_view([n_heads, batch, n_keys, self.width])?.f_transpose(0, 1)?;
        Ok(folded.f_reshape([batch, n_heads * n_keys, self.width])?)
    }
}
