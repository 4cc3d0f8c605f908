//! Exploration around a greedy policy: ε-greedy with a falling ε, and random actions that are held.

use rand::Rng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

/// ε, the fraction of random actions: linear from `start` to `end` over the first `falls_over` environment steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpsilonSchedule {
    /// ε at step 0, in [0, 1].
    pub start: f64,
    /// ε from step `falls_over` on, in [0, 1].
    pub end: f64,
    /// Environment steps over which ε falls; 0 gives `end` from the start.
    pub falls_over: u64,
}

impl EpsilonSchedule {
    /// ε at an environment step.
    #[must_use]
    pub fn at(&self, environment_step: u64) -> f64 {
        if environment_step >= self.falls_over {
            return self.end;
        }
        self.start + (self.end - self.start) * environment_step as f64 / self.falls_over as f64
    }
}

/// How an actor explores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExplorationPlan {
    /// The share of random actions.
    pub epsilon: EpsilonSchedule,
    /// Steps for which a random action is held, on average.
    pub mean_hold: u32,
    /// Before this many environment steps every action is random.
    pub random_environment_steps: u64,
    /// Seed of exploration and of the environments' resets.
    pub seed: u64,
}

/// ε-greedy with random actions that are held for several steps (Dabney et al. 2021, εz-greedy).
///
/// Some actions pay only when they last. A random action that the next step takes back shows nothing of that. A hold ends
/// with its episode: what was begun in one says nothing about another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exploration {
    mean_hold: u32,
    /// For each environment its random action and the steps for which it is still held.
    held: Vec<(u8, u32)>,
}

impl Exploration {
    /// Exploration in which no environment holds a random action yet. `mean_hold` is the mean number of steps for
    /// which a random action is held, at least 1. 1 gives plain ε-greedy.
    #[must_use]
    pub fn new(n_environments: usize, mean_hold: u32) -> Self {
        Self { mean_hold, held: vec![(0, 0); n_environments] }
    }

    /// Drops the random action that an environment holds, because its episode ended.
    pub fn end_episode(&mut self, environment: usize) {
        self.held[environment].1 = 0;
    }

    /// Replaces actions by random ones of `0..n_actions`, one action per environment. Over time the fraction of
    /// random actions is `epsilon`.
    pub fn explore(&mut self, actions: &mut [u8], n_actions: usize, epsilon: f64, rng: &mut Pcg64Mcg) {
        // A hold lasts `mean_hold` steps on average, so holds begin less often than every 1/ε steps.
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
    fn epsilon_falls_linearly_and_stays() {
        let schedule = EpsilonSchedule { start: 1.0, end: 0.1, falls_over: 100 };
        assert_eq!((schedule.at(0), schedule.at(100), schedule.at(1000)), (1.0, 0.1, 0.1));
        assert!((schedule.at(50) - 0.55).abs() < 1e-12);
        assert_eq!(EpsilonSchedule { falls_over: 0, ..schedule }.at(0), 0.1);
    }

    #[test]
    fn a_random_action_is_not_held_over_the_end_of_an_episode() {
        use rand::SeedableRng;
        let mut rng = Pcg64Mcg::seed_from_u64(5);
        let mut exploration = Exploration::new(2, 1000);
        exploration.explore(&mut [9; 2], 3, 1.0, &mut rng);
        assert!(exploration.held.iter().all(|(_, left)| *left > 0), "both hold a random action");
        exploration.end_episode(1);
        let mut actions = [9u8; 2];
        exploration.explore(&mut actions, 3, 0.0, &mut rng);
        assert!(actions[0] < 9 && actions[1] == 9, "{actions:?}");
    }

    #[test]
    fn the_fraction_of_random_actions_is_epsilon_however_long_they_are_held() {
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
            let fraction = n_random as f64 / (16.0 * 20_000.0);
            assert!((fraction - 0.2).abs() < 0.01, "{mean_hold}: {fraction}");
        }
    }
}
