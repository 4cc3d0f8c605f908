//! Feature rows: what the agent observes of the market, computed once per instrument in one pass.
//!
//! ```text
//! 5-minute bars  ──> tactical ×7, regime ×8, LVN ×5, ATR     one row per bar
//! 30-minute bars ──> structure ×8                            one row per bar, visible from its close on
//!                        └── structure_row: for each 5-minute bar the newest structure row it may see
//! ```
//!
//! A row depends on its bar and those before it, so that a shorter history gives the same bits. Each row is stored
//! once; an observation is a set of windows over the rows. Rows are computed in f64 and stored as f32.
//!
//! | view | first row in which all cells are defined | because of |
//! |---|---|---|
//! | structure | 99 | the profile of 100 bars |
//! | tactical | 65 | a gap aged 50 needs 12 bars to form, and mitigation looks back 4 more |
//! | regime | see [`regime`] | |
//! | LVN | 99 | the profile of 100 bars |
//!
//! This module does not normalise with numbers fitted to the data, fill the gaps of a session, or cut windows.

mod layout;
pub mod lvn;
pub mod regime;
pub mod structure;
pub mod tactical;

pub use lvn::LvnRows;
pub use regime::RegimeRows;
pub use structure::StructureRows;
pub use tactical::TacticalRows;

pub use layout::{
    LVN_NAMES, LVN_WIDTH, REGIME_NAMES, REGIME_ROWS, REGIME_STRIDE, REGIME_WIDTH, STRUCTURE_NAMES,
    STRUCTURE_ROWS, STRUCTURE_WIDTH, TACTICAL_NAMES, TACTICAL_ROWS, TACTICAL_WIDTH,
};

use crate::error::Result;
use crate::interrupt;
use crate::market::bar::Bar;
use crate::market::indicators::atr::{ATR_BARS, average_true_range};

/// One stream of feature rows.
#[derive(Debug, Clone, PartialEq)]
pub struct View<const W: usize> {
    /// One row per bar, oldest first; a cell whose window is not full is NaN.
    pub rows: Vec<[f32; W]>,
    /// From this row on every number of every row is finite; the number of rows if there is no such row.
    pub first_defined: usize,
    /// The time from which each row may be seen: its bar's close, UTC milliseconds.
    pub visible_at_millis: Vec<i64>,
}

impl<const W: usize> View<W> {
    /// A view of `rows`, one for each of `bars`.
    #[must_use]
    pub fn new(rows: Vec<[f32; W]>, bars: &[Bar]) -> Self {
        let first_defined = rows.iter().rposition(|row| !is_defined(row)).map_or(0, |last| last + 1);
        Self { rows, first_defined, visible_at_millis: bars.iter().map(|bar| bar.close_millis).collect() }
    }
}

fn is_defined(row: &[f32]) -> bool {
    row.iter().all(|cell| cell.is_finite())
}

/// All feature rows of one instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Market structure, on the 30-minute bars.
    pub structure: View<STRUCTURE_WIDTH>,
    /// Price action, on the 5-minute bars.
    pub tactical: View<TACTICAL_WIDTH>,
    /// The state of the market, on the 5-minute bars.
    pub regime: View<REGIME_WIDTH>,
    /// The nearest low-volume node, on the 5-minute bars.
    pub lvn: View<LVN_WIDTH>,
    /// Average true range of the 5-minute bars, in units of price; NaN until defined.
    pub atr: Vec<f64>,
    /// For each 5-minute bar the newest structure row visible at its close; `u32::MAX` if none is.
    pub structure_row: Vec<u32>,
}

impl Features {
    /// The first 5-minute bar at whose close every window of an observation is full of defined rows, and so at
    /// every later one: 48 of structure, 60 of tactical, 20 of regime at a stride of 6, one of LVN, and the ATR.
    /// None if there is no such bar.
    #[must_use]
    pub fn first_decision(&self) -> Option<usize> {
        let first_defined = FirstDefined {
            structure: self.structure.first_defined,
            tactical: self.tactical.first_defined,
            regime: self.regime.first_defined,
            lvn: self.lvn.first_defined,
        };
        first_decision(&self.structure_row, &self.atr, first_defined)
    }
}

/// The row of each view from which on every number is finite.
#[derive(Debug, Clone, Copy)]
struct FirstDefined {
    structure: usize,
    tactical: usize,
    regime: usize,
    lvn: usize,
}

