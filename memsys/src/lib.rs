//! Bytes: the line a run must stay under, the probes that read memory, flat parameters, and the border to
//! libtorch.
//!
//! Reading order: [`mod@line`], [`probe`], [`parameters`], [`adam`], [`libtorch`]. This crate knows no other crate
//! of the project. It states the line and reads what is resident; it does not yet refuse an allocation.

pub mod adam;
pub mod error;
pub mod libtorch;
pub mod line;
pub mod parameters;
pub mod probe;

pub use error::{Error, Result};
