//! The memory of a run: the bytes of its networks, the bytes of the whole run, and the limit that is applied.
//!
//! [`limit::apply`] combines the three for every command that trains or plans. Reading order: [`options`], [`device`],
//! [`limit`], [`profile`], [`plan`].

pub mod device;
pub mod limit;
pub mod options;
pub mod plan;
pub mod profile;

pub use limit::{Applied, apply, hold, measure, plan_statically};
