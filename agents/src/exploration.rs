//! Exploration of agents with a greedy policy: ε-greedy with a falling ε and random actions that last.

use rand::Rng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

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

/// ε-greedy with random actions that are held (Dabney et al. 2021, εz-greedy): where an action must last to pay, a
/// random one that is taken back at the next step shows nothing of what it would have earned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exploration {
    /// Steps for which a random action is held, on average.
    mean_hold: u32,
    /// The random action of each environment and the steps that are left of it.
    held: Vec<(u8, u32)>,
}

impl Exploration {
    /// No environment holds a random action yet. `mean_hold` is 1 or more; 1 is plain ε-greedy.
    #[must_use]
    pub fn new(n_environments: usize, mean_hold: u32) -> Self {
        Self { mean_hold, held: vec![(0, 0); n_environments] }
    }

    /// Replaces a share `epsilon` of the actions by random ones of `0..n_actions`, on average over time.
    pub fn explore(&mut self, actions: &mut [u8], n_actions: usize, epsilon: f64, rng: &mut Pcg64Mcg) {
        // A hold lasts `mean_hold` steps, so it must begin more rarely than at every `1/ε`-th step.
        let begins = epsilon / (epsilon + f64::from(self.mean_hold) * (1.0 - epsilon));
        for (action, (held, left)) in actions.iter_mut().zip(&mut self.held) {
            if *left == 0 && rng.random::<f64>() < begins {
                *held = rng.random_range(0..n_actions) as u8;
                *left = rng.random_range(1..=2 * self.mean_hold - 1);
            }
            if *left > 0 {
                *action = *held;
                *left -= 1;
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

    #[test]
    fn the_share_of_random_actions_is_epsilon_however_long_they_are_held() {
        use rand::SeedableRng;
        for mean_hold in [1, 8, 24] {
            let mut rng = Pcg64Mcg::seed_from_u64(5);
            let mut exploration = Exploration::new(16, mean_hold);
            let mut n_random = 0usize;
            for _ in 0..20_000 {
                let mut actions = [9u8; 16];
                exploration.explore(&mut actions, 3, 0.2, &mut rng);
                n_random += actions.iter().filter(|action| **action < 9).count();
            }
            let share = n_random as f64 / (16.0 * 20_000.0);
            assert!((share - 0.2).abs() < 0.01, "{mean_hold}: {share}");
        }
    }
}
