//! The indicators that the feature rows are made of: REFERENCE.md, section 2.
//!
//! Every one of them is causal: its value at a bar rests on that bar and the bars before it, so that computing it
//! over a shorter history gives the same bits. Series are as long as the bars they come from, NaN while their
//! window is not full. Window sums are recomputed for every bar and never kept by adding and subtracting: what a
//! bar that has left the window once contributed leaves no rounding behind.
//!
//! Constants are fields of small option structs, whose defaults are those of the reference. Nothing here knows of
//! views, widths or learning.

pub mod atr;
pub mod fair_value_gap;
pub mod low_volume_node;
pub mod mlmi;
pub mod nearest_points;
pub mod nwrqk;
pub mod recent;
pub mod rsi;
pub mod smoothing;
pub mod tolerance;
pub mod volume_profile;

#[cfg(test)]
#[path = "tests/random_walk.rs"]
pub(crate) mod random_walk;
