//! The [`Environment`] trait: a reset, a step, and where the observation lies.
//!
//! An observation has two parts. The *shared* part is a set of windows over streams that exist once for all
//! environments; an environment only names the instrument ([`Environment::instrument`]) and the step on the
//! decision clock ([`Environment::t`]). The *local* part is a short row of numbers that no other environment shares
//! ([`Environment::write_local`]): a trading account, or the whole state of a plain environment.
//!
//! ```text
//!   instrument, t ──> windows over the frame streams ──┐
//!                                                      ├──> observation
//!   write_local ────> local_width numbers ─────────────┘
//! ```
//!
//! An environment has no random generator: the caller hands one to [`Environment::reset`] and saves it with the
//! run. An environment does not reset itself, so that the final observation of an episode can be read.

pub mod cartpole;
pub mod market;
pub mod observation;
pub mod shape;

use rand_pcg::Pcg64Mcg;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What one step gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The environment's reward. In the market: the change of log equity in basis points, after costs.
    pub reward: f64,
    /// A penalty, 0 or more, separate so that `reward` still sums to the profit.
    pub penalty: f64,
    /// The task ended here: nothing follows and nothing is bootstrapped.
    pub terminated: bool,
    /// The episode was cut here: the value of the final observation is bootstrapped, unless `terminated` holds too.
    pub truncated: bool,
}

impl Step {
    /// What the agent learns from: `reward − penalty`.
    #[must_use]
    pub fn learned_reward(&self) -> f64 {
        self.reward - self.penalty
    }

    /// True where the caller must read the final observation and then reset.
    #[must_use]
    pub fn ends_episode(&self) -> bool {
        self.terminated || self.truncated
    }
}

/// An environment with a fixed number of actions.
///
/// A new environment stands at a valid first observation; [`reset`](Self::reset) begins an episode. After a step that
/// [ends the episode](Step::ends_episode) the caller reads the final observation and then calls `reset`.
pub trait Environment {
    /// Everything that a later step depends on, besides what the environment was built from. It survives every
    /// serde format exactly: floating-point numbers are kept as bits.
    type State: Serialize + DeserializeOwned;

    /// Number of actions; an action is `0 .. n_actions`.
    fn n_actions(&self) -> usize;

    /// Length of the local row.
    fn local_width(&self) -> usize;

    /// Begins an episode. Every random number comes from `rng`.
    fn reset(&mut self, rng: &mut Pcg64Mcg);

    /// Takes one action.
    ///
    /// # Panics
    /// May panic if the episode has ended and `reset` was not called.
    fn step(&mut self, action: usize) -> Step;

    /// The instrument of the shared windows; 0 for a plain environment.
    fn instrument(&self) -> u16;

    /// The step on the decision clock, which is the index of the 5-minute bar just closed; 0 for a plain
    /// environment.
    fn t(&self) -> u32;

    /// Writes the local part of the observation.
    ///
    /// # Panics
    /// If `row` is not [`local_width`](Self::local_width) long.
    fn write_local(&self, row: &mut [f32]);

    /// The state, to be saved.
    fn state(&self) -> Self::State;

    /// Restores a saved state; every later step is then the same to the bit.
    ///
    /// # Panics
    /// If the state is of an environment built from other parts. The caller checks that the data are those that the
    /// state was saved with.
    fn restore(&mut self, state: Self::State);
}
