//! What holds for every agent: the update step, and the [`Agent`](crate::Agent) trait by two agents.

mod every_agent;
pub(crate) mod fixture;
mod random_agent;
pub(crate) mod rng_lock;
mod update_step;
