//! DQN: double (van Hasselt et al. 2016), dueling (Wang et al. 2016), n-step, with prioritized replay (Schaul et
//! al. 2016).
//!
//! ```text
//! y = r + γⁿ (1 − terminated) · Q'(s', argmax_a Q(s', a))          Q' the target network
//! loss = Σ w · huber(Q(s, a) − y) / Σ w                            w the importance-sampling weights
//! ```
//!
//! Reading order: [`config`], [`network`], [`loss`], [`actor`], [`learner`].

pub mod actor;
pub mod config;
pub mod learner;
pub mod loss;
pub mod network;
mod target;
#[cfg(test)]
mod tests;

pub use actor::Actor;
pub use config::{Body, DqnConfig, TargetUpdate};
pub use learner::Learner;
pub use network::Network;
