//! The state of the market: the four embeddings joined.

use memsys::nn::parameters::{Layout, Weights};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::market::low_volume_node::{LVN_OUT, Lvn};
use crate::market::preset::Widths;
use crate::market::regime::{REGIME_OUT, REGIME_TIMES, Regime};
use crate::market::structure::{STRUCTURE_OUT, STRUCTURE_TIMES, Structure};
use crate::market::tactical::{TACTICAL_OUT, TACTICAL_TIMES, Tactical};
use crate::{Embedding, Mode};

/// Numbers in the state.
pub const STATE_WIDTH: i64 = STRUCTURE_OUT + TACTICAL_OUT + REGIME_OUT + LVN_OUT;
/// Numbers in the confidence, one per embedder.
pub const CONFIDENCE_WIDTH: i64 = 4;
/// Numbers of a market embedding: the fused state and its confidence.
pub const EMBEDDING_WIDTH: i64 = STATE_WIDTH + CONFIDENCE_WIDTH;

/// Bytes of activations per observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivationBytes {
    /// At the peak of a forward and backward pass that keeps all that backward needs.
    pub kept: u64,
    /// At the peak of a forward pass without gradients.
    pub evaluated: u64,
}

/// The windows of B observations.
#[derive(Debug)]
pub struct Views {
    /// B × 48 × 8.
    pub structure: Tensor,
    /// B × 60 × 7.
    pub tactical: Tensor,
    /// B × 20 × 8.
    pub regime: Tensor,
    /// B × 5.
    pub lvn: Tensor,
}

/// The joint embedding of B observations.
#[derive(Debug)]
pub struct State {
    /// The means of structure, tactical, regime and LVN, B × 136.
    pub mean: Tensor,
    /// The mean σ of each in the same order, B × 4.
    pub confidence: Tensor,
}

impl State {
    /// Joins the embeddings of structure, tactical, regime and LVN.
    ///
    /// # Errors
    /// Where their batches differ, or libtorch refuses the memory.
    pub fn join(parts: &[&Embedding; 4]) -> Result<Self> {
        let spread = |part: &&Embedding| part.spread.f_mean_dim(1, true, Kind::Float);
        let spreads = parts.iter().map(spread).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Self {
            mean: Tensor::f_cat(&parts.map(|part| &part.mean), 1)?,
            confidence: Tensor::f_cat(&spreads, 1)?,
        })
    }
}

/// All four embedders. Each can be called alone: the structure view changes only with every sixth five-minute bar.
#[derive(Debug, Clone)]
pub struct Fused {
    /// 48 × 8 → 64.
    pub structure: Structure,
    /// 60 × 7 → 48.
    pub tactical: Tactical,
    /// 20 × 8 → 16.
    pub regime: Regime,
    /// 5 → 8.
    pub lvn: Lvn,
}

impl Fused {
    /// Adds the parameters of all four under `prefix.structure`, `prefix.tactical`, `prefix.regime` and
    /// `prefix.lvn`, or without a prefix where it is empty.
    pub fn new(layout: &mut Layout, prefix: &str, widths: &Widths) -> Self {
        let name = |part: &str| if prefix.is_empty() { part.to_owned() } else { format!("{prefix}.{part}") };
        Self {
            structure: Structure::new(layout, &name("structure"), widths),
            tactical: Tactical::new(layout, &name("tactical"), widths),
            regime: Regime::new(layout, &name("regime"), widths),
            lvn: Lvn::new(layout, &name("lvn"), widths),
        }
    }

    /// Floating-point operations of a forward pass of one observation, counted as each embedder's `flops` counts.
    #[must_use]
    pub fn flops(widths: &Widths) -> u64 {
        Structure::flops(widths) + Tactical::flops(widths) + Regime::flops(widths) + Lvn::flops(widths)
    }

    /// Estimates the bytes of activations per observation.
    ///
    /// The estimate is linear in times × widths, as the shapes suggest. Its factors are fitted to both presets.
    #[must_use]
    pub fn activation_bytes(widths: &Widths) -> ActivationBytes {
        let structure = 3.0
            * STRUCTURE_TIMES as f64
            * (9.0 * widths.structure_model as f64 + 2.3 * widths.structure_feed_forward as f64);
        let wide = 2.0 * widths.tactical_lstm as f64;
        let tactical = TACTICAL_TIMES as f64 * (86.0 * wide + 280.0);
        let regime = REGIME_TIMES as f64 * 39.5 * widths.regime_lstm as f64;
        let feed_forward = 3 * widths.structure_feed_forward;
        let evaluated = (STRUCTURE_TIMES * feed_forward.max(7 * widths.structure_model))
            .max(TACTICAL_TIMES * 11 * 2 * widths.tactical_lstm);
        ActivationBytes {
            kept: ((structure + 1.06 * tactical + regime) * 4.0) as u64,
            evaluated: evaluated as u64 * 4,
        }
    }

