//! The actor: ε-greedy over the action values, for all environments at once.

use embedders::Mode;
use memsys::parameters::Weights;
use rand::Rng;
use rand_pcg::Pcg64Mcg;
use tch::Tensor;

use super::network::Network;
use crate::error::Result;

/// The share of random actions: a straight line from `start` to `end` over the first `falls_over` steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpsilonSchedule {
    /// Share at first.
    pub start: f64,
    /// Share at last.
    pub end: f64,
    /// Environment steps over which it falls.
    pub falls_over: u64,
}

impl EpsilonSchedule {
    /// The share at an environment step.
    #[must_use]
    pub fn at(&self, environment_step: u64) -> f64 {
        if environment_step >= self.falls_over {
            return self.end;
        }
        self.start + (self.end - self.start) * environment_step as f64 / self.falls_over as f64
    }
}

/// Chooses actions.
#[derive(Debug)]
pub struct Actor {
    network: Network,
    n_actions: usize,
}

impl Actor {
    /// An actor over `network`, whose actions are `0..n_actions`.
    #[must_use]
    pub fn new(network: Network, n_actions: usize) -> Self {
        Self { network, n_actions }
    }

    /// The greedy action of each observation (one B × length × width tensor a view).
    ///
    /// # Errors
    /// Where libtorch refuses a call.
    pub fn greedy(&self, weights: &Weights, observations: &[Tensor]) -> Result<Vec<u8>> {
        let _no_grad = tch::no_grad_guard();
        let best = self.network.values(weights, observations, Mode::Evaluate)?.f_argmax(1, false)?;
        Ok(Vec::<i64>::try_from(best)?.into_iter().map(|action| action as u8).collect())
    }

    /// Replaces each action by a random one with probability `epsilon`.
    pub fn explore(&self, actions: &mut [u8], epsilon: f64, rng: &mut Pcg64Mcg) {
        for action in actions {
            if rng.random::<f64>() < epsilon {
                *action = rng.random_range(0..self.n_actions) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilon_falls_in_a_straight_line_and_stays() {
        let schedule = EpsilonSchedule { start: 1.0, end: 0.1, falls_over: 100 };
        assert_eq!((schedule.at(0), schedule.at(100), schedule.at(1000)), (1.0, 0.1, 0.1));
        assert!((schedule.at(50) - 0.55).abs() < 1e-12);
        assert_eq!(EpsilonSchedule { falls_over: 0, ..schedule }.at(0), 0.1);
    }
}
