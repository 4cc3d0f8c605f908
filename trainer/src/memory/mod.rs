//! The memory of a run: what its networks cost, what the whole run will hold, and the limit that is applied.
//!
//! [`apply`] is the one composition of the three, for every command that trains, plans or evaluates. Reading order:
//! [`options`], [`limit`], [`profile`], [`plan`].

pub mod limit;
pub mod options;
pub mod plan;
pub mod profile;

pub use limit::{Applied, apply, hold, measure, plan_statically};
