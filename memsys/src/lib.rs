//! Bytes: the ledger, the line, what happens to a step that the line has no room for, the system that watches over it,
//! flat parameters, and the border to libtorch.
//!
//! Reading order: [`mod@line`], [`ledger`], [`reservation`], [`budget`], [`probe`]; then the system: [`snapshot`],
//! [`alerts`], [`directive`], [`policy`], [`trend`], [`watch`], its parts ([`collector`], [`buffer`], [`ceiling`],
//! [`leaks`]), [`monitor`], [`recommend`], [`system`]; then [`parameters`], [`adam`],
//! [`activations`], [`gradients`], [`precision`], [`libtorch`]. This crate knows no other crate of the project.

pub mod activations;
pub mod adam;
pub mod alerts;
pub mod budget;
pub mod buffer;
pub mod ceiling;
pub mod collector;
pub mod directive;
pub mod error;
pub mod gradients;
pub mod leaks;
pub mod ledger;
pub mod libtorch;
pub mod line;
pub mod monitor;
pub mod parameters;
pub mod policy;
pub mod precision;
pub mod probe;
pub mod recommend;
pub mod reservation;
pub mod rungs;
pub mod snapshot;
pub mod steps;
pub mod system;
pub mod trend;
pub mod watch;

pub use error::{Error, Result};
