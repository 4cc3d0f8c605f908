//! Proportional priorities (Schaul et al. 2016).
//!
//! ```text
//! p_i = |td error| + 1e-6        P(i) = p_i^α / Σ p^α        w_i = (N P(i))^−β / max w
//! ```
//!
//! Priorities are unbounded. Draws are stratified: one from each of `n` equal shares of the sum. N and Σ p^α cancel, so
//! that a weight is `(p_i^α / min p^α)^−β`.

use rand::Rng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::replay::sum_tree::SumTree;

/// Added to the absolute TD error, so that every transition can be drawn.
const LEAST_PRIORITY: f64 = 1e-6;

/// `p^α` at each index, or 0 at an index that may not be drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Priorities {
    exponent: f64,
    tree: SumTree,
    largest: f64,
    /// `largest^α`, the power that a new transition gets.
    largest_power: f64,
}

impl Priorities {
    /// Priorities of `capacity` indices with exponent α, all of them 0.
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

    /// Allocates the first `n` indices, so that setting their priorities allocates nothing.
    ///
    /// # Errors
    /// [`memsys::Error::Refused`] if the system gives no memory.
    pub(super) fn reserve(&mut self, n: usize) -> Result<()> {
        self.tree.reserve(n)
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tree.bytes()
    }

    /// Gives an index the largest priority seen so far.
    pub fn set_largest(&mut self, index: usize) {
        self.tree.set(index, self.largest_power);
    }

    /// Gives many indices the largest priority seen so far. `powers` is scratch space.
    pub fn set_largest_many(&mut self, indices: &[usize], powers: &mut Vec<f64>) {
        powers.clear();
        powers.resize(indices.len(), self.largest_power);
        self.tree.set_many(indices, powers);
    }

    /// Sets the priority of an index to 0, so that it cannot be drawn.
    pub fn clear(&mut self, index: usize) {
        if self.tree.get(index) > 0.0 {
            self.tree.set(index, 0.0);
        }
    }

    /// Sets the priorities of indices from their TD errors. `powers` is scratch space.
    ///
    /// # Panics
    /// If a TD error is not finite. The learner must report its divergence first.
    pub fn set_by_errors(&mut self, indices: &[usize], td_errors: &[f32], powers: &mut Vec<f64>) {
        assert!(td_errors.iter().all(|td_error| td_error.is_finite()), "a TD error that is not finite");
        let priority = |td_error: f32| f64::from(td_error.abs()) + LEAST_PRIORITY;
        powers.clear();
        powers.extend(td_errors.iter().map(|td_error| power(priority(*td_error), self.exponent)));
        self.tree.set_many(indices, powers);
        let largest = td_errors.iter().fold(0f32, |largest, td_error| largest.max(td_error.abs()));
        if priority(largest) > self.largest {
            self.largest = priority(largest);
            self.largest_power = power(self.largest, self.exponent);
        }
    }

    /// Draws `n` indices, one from each of `n` equal shares of the sum, in ascending order. `masses` is scratch space.
    pub fn draw(&self, n: usize, rng: &mut Pcg64Mcg, masses: &mut Vec<f64>, indices: &mut Vec<usize>) {
        let share = self.tree.sum() / n as f64;
        masses.clear();
        masses.extend((0..n).map(|stratum| (stratum as f64 + rng.random::<f64>()) * share));
        self.tree.find_many(masses, indices);
    }

    /// Computes the importance weights of indices, in (0, 1].
    pub fn weights(&self, indices: &[usize], importance_sampling_exponent: f64, weights: &mut Vec<f32>) {
        let least = self.tree.minimum();
        weights.clear();
        weights.extend(indices.iter().map(|index| self.tree.get(*index) as f32));
        for weight in weights {
            *weight = power(f64::from(*weight) / least, -importance_sampling_exponent).min(1.0) as f32;
        }
    }
}

