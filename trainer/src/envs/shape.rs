//! The shape of an environment, before one is made.

use crate::envs::Environment;
use crate::envs::cartpole::CartPole;
use crate::market::account::{ACCOUNT_WIDTH, N_ACTIONS};
use crate::run::config::EnvironmentKind;

/// The number of actions of an environment, and the number of values in its local row.
#[must_use]
pub fn shape(kind: EnvironmentKind) -> (usize, usize) {
    match kind {
        EnvironmentKind::Market => (N_ACTIONS, ACCOUNT_WIDTH),
        EnvironmentKind::Cartpole => {
            let environment = CartPole::new();
            (environment.n_actions(), environment.local_width())
        }
    }
}