fn first_decision(structure_row: &[u32], atr: &[f64], first_defined: FirstDefined) -> Option<usize> {
    let is_full = |first_defined: usize, newest: usize, n_rows: usize| newest + 1 >= first_defined + n_rows;
    let FirstDefined { structure, tactical, regime, lvn } = first_defined;
    (0..structure_row.len()).find(|t| {
        let row = structure_row[*t];
        row != u32::MAX
            && is_full(structure, row as usize, STRUCTURE_ROWS)
            && is_full(tactical, *t, TACTICAL_ROWS)
            && is_full(regime, *t, (REGIME_ROWS - 1) * REGIME_STRIDE + 1)
            && is_full(lvn, *t, 1)
            && atr[*t].is_finite()
    })
}

/// What belongs to the five-minute bars themselves, beside the rows of the views.
#[derive(Debug, Clone, PartialEq)]
pub struct BarFeatures {
    /// As [`Features::atr`].
    pub atr: Vec<f64>,
    /// As [`Features::structure_row`].
    pub structure_row: Vec<u32>,
    /// As [`Features::first_decision`].
    pub first_decision: Option<usize>,
}

/// Takes the rows of each view, in the order structure, tactical, regime, LVN, one row after another.
pub type RowSinks<'a> = [&'a mut dyn FnMut(&[f32]); 4];

/// As [`compute`], where each row is given away as soon as it is made, so that none is held.
///
/// # Errors
/// [`Error::Interrupted`](crate::error::Error::Interrupted) if the process was asked to stop.
pub fn give_rows(five: &[Bar], thirty: &[Bar], sinks: RowSinks<'_>) -> Result<BarFeatures> {
    let (mut structure, mut tactical) = (StructureRows::default(), TacticalRows::default());
    let (mut regime, mut lvn) = (RegimeRows::default(), LvnRows::default());
    let [to_structure, to_tactical, to_regime, to_lvn] = sinks;
    let first_defined = FirstDefined {
        structure: give(thirty, |bars| structure.push(bars), to_structure)?,
        tactical: give(five, |bars| tactical.push(bars), to_tactical)?,
        regime: give(five, |bars| regime.push(bars), to_regime)?,
        lvn: give(five, |bars| lvn.push(bars), to_lvn)?,
    };
    let structure_row = newest_visible(five, thirty);
    let atr = average_true_range(five, ATR_BARS);
    let first_decision = first_decision(&structure_row, &atr, first_defined);
    Ok(BarFeatures { atr, structure_row, first_decision })
}

/// Gives the row of each of `bars` to `sink`. Returns the first row from which on all are defined.
fn give<const W: usize>(
    bars: &[Bar],
    mut push: impl FnMut(&[Bar]) -> [f32; W],
    sink: &mut dyn FnMut(&[f32]),
) -> Result<usize> {
    let mut first_defined = 0;
    for end in 1..=bars.len() {
        interrupt::check()?;
        let row = push(&bars[..end]);
        if !is_defined(&row) {
            first_defined = end;
        }
        sink(&row);
    }
    Ok(first_defined)
}

/// Computes every feature row of an instrument from its 5-minute bars and the 30-minute bars made of them, both
/// oldest first.
///
/// Rows are made one after another, each from the bars up to its own alone: no row can look ahead.
#[must_use]
pub fn compute(five: &[Bar], thirty: &[Bar]) -> Features {
    let (mut structure, mut tactical) = (StructureRows::default(), TacticalRows::default());
    let (mut regime, mut lvn) = (RegimeRows::default(), LvnRows::default());
    Features {
        structure: View::new(rows_of(thirty, |bars| structure.push(bars)), thirty),
        tactical: View::new(rows_of(five, |bars| tactical.push(bars)), five),
        regime: View::new(rows_of(five, |bars| regime.push(bars)), five),
        lvn: View::new(rows_of(five, |bars| lvn.push(bars)), five),
        structure_row: newest_visible(five, thirty),
        atr: average_true_range(five, ATR_BARS),
    }
}

/// The row of each of `bars`, made from those up to and with it.
fn rows_of<const W: usize>(bars: &[Bar], mut push: impl FnMut(&[Bar]) -> [f32; W]) -> Vec<[f32; W]> {
    (1..=bars.len()).map(|end| push(&bars[..end])).collect()
}

/// For each of `five` the newest of `thirty` that has closed by its close; `u32::MAX` if none has.
fn newest_visible(five: &[Bar], thirty: &[Bar]) -> Vec<u32> {
    let mut n_visible = 0;
    five.iter()
        .map(|bar| {
            while thirty.get(n_visible).is_some_and(|wide| wide.close_millis <= bar.close_millis) {
                n_visible += 1;
            }
            n_visible.checked_sub(1).and_then(|newest| u32::try_from(newest).ok()).unwrap_or(u32::MAX)
        })
        .collect()
}

#[cfg(test)]
mod tests;
