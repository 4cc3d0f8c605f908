//! The memory limit of a run: what its networks cost, what the whole run will hold, and the limit that is applied.
//!
//! Reading order: [`limit`], [`profile`], [`plan`].

pub mod limit;
pub mod plan;
pub mod profile;
