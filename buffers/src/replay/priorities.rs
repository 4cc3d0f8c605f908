//! Proportional priorities (Schaul et al. 2016).
//!
//! ```text
//! p_i = |td error| + 1e-6        P(i) = p_i^α / Σ p^α        w_i = (N P(i))^−β / max w
//! ```
//!
//! Priorities are unbounded. Draws are stratified: one from each of `n` equal shares of the sum. As N and Σ
//! p^α cancel, a weight is `(p_i^α / min p^α)^−β`.

use rand::Rng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::sum_tree::SumTree;

/// Added to a TD error, so that no transition is forgotten.
const LEAST_PRIORITY: f64 = 1e-6;

/// `p^α` of what lies at each index; 0 where nothing may be drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Priorities {
    exponent: f64,
    tree: SumTree,
    largest: f64,
    /// `largest^α`: what a new transition gets.
    largest_power: f64,
}

impl Priorities {
    /// Priorities of `capacity` indices with exponent α, all 0.
    #[must_use]
    pub fn new(capacity: usize, exponent: f64) -> Self {
        Self { exponent, tree: SumTree::new(capacity), largest: 1.0, largest_power: 1.0 }
    }

    /// `p^α` at an index.
    #[must_use]
    pub fn at(&self, index: usize) -> f64 {
        self.tree.get(index)
    }

    /// `p` at an index.
    #[must_use]
    pub fn priority(&self, index: usize) -> f64 {
        self.tree.get(index).powf(1.0 / self.exponent)
    }

    /// Σ p^α.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.tree.sum()
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tree.bytes()
    }

    /// Gives an index the largest priority seen so far.
    pub fn set_largest(&mut self, index: usize) {
        self.tree.set(index, self.largest_power);
    }

    /// Gives many indices the largest priority seen so far; `powers` is room to work in.
    pub fn set_largest_many(&mut self, indices: &[usize], powers: &mut Vec<f64>) {
        powers.clear();
        powers.resize(indices.len(), self.largest_power);
        self.tree.set_many(indices, powers);
    }

    /// Lets an index not be drawn.
    pub fn clear(&mut self, index: usize) {
        if self.tree.get(index) > 0.0 {
            self.tree.set(index, 0.0);
        }
    }

    /// Sets the priorities of indices by their TD errors; `powers` is room to work in.
    ///
    /// # Panics
    /// Where an error is not finite: the learner has diverged and must say so first.
    pub fn set_by_errors(&mut self, indices: &[usize], td_errors: &[f32], powers: &mut Vec<f64>) {
        powers.clear();
        for td_error in td_errors {
            let priority = f64::from(td_error.abs()) + LEAST_PRIORITY;
            let power = priority.powf(self.exponent);
            if priority > self.largest {
                (self.largest, self.largest_power) = (priority, power);
            }
            powers.push(power);
        }
        self.tree.set_many(indices, powers);
    }

    /// Draws `n` indices, one from each of `n` equal shares of the sum, in ascending order; `masses` is room
    /// to work in.
    pub fn draw(&self, n: usize, rng: &mut Pcg64Mcg, masses: &mut Vec<f64>, indices: &mut Vec<usize>) {
        let share = self.tree.sum() / n as f64;
        masses.clear();
        masses.extend((0..n).map(|stratum| (stratum as f64 + rng.random::<f64>()) * share));
        self.tree.find_many(masses, indices);
    }

    /// Importance weights of indices, in (0, 1].
    pub fn weights(&self, indices: &[usize], importance_sampling_exponent: f64, weights: &mut Vec<f32>) {
        let least = self.tree.minimum();
        let weight =
            |index: &usize| (self.tree.get(*index) / least).powf(-importance_sampling_exponent) as f32;
        weights.clear();
        weights.extend(indices.iter().map(weight));
    }
}
