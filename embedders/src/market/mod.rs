//! The market's networks: one a view, and the state that they make together.
//!
//! Reading order: [`preset`] (the widths), [`structure`], [`tactical`], [`regime`], [`low_volume_node`], [`fused`].

pub mod config;
pub mod fused;
pub mod low_volume_node;
pub mod preset;
pub mod regime;
pub mod structure;
pub mod tactical;
