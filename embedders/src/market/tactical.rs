//! The embedder of price action: LSTMs over five hours, 60 bars of five minutes, then attention to three scales.

use memsys::libtorch::ScalarOps as _;
use memsys::nn::activations::{Stage, sequential};
use memsys::nn::parameters::{Init, Layout, ParameterId, Weights};
use tch::Tensor;

use crate::blocks::{
    Activation, Direction, GaussianHead, LayerNorm, Linear, Lstm, ScaleAttention, TimePooling,
};
use crate::error::{Error, Result};
use crate::market::preset::Widths;
use crate::market::stages;
use crate::{Embedding, Mode, require_shape};

/// Bars in a tactical window.
pub const TACTICAL_TIMES: i64 = 60;
/// Features of a bar.
pub const TACTICAL_FEATURES: i64 = 7;
/// Numbers in the tactical embedding.
pub const TACTICAL_OUT: i64 = 48;

const N_LAYERS: usize = 3;
/// Bars that a mean covers, for each scale. Each divides [`TACTICAL_TIMES`].
const SCALES: [i64; 3] = [5, 15, 30];

/// Projected rows with positions scaled by momentum, three bidirectional LSTM layers, gated attention to three
/// scales, pooling over time, μ and σ.
#[derive(Debug, Clone)]
pub struct Tactical {
    rows: Rows,
    layers: Vec<(Lstm, LayerNorm)>,
    scales: Scales,
    pool: TimePooling,
    head: GaussianHead,
}

impl Tactical {
    /// Adds the parameters under `prefix`.
    pub fn new(layout: &mut Layout, prefix: &str, widths: &Widths) -> Self {
        let wide = 2 * widths.tactical_lstm;
        let layer = |layout: &mut Layout, i: usize| {
            let inputs = if i == 0 { widths.tactical_model } else { wide };
            let name = format!("{prefix}.lstm.{i}");
            let lstm = Lstm::new(layout, &name, inputs, widths.tactical_lstm, 1, Direction::Both);
            (lstm, LayerNorm::new(layout, &format!("{prefix}.norm.{i}"), wide))
        };
        Self {
            rows: Rows::new(layout, prefix, widths),
            layers: (0..N_LAYERS).map(|i| layer(layout, i)).collect(),
            scales: Scales::new(layout, prefix, wide, widths.tactical_heads),
            pool: TimePooling::new(layout, &format!("{prefix}.pool"), wide),
            head: GaussianHead::new(
                layout,
                prefix,
                [wide, widths.tactical_head, TACTICAL_OUT],
                Activation::Relu,
            ),
        }
    }

    /// Floating-point operations of a forward pass of one window. A multiply-add of a matrix product counts as two,
    /// everything else as none.
    #[must_use]
    pub fn flops(widths: &Widths) -> u64 {
        let (t, width, lstm) = (TACTICAL_TIMES, widths.tactical_model, widths.tactical_lstm);
        let wide = 2 * lstm;
        let rows = t * TACTICAL_FEATURES * (width + 3 * widths.tactical_momentum);
        let layer = |inputs: i64| 2 * t * 4 * lstm * (inputs + lstm);
        let layers = layer(width) + (N_LAYERS as i64 - 1) * layer(wide);
        let scales: i64 = SCALES
            .iter()
            .map(|scale| ScaleAttention::products(wide, widths.tactical_heads, t, t / scale))
            .sum();
        let mix = t * SCALES.len() as i64 * wide * wide;
        let heads = 2 * widths.tactical_head * (wide + TACTICAL_OUT);
        (2 * (rows + layers + scales + mix + 2 * t * wide + heads)) as u64
    }

    /// B × 60 × 7 → μ and σ, B × 48 each. It has no dropout in either mode.
    ///
    /// # Errors
    /// Where `x` has another shape, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, x: &Tensor, _mode: Mode) -> Result<Embedding> {
        require_shape("tactical", x, &[TACTICAL_TIMES, TACTICAL_FEATURES])?;
        // From the rows to the scales tensors are T × B × width.
        let layered = sequential(stages::TACTICAL, self.layers(weights), x)?;
        let scaled = self.scales.forward(weights, layered)?;
        let Self { scales, pool, .. } = *self;
        let (for_mix, for_pool) = (weights.share(), weights.share());
        let last: Vec<Stage<Error>> = vec![
            Box::new(move |scaled| scales.mix(&for_mix, scaled)),
            Box::new(move |mixed| pool.forward(&for_pool, mixed)),
        ];
        let pooled = sequential(stages::MIX, last, &scaled)?;
        self.head.forward(weights, &pooled)
    }

    /// Projected rows, each LSTM layer.
    fn layers(&self, weights: &Weights) -> Vec<Stage<Error>> {
        let mut stages: Vec<Stage<Error>> = Vec::with_capacity(N_LAYERS + 1);
        let (rows, shared) = (self.rows, weights.share());
        stages.push(Box::new(move |x| rows.forward(&shared, x)));
        for (i, (lstm, norm)) in self.layers.iter().enumerate() {
            let (lstm, norm, shared) = (lstm.clone(), *norm, weights.share());
            stages.push(Box::new(move |h| {
                let y = norm.forward(&shared, &lstm.forward(&shared, h)?)?;
                if i == 0 { Ok(y) } else { Ok(y.f_add(h)?) }
            }));
        }
        stages
    }
}