/// `t^exponent` for a normal number above zero. The relative error is at most 1e-9 for exponents up to 15, the result is
/// the same on every machine, and 1 gives 1. Results are limited to 2^±1000. The code has no branch and no call, so that
/// the compiler can vectorize a loop over it.
///
/// With `t = 2^k z` and z around 1, the logarithm is `k + 2 artanh((z − 1) / (z + 1)) / ln 2`, by its series. The whole
/// part of the power goes into the exponent of the result, the rest through the series of exp.
#[inline]
fn power(t: f64, exponent: f64) -> f64 {
    const ONE: u64 = 1f64.to_bits();
    const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    /// Adding it to a number below 2⁵¹ leaves the nearest whole number in the lowest bits.
    const ROUND: f64 = (3u64 << 51) as f64;
    /// Its bits, or-ed with a whole number below 2⁵², are 2⁵² plus that number.
    const WHOLE: f64 = (1u64 << 52) as f64;

    let shifted = t.to_bits().wrapping_add(ONE - SQRT_HALF);
    let k = f64::from_bits(shifted >> 52 | WHOLE.to_bits()) - (WHOLE + 1023.0);
    let z = f64::from_bits((shifted & ((1 << 52) - 1)).wrapping_add(SQRT_HALF));
    let s = (z - 1.0) / (z + 1.0);
    let square = s * s;
    let series = [1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 0.2, 1.0 / 3.0, 1.0];
    let artanh = s * series.iter().fold(0.0, |sum, factor| sum * square + factor);
    let log2 = k + artanh * (2.0 * std::f64::consts::LOG2_E);

    let all = log2 * exponent;
    let all = if all > 1000.0 { 1000.0 } else { all };
    let all = if all < -1000.0 { -1000.0 } else { all };
    let rounded = all + ROUND;
    let rest = (all - (rounded - ROUND)) * std::f64::consts::LN_2;
    let series =
        [1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let exp = series.iter().fold(0.0, |sum, factor| sum * rest + factor);
    f64::from_bits(exp.to_bits().wrapping_add(rounded.to_bits() << 52))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(t: f64, exponent: f64) {
        let (found, expected) = (power(t, exponent), t.powf(exponent));
        assert!((found / expected - 1.0).abs() <= 1e-9, "{t}^{exponent}: {found} and not {expected}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn a_power_is_exact_to_a_billionth(log2 in -250f64..250.0, near in 0.5f64..2.0, exponent in -3f64..3.0) {
            check(log2.exp2(), exponent);
            check(near, exponent);
            check(near, 5.0 * exponent);
        }
    }

    #[test]
    fn powers_are_exact_where_the_series_change() {
        let edges = [std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::SQRT_2, 1.0, 2.0, 1e-6, 3.5e38];
        for t in edges.into_iter().flat_map(|edge: f64| [edge.next_down(), edge, edge.next_up()]) {
            [0.0, 0.4, 0.5, 0.6, 1.0, -1.0, 2.0].into_iter().for_each(|exponent| check(t, exponent));
        }
        for exponent in [-1.0, -0.4, 0.0, 0.6, 1e6] {
            assert_eq!(power(1.0, exponent), 1.0);
        }
        assert_eq!([power(1e30, 99.0), power(1e30, -99.0)], [2f64.powi(1000), 2f64.powi(-1000)]);
    }

    #[test]
    fn weights_are_at_most_one_and_the_least_priority_has_one() {
        let mut priorities = Priorities::new(300, 0.6);
        let errors: Vec<f32> = (0..300).map(|i| 1.0 + i as f32 * 1e-7).collect();
        let indices: Vec<usize> = (0..300).collect();
        priorities.set_by_errors(&indices, &errors, &mut Vec::new());
        let mut weights = Vec::new();
        for exponent in [0.0, 0.4, 1.0] {
            priorities.weights(&indices, exponent, &mut weights);
            assert!(weights.iter().all(|weight| *weight > 0.99 && *weight <= 1.0));
            assert_eq!(weights[0], 1.0);
        }
    }

    #[test]
    #[should_panic(expected = "a TD error that is not finite")]
    fn a_td_error_that_is_no_number_is_refused() {
        Priorities::new(3, 0.6).set_by_errors(&[0, 1], &[1.0, f32::NAN], &mut Vec::new());
    }
}