    /// B windows of each view → B states.
    ///
    /// # Errors
    /// Where a view has another shape, or libtorch refuses the memory.
    pub fn forward(&self, weights: &Weights, views: &Views, mode: Mode) -> Result<State> {
        State::join(&[
            &self.structure.forward(weights, &views.structure, mode)?,
            &self.tactical.forward(weights, &views.tactical, mode)?,
            &self.regime.forward(weights, &views.regime, mode)?,
            &self.lvn.forward(weights, &views.lvn, mode)?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::tests::rng_lock;
    use crate::{Error, Preset};

    fn views(batch: i64) -> Views {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        Views {
            structure: random(&[batch, 48, 8]),
            tactical: random(&[batch, 60, 7]),
            regime: random(&[batch, 20, 8]),
            lvn: random(&[batch, 5]),
        }
    }

    fn network(preset: Preset, dropout: f64) -> (Fused, Weights) {
        let mut layout = Layout::new();
        let fused = Fused::new(&mut layout, "", &preset.widths().with_dropout(Some(dropout)));
        (fused, Weights::initial(&layout, 1, Device::Cpu).unwrap())
    }

    #[test]
    fn a_state_is_136_means_and_4_positive_spreads() {
        let _lock = rng_lock::seeded(1);
        for preset in [Preset::Full, Preset::Compact] {
            let (fused, weights) = network(preset, 0.2);
            let state = fused.forward(&weights, &views(3), Mode::Train).unwrap();
            assert_eq!(state.mean.size(), [3, 136]);
            assert_eq!(state.confidence.size(), [3, 4]);
            assert!(state.confidence.min().double_value(&[]) > 0.0);
            assert!(bool::try_from(state.mean.isfinite().all()).unwrap());
        }
    }

    #[test]
    fn a_window_of_another_shape_is_refused_by_name() {
        let _lock = rng_lock::seeded(3);
        let (fused, weights) = network(Preset::Compact, 0.0);
        let short = Views { tactical: Tensor::zeros([2, 59, 7], (Kind::Float, Device::Cpu)), ..views(2) };
        let error = fused.forward(&weights, &short, Mode::Evaluate).unwrap_err();
        assert!(matches!(error, Error::Shape { view: "tactical", .. }), "{error}");
    }

    #[test]
    fn a_batch_is_its_windows_one_by_one() {
        let _lock = rng_lock::seeded(2);
        let (fused, weights) = network(Preset::Compact, 0.0);
        let many = views(8);
        let all = fused.forward(&weights, &many, Mode::Evaluate).unwrap();
        for i in 0..8 {
            let one = Views {
                structure: many.structure.narrow(0, i, 1),
                tactical: many.tactical.narrow(0, i, 1),
                regime: many.regime.narrow(0, i, 1),
                lvn: many.lvn.narrow(0, i, 1),
            };
            let one = fused.forward(&weights, &one, Mode::Evaluate).unwrap();
            let difference = (one.mean - all.mean.narrow(0, i, 1)).abs().max().double_value(&[]);
            assert!(difference < 1e-5, "{difference}");
        }
    }

    #[test]
    fn training_without_gradients_gives_what_training_gives() {
        let _lock = rng_lock::seeded(4);
        let (fused, mut weights) = network(Preset::Compact, 0.0);
        let views = views(4);
        let _gradients = weights.record_gradients().unwrap();
        let recorded = fused.forward(&weights, &views, Mode::Train).unwrap().mean;
        let plain = tch::no_grad(|| fused.forward(&weights, &views, Mode::Train)).unwrap().mean;
        assert!((recorded - plain).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn dropout_acts_in_training_alone() {
        let _lock = rng_lock::seeded(5);
        let (fused, weights) = network(Preset::Compact, 0.2);
        let views = views(2);
        let mean = |mode| fused.forward(&weights, &views, mode).unwrap().mean;
        assert_eq!(mean(Mode::Evaluate), mean(Mode::Evaluate));
        assert_ne!(mean(Mode::Train), mean(Mode::Train));
    }

    #[test]
    fn compact_is_a_fiftieth_of_full() {
        let [full, compact] = [Preset::Full, Preset::Compact].map(|preset| {
            let widths = preset.widths();
            let mut layout = Layout::new();
            let _ = Fused::new(&mut layout, "", &widths);
            let of = |part: &str| -> i64 {
                let mine = layout.names().filter(|(name, _)| name.starts_with(part));
                mine.map(|(_, shape)| shape.iter().product::<i64>()).sum()
            };
            println!(
                "{preset:?}: {} parameters, {} FLOP per forward pass",
                layout.n_parameters(),
                Fused::flops(&widths)
            );
            println!("  structure {:>9} {:>11}", of("structure"), Structure::flops(&widths));
            println!("  tactical  {:>9} {:>11}", of("tactical"), Tactical::flops(&widths));
            println!("  regime    {:>9} {:>11}", of("regime"), Regime::flops(&widths));
            println!("  lvn       {:>9} {:>11}", of("lvn"), Lvn::flops(&widths));
            (layout.n_parameters(), Fused::flops(&widths))
        });
        assert!((3_100_000..3_300_000).contains(&full.0), "{} parameters", full.0);
        let ratio = full.1 as f64 / compact.1 as f64;
        assert!((40.0..=60.0).contains(&ratio), "{ratio}");
    }
}
