//! The embedder of market structure: a transformer over one day, 48 half hours.

use std::sync::Arc;

use memsys::nn::activations::{Stage, sequential};
use memsys::nn::parameters::{Layout, Weights};
use tch::Tensor;

use crate::blocks::{Activation, Dropout, GaussianHead, LayerNorm, Linear, SelfAttention, TimePooling};
use crate::error::{Error, Result};
use crate::market::preset::Widths;
use crate::market::stages::STRUCTURE;
use crate::{Embedding, Mode, require_shape};

/// Half hours in a structure window.
pub const STRUCTURE_TIMES: i64 = 48;
/// Features of a half hour.
pub const STRUCTURE_FEATURES: i64 = 8;
/// Numbers in the structure embedding.
pub const STRUCTURE_OUT: i64 = 64;

const N_BLOCKS: usize = 3;

/// Linear, sinusoidal positions, three pre-norm transformer blocks, pooling over time, μ and σ.
#[derive(Debug, Clone)]
pub struct Structure {
    project: Linear,
    /// T × width, row by row.
    positions: Arc<[f32]>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    pool: TimePooling,
    head: GaussianHead,
    width: i64,
}

impl Structure {
    /// Adds the parameters under `prefix`.
    pub fn new(layout: &mut Layout, prefix: &str, widths: &Widths) -> Self {
        let width = widths.structure_model;
        Self {
            project: Linear::new(layout, &format!("{prefix}.project"), STRUCTURE_FEATURES, width),
            positions: sinusoids(STRUCTURE_TIMES, width).into(),
            blocks: (0..N_BLOCKS)
                .map(|i| Block::new(layout, &format!("{prefix}.blocks.{i}"), widths))
                .collect(),
            norm: LayerNorm::new(layout, &format!("{prefix}.norm"), width),
            pool: TimePooling::new(layout, &format!("{prefix}.pool"), width),
            head: GaussianHead::new(
                layout,
                prefix,
                [width, widths.structure_head, STRUCTURE_OUT],
                Activation::Gelu,
            ),
            width,
        }
    }

    /// Floating-point operations of a forward pass of one window. A multiply-add of a matrix product counts as two,
    /// everything else as none.
    #[must_use]
    pub fn flops(widths: &Widths) -> u64 {
        let (t, width) = (STRUCTURE_TIMES, widths.structure_model);
        let block = t * (4 * width * width + 2 * width * widths.structure_feed_forward) + 2 * t * t * width;
        let heads = 2 * widths.structure_head * (width + STRUCTURE_OUT);
        (2 * (t * STRUCTURE_FEATURES * width + N_BLOCKS as i64 * block + 2 * t * width + heads)) as u64
    }

    /// B × 48 × 8 → μ and σ, B × 64 each.
    ///
    /// # Errors
    /// Where `x` has another shape, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, x: &Tensor, mode: Mode) -> Result<Embedding> {
        require_shape("structure", x, &[STRUCTURE_TIMES, STRUCTURE_FEATURES])?;
        let pooled = sequential(STRUCTURE, self.stages(weights, mode), x)?;
        self.head.forward(weights, &pooled)
    }

    /// Projection and positions, each block, pooling.
    fn stages(&self, weights: &Weights, mode: Mode) -> Vec<Stage<Error>> {
        let mut stages: Vec<Stage<Error>> = Vec::with_capacity(N_BLOCKS + 2);
        let Self { project, norm, pool, width, .. } = *self;
        let (positions, shared) = (Arc::clone(&self.positions), weights.share());
        stages.push(Box::new(move |x| {
            let positions = Tensor::f_from_slice(&positions)?.f_view([STRUCTURE_TIMES, width])?;
            Ok(project.forward(&shared, x)?.f_add(&positions.f_to(x.device())?)?)
        }));
        for &block in &self.blocks {
            let shared = weights.share();
            stages.push(Box::new(move |h| block.forward(&shared, h, mode)));
        }
        let shared = weights.share();
        stages.push(Box::new(move |h| pool.forward(&shared, &norm.forward(&shared, h)?)));
        stages
    }
}

/// Vaswani et al. 2017, section 3.5: sin(t / 10000^(2i / width)) at 2i, the cosine at 2i + 1.
fn sinusoids(times: i64, width: i64) -> Vec<f32> {
    let angle = |t: i64, i: i64| t as f64 / 10_000f64.powf((i - i % 2) as f64 / width as f64);
    let number = |t, i| if i % 2 == 0 { angle(t, i).sin() } else { angle(t, i).cos() };
    (0..times).flat_map(|t| (0..width).map(move |i| number(t, i) as f32)).collect()
}

/// `h += attention(norm(h)); h += feed_forward(norm(h))`: the parameters of `torch.nn.TransformerEncoderLayer`
/// with `norm_first`, by its names.
#[derive(Debug, Clone, Copy)]
struct Block {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    linear1: Linear,
    linear2: Linear,
    dropout: Dropout,
}

impl Block {
    fn new(layout: &mut Layout, prefix: &str, widths: &Widths) -> Self {
        let (width, hidden) = (widths.structure_model, widths.structure_feed_forward);
        Self {
            norm1: LayerNorm::new(layout, &format!("{prefix}.norm1"), width),
            attention: SelfAttention::new(
                layout,
                &format!("{prefix}.self_attn"),
                width,
                widths.structure_heads,
            ),
            norm2: LayerNorm::new(layout, &format!("{prefix}.norm2"), width),
            linear1: Linear::new(layout, &format!("{prefix}.linear1"), width, hidden),
            linear2: Linear::new(layout, &format!("{prefix}.linear2"), hidden, width),
            dropout: Dropout::new(widths.dropout),
        }
    }

    fn forward(&self, weights: &Weights, h: &Tensor, mode: Mode) -> Result<Tensor> {
        let attended = self.attention.forward(weights, &self.norm1.forward(weights, h)?)?;
        let h = h.f_add(&self.drop(attended, mode)?)?;
        let inner = self.linear1.forward(weights, &self.norm2.forward(weights, &h)?)?;
        let inner = self.drop(Activation::Gelu.forward(&inner)?, mode)?;
        Ok(h.f_add(&self.drop(self.linear2.forward(weights, &inner)?, mode)?)?)
    }

    fn drop(&self, x: Tensor, mode: Mode) -> Result<Tensor> {
        match mode {
            Mode::Train => self.dropout.forward(x),
            Mode::Evaluate => Ok(x),
        }
    }
}
