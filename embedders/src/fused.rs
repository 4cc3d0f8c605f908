//! The state of the market: the four embeddings side by side.

use memsys::parameters::{Layout, Weights};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::lvn::{LVN_OUT, Lvn};
use crate::preset::Widths;
use crate::regime::{REGIME_OUT, Regime};
use crate::structure::{STRUCTURE_OUT, Structure};
use crate::tactical::{TACTICAL_OUT, Tactical};
use crate::{Embedding, Mode};

/// Numbers in the state.
pub const STATE_WIDTH: i64 = STRUCTURE_OUT + TACTICAL_OUT + REGIME_OUT + LVN_OUT;
/// Numbers in the confidence: one an embedder.
pub const CONFIDENCE_WIDTH: i64 = 4;

/// One observation's windows (or B of them).
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

/// What the embedders make of an observation.
#[derive(Debug)]
pub struct State {
    /// The means of structure, tactical, regime and LVN, B × 136.
    pub mean: Tensor,
    /// The mean σ of each in the same order, B × 4.
    pub confidence: Tensor,
}

impl State {
    /// Joins the four embeddings, which may have been made at different times.
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

/// All four embedders. Each can be called alone: a thirty-minute view changes with every sixth bar only.
#[derive(Debug, Clone)]
pub struct Fused {
    /// 64 numbers of 48 × 8.
    pub structure: Structure,
    /// 48 numbers of 60 × 7.
    pub tactical: Tactical,
    /// 16 numbers of 20 × 8.
    pub regime: Regime,
    /// 8 numbers of 5.
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
