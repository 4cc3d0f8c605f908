//! Multi-head self-attention (Vaswani et al. 2017), computed by libtorch's fused kernel.

use memsys::nn::parameters::{Init, Layout, ParameterId, Weights};
use tch::Tensor;

use crate::error::Result;

/// The parameters of `torch.nn.MultiheadAttention`, with its names and initial values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Projections {
    /// 3 width × width: queries, keys, values.
    pub(crate) in_weight: ParameterId,
    /// 3 width.
    pub(crate) in_bias: ParameterId,
    /// width × width.
    pub(crate) out_weight: ParameterId,
    /// width.
    pub(crate) out_bias: ParameterId,
}

impl Projections {
    pub(crate) fn new(layout: &mut Layout, prefix: &str, width: i64) -> Self {
        let xavier = Init::Uniform { bound: (6.0 / (4 * width) as f64).sqrt() };
        let plain = Init::Uniform { bound: 1.0 / (width as f64).sqrt() };
        let zero = Init::Constant(0.0);
        Self {
            in_weight: layout.add(format!("{prefix}.in_proj_weight"), &[3 * width, width], xavier),
            in_bias: layout.add(format!("{prefix}.in_proj_bias"), &[3 * width], zero),
            out_weight: layout.add(format!("{prefix}.out_proj.weight"), &[width, width], plain),
            out_bias: layout.add(format!("{prefix}.out_proj.bias"), &[width], zero),
        }
    }
}

/// Attention of every time to every time of the same window.
///
/// Attention probabilities have no dropout: libtorch's fused CPU kernel, which never holds the T × T product,
/// supports none.
#[derive(Debug, Clone, Copy)]
pub struct SelfAttention {
    projections: Projections,
    width: i64,
    n_heads: i64,
}

impl SelfAttention {
    /// Adds the parameters of `torch.nn.MultiheadAttention` under `prefix`. `n_heads` divides `width`.
    pub fn new(layout: &mut Layout, prefix: &str, width: i64, n_heads: i64) -> Self {
        Self { projections: Projections::new(layout, prefix, width), width, n_heads }
    }

    /// B × T × width → B × T × width.
    ///
    /// # Errors
    /// Where shapes do not fit, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        let (batch, times, _) = x.size3()?;
        let Projections { in_weight, in_bias, out_weight, out_bias } = self.projections;
        let all = x.f_linear(&weights[in_weight], Some(&weights[in_bias]))?;
        // B × T × 3 × heads × width of a head -> 3 of B × heads × T × width of a head, all views.
        let all = all.f_view([batch, times, 3, self.n_heads, self.width / self.n_heads])?;
        let parts = all.f_permute([2, 0, 3, 1, 4])?.f_unbind(0)?;
        let mixed = Tensor::f_scaled_dot_product_attention(
            &parts[0],
            &parts[1],
            &parts[2],
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        )?;
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([batch, times, self.width])?;
        Ok(mixed.f_linear(&weights[out_weight], Some(&weights[out_bias]))?)
    }
}
