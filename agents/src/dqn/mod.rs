//! DQN: double (van Hasselt et al. 2016), dueling (Wang et al. 2016), n-step, with prioritized replay (Schaul et
//! al. 2016).
//!
//! ```text
//! y = r + γⁿ (1 − terminated) · Q'(s', argmax_a Q(s', a))          Q' the target network
//! loss = Σ w · huber(Q(s, a) − y) / Σ w                            w the importance weights
//! ```
//!
//! Reading order: [`config`], [`network`], [`loss`], [`actor`], [`learner`]. [`neighbours`] computes embeddings of
//! neighbouring positions together, for the target network and for evaluation.

pub mod actor;
pub mod config;
pub mod learner;
pub mod loss;
pub mod network;
pub mod settings;

pub use actor::{Actor, EpsilonSchedule, Exploration};
pub use config::{Body, DqnConfig, Precision, TargetUpdate};
pub use learner::{Learner, Outcome};
pub use network::Network;
