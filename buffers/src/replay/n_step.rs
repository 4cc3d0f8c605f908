//! The n-step accumulator turns the steps of an environment into transitions.
//!
//! ```text
//! reward = Σ_{k<n} γᵏ r_{t+k}        discount = γⁿ (1 − terminated)
//! ```
//!
//! At the end of an episode the remaining transitions have fewer steps. They bootstrap from the last observation if the
//! episode was truncated, and do not bootstrap if it terminated.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::frames::ObservationRef;
use crate::replay::Transition;

/// The most steps of a transition, and so the most transitions that one step of an environment gives: those that the end
/// of its episode cuts short.
pub const MOST_N_STEP: usize = 64;

/// Whether and how a step ended the episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The episode goes on.
    Goes,
    /// The environment's rules ended the episode; nothing follows.
    Terminated,
    /// The episode was cut off and could have gone on.
    Truncated,
}

/// Accumulates the steps of one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accumulator {
    n_step: usize,
    discount: f64,
    steps: VecDeque<(ObservationRef, u8, f64)>,
}

impl Accumulator {
    /// An accumulator of `n_step` steps, at most [`MOST_N_STEP`], with discount γ.
    ///
    /// # Panics
    /// If `n_step` is 0 or more than that.
    #[must_use]
    pub fn new(n_step: usize, discount: f64) -> Self {
        assert!((1..=MOST_N_STEP).contains(&n_step), "a transition of {n_step} steps");
        Self { n_step, discount, steps: VecDeque::with_capacity(n_step) }
    }

    /// Adds the step from `from` by `action` with `reward` to `to`, and calls `give` for each transition that is complete.
    ///
    /// # Errors
    /// The first error of `give`.
    pub fn push(
        &mut self,
        from: ObservationRef,
        action: u8,
        reward: f64,
        to: ObservationRef,
        ending: Ending,
        mut give: impl FnMut(Transition) -> Result<()>,
    ) -> Result<()> {
        self.steps.push_back((from, action, reward));
        if self.steps.len() == self.n_step {
            give(self.oldest(to, ending))?;
            self.steps.pop_front();
        }
        if ending != Ending::Goes {
            while !self.steps.is_empty() {
                give(self.oldest(to, ending))?;
                self.steps.pop_front();
            }
        }
        Ok(())
    }

    fn oldest(&self, to: ObservationRef, ending: Ending) -> Transition {
        let (from, action, _) = self.steps[0];
        let mut reward = 0.0;
        let mut discount = 1.0;
        for (_, _, step_reward) in &self.steps {
            reward += discount * step_reward;
            discount *= self.discount;
        }
        if ending == Ending::Terminated {
            discount = 0.0;
        }
        Transition {
            from,
            to_t: to.t,
            to_local: to.local,
            action,
            reward: reward as f32,
            discount: discount as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n_step: usize, rewards: &[f64], ending: Ending) -> Vec<Transition> {
        let mut accumulator = Accumulator::new(n_step, 0.9);
        let mut given = Vec::new();
        let observation_ref =
            |i: usize| ObservationRef { local: i as u32, t: 10 + i as u32, ..ObservationRef::default() };
        for (i, reward) in rewards.iter().enumerate() {
            let ending = if i + 1 == rewards.len() { ending } else { Ending::Goes };
            let (from, to) = (observation_ref(i), observation_ref(i + 1));
            let give = |transition| {
                given.push(transition);
                Ok(())
            };
            accumulator.push(from, i as u8, *reward, to, ending, give).unwrap();
        }
        given
    }

    /// A by-hand loop over the whole episode.
    fn by_hand(n_step: usize, rewards: &[f64], ending: Ending) -> Vec<(u32, u32, f32, f32)> {
        (0..rewards.len())
            .map(|start| {
                let end = (start + n_step).min(rewards.len());
                let reward: f64 = (start..end).map(|i| 0.9f64.powi((i - start) as i32) * rewards[i]).sum();
                let over = end == rewards.len() && ending == Ending::Terminated;
                let discount = if over { 0.0 } else { 0.9f64.powi((end - start) as i32) };
                (start as u32, end as u32, reward as f32, discount as f32)
            })
            .collect()
    }

    #[test]
    fn n_step_returns_equal_a_by_hand_loop() {
        let rewards = [1.0, -2.0, 3.0, 0.5, 4.0, -1.0, 2.5];
        for n_step in 1..=9 {
            for ending in [Ending::Terminated, Ending::Truncated] {
                let given = run(n_step, &rewards, ending);
                let hand = by_hand(n_step, &rewards, ending);
                assert_eq!(given.len(), hand.len());
                for (t, (from, to, reward, discount)) in given.iter().zip(hand) {
                    assert_eq!((t.from.local, t.to_local, t.to_t), (from, to, to + 10));
                    assert!((t.reward - reward).abs() < 1e-5 && (t.discount - discount).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn nothing_is_given_out_before_n_steps() {
        assert!(run(5, &[1.0, 1.0, 1.0], Ending::Goes).is_empty());
    }

    #[test]
    fn an_episode_leaves_nothing_to_the_next() {
        let observation_ref = |i: u32| ObservationRef { local: i, t: 10 + i, ..ObservationRef::default() };
        let mut accumulator = Accumulator::new(3, 0.9);
        let mut given = Vec::new();
        let mut local = 0;
        for (n_steps, ending) in [(5, Ending::Terminated), (1, Ending::Truncated), (4, Ending::Terminated)] {
            let begins = given.len();
            for i in 1..=n_steps {
                let ending = if i == n_steps { ending } else { Ending::Goes };
                let (from, to) = (observation_ref(local), observation_ref(local + 1));
                let give = |transition| {
                    given.push(transition);
                    Ok(())
                };
                accumulator.push(from, 0, f64::from(local), to, ending, give).unwrap();
                local += 1;
            }
            // The last observation of an episode has a row, and no step begins there.
            local += 1;
            let first = local - n_steps - 1;
            let rewards: Vec<f64> = (first..first + n_steps).map(f64::from).collect();
            let hand = by_hand(3, &rewards, ending);
            assert_eq!(given.len() - begins, hand.len());
            for (t, (from, to, reward, discount)) in given[begins..].iter().zip(hand) {
                assert_eq!((t.from.local, t.to_local), (first + from, first + to));
                assert!((t.reward - reward).abs() < 1e-5 && (t.discount - discount).abs() < 1e-6);
            }
        }
    }
}
