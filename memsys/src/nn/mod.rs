//! Networks in flat buffers: parameters, their optimizer, the precision of products, and what becomes of activations.
//!
//! Reading order: [`parameters`], [`adam`], [`precision`], [`activations`], [`gradient_offload`].

pub mod activations;
pub mod adam;
pub mod gradient_offload;
pub mod parameters;
pub mod precision;
