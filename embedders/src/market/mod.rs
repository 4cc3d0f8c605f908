//! The market's networks: one embedder per view, and their joint state.
//!
//! Reading order: [`preset`] (the widths), `stages`, [`structure`], [`tactical`], [`regime`], [`low_volume_node`], [`fused`].

pub mod config;
pub mod fused;
pub mod low_volume_node;
pub mod preset;
pub mod regime;
mod stages;
pub mod structure;
pub mod tactical;