/// Bars projected to the model's width, plus learned positions that are scaled by each bar's momentum.
#[derive(Debug, Clone, Copy)]
struct Rows {
    project: Linear,
    norm: LayerNorm,
    momentum_weight: ParameterId,
    momentum_bias: ParameterId,
    positions: ParameterId,
}

impl Rows {
    fn new(layout: &mut Layout, prefix: &str, widths: &Widths) -> Self {
        let (width, channels) = (widths.tactical_model, widths.tactical_momentum);
        let momentum = Init::Uniform { bound: 1.0 / (3.0 * TACTICAL_FEATURES as f64).sqrt() };
        Self {
            project: Linear::new(layout, &format!("{prefix}.project.0"), TACTICAL_FEATURES, width),
            norm: LayerNorm::new(layout, &format!("{prefix}.project.1"), width),
            momentum_weight: layout.add(
                format!("{prefix}.momentum.weight"),
                &[channels, TACTICAL_FEATURES, 3],
                momentum,
            ),
            momentum_bias: layout.add(format!("{prefix}.momentum.bias"), &[channels], momentum),
            positions: layout.add(
                format!("{prefix}.positions"),
                &[TACTICAL_TIMES, width],
                Init::Normal { std: 0.02 },
            ),
        }
    }

    /// B × 60 × 7 → 60 × B × width: libtorch's LSTM reads time first.
    fn forward(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        let rows = self.norm.forward(weights, &self.project.forward(weights, x)?)?.f_relu()?;
        let positions = self.momentum(weights, x)?.f_mul(&weights[self.positions])?;
        Ok(rows.f_add(&positions)?.f_transpose(0, 1)?)
    }

    /// How much each bar moves relative to the others of its window, B × 60 × 1: the softmax over time of the norm of
    /// a convolution over three bars.
    fn momentum(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (&weights[self.momentum_weight], &weights[self.momentum_bias]);
        let moves = x.f_transpose(1, 2)?.f_conv1d(weight, Some(bias), 1, 1, 1, 1)?;
        let length = moves.length_along(1)?;
        Ok(length.f_softmax(1, None)?.f_unsqueeze(-1)?)
    }
}

/// Attention to each scale, and a linear mix of the results.
#[derive(Debug, Clone, Copy)]
struct Scales {
    scales: [ScaleAttention; SCALES.len()],
    mix: Linear,
    norm: LayerNorm,
}

impl Scales {
    fn new(layout: &mut Layout, prefix: &str, width: i64, n_heads: i64) -> Self {
        let mut scale = |i: usize| {
            ScaleAttention::new(layout, &format!("{prefix}.scales.{i}"), width, n_heads, SCALES[i])
        };
        Self {
            scales: std::array::from_fn(&mut scale),
            mix: Linear::new(layout, &format!("{prefix}.mix.0"), SCALES.len() as i64 * width, width),
            norm: LayerNorm::new(layout, &format!("{prefix}.mix.1"), width),
        }
    }

    /// 60 × B × width → B × 60 × (3 width): the attention to each scale side by side. Each scale is a stage of its own.
    fn forward(&self, weights: &Weights, layered: Tensor) -> Result<Tensor> {
        let h = layered.f_transpose(0, 1)?.f_contiguous()?;
        drop(layered);
        let scaled = (stages::SCALES..).zip(self.scales).map(|(stage, scale)| {
            let shared = weights.share();
            let stages: Vec<Stage<Error>> = vec![Box::new(move |h| scale.forward(&shared, h))];
            sequential(stage, stages, &h)
        });
        let scaled = scaled.collect::<Result<Vec<_>>>()?;
        drop(h);
        Ok(Tensor::f_cat(&scaled, -1)?)
    }

    /// B × 60 × (3 width) → B × 60 × width.
    fn mix(&self, weights: &Weights, scaled: &Tensor) -> Result<Tensor> {
        let mixed = self.mix.forward(weights, scaled)?;
        Ok(self.norm.forward(weights, &mixed)?.f_relu()?)
    }
}
