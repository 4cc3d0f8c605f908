//! What a network needs to train inside a memory limit: flat parameters, their optimizer, the precision of matrix
//! products, and what becomes of activations and gradients.
//!
//! It defines no layers and no losses.
//!
//! Reading order: [`parameters`], [`adam`], [`precision`], [`activations`], [`gradient_offload`].

pub mod activations;
pub mod adam;
pub mod gradient_offload;
pub mod parameters;
pub mod precision;
