//! From bars to what an agent observes and trades.
//!
//! ```text
//! import / synthetic ──> resample 5, 30 min ──> features ──> instrument (streams) ──> observations
//!                              └──────────────> price series ──────> environment, account ──> rewards
//! ```
//!
//! Reading order: [`bar`], [`import`], [`resample`], [`features`] with its [`indicators`] and [`statistics`],
//! [`lookahead_check`] (the proof that no row looks ahead), [`instruments`], [`split`], [`dataset`], [`account`],
//! [`backtest`].

pub mod account;
pub mod backtest;
pub mod bar;
pub mod config;
pub mod dataset;
pub mod features;
pub mod import;
pub mod indicators;
pub mod instrument_names;
pub mod instruments;
pub mod join;
pub mod lookahead_check;
pub mod parts_table;
pub mod price_jumps;
pub mod price_series;
#[cfg(test)]
mod real_bars;
pub mod resample;
pub mod seen_bars;
pub mod split;
pub mod statistics;
pub mod synthetic;
pub mod unseen;
