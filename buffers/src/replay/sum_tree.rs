//! Sums and minima over priorities, as binary trees in one array.
//!
//! Leaves are a power of two, sums are f64 and recomputed from both children at every update (never by adding
//! differences), so that a sum is exactly the sum of its children and no leaf of priority zero is ever drawn.

use serde::{Deserialize, Serialize};

/// Priorities with their sum and their minimum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SumTree {
    n_leaves: usize,
    /// Node 1 is the root, nodes `n_leaves..2 n_leaves` are the leaves.
    sums: Vec<f64>,
    /// Minima over the leaves that were ever set; unset leaves count as infinite.
    minima: Vec<f64>,
}

impl SumTree {
    /// A tree over `capacity` leaves, all unset.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let n_leaves = capacity.max(1).next_power_of_two();
        Self { n_leaves, sums: vec![0.0; 2 * n_leaves], minima: vec![f64::INFINITY; 2 * n_leaves] }
    }

    /// Sets the value of a leaf.
    ///
    /// # Panics
    /// Where `value` is not finite and positive, or `leaf` is out of range.
    pub fn set(&mut self, leaf: usize, value: f64) {
        assert!(value.is_finite() && value > 0.0, "a priority of {value}");
        let mut node = self.n_leaves + leaf;
        self.sums[node] = value;
        self.minima[node] = value;
        while node > 1 {
            node /= 2;
            self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1];
            self.minima[node] = self.minima[2 * node].min(self.minima[2 * node + 1]);
        }
    }

    /// The value of a leaf; 0 if it was never set.
    #[must_use]
    pub fn get(&self, leaf: usize) -> f64 {
        self.sums[self.n_leaves + leaf]
    }

    /// The sum of all leaves.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sums[1]
    }

    /// The least value of a leaf that was set; infinite if none was.
    #[must_use]
    pub fn minimum(&self) -> f64 {
        self.minima[1]
    }

    /// The leaf in which `mass`, of `[0, sum)`, falls when leaves are laid side by side. Where rounding puts
    /// `mass` past the end, the last leaf that was set.
    #[must_use]
    pub fn find(&self, mut mass: f64) -> usize {
        let mut node = 1;
        while node < self.n_leaves {
            let (left, right) = (2 * node, 2 * node + 1);
            if mass < self.sums[left] || self.sums[right] == 0.0 {
                node = left;
            } else {
                mass -= self.sums[left];
                node = right;
            }
        }
        node - self.n_leaves
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.sums.capacity() + self.minima.capacity()) as u64 * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    #[test]
    fn a_million_random_operations_agree_with_a_naive_model() {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        for capacity in [1usize, 2, 3, 37, 64, 200] {
            let mut tree = SumTree::new(capacity);
            let mut model = vec![0f64; capacity];
            for _ in 0..1_000_000 / 6 {
                let leaf = rng.random_range(0..capacity);
                // Multiples of 1/1024 add up exactly, so that the naive sum is the tree's to the bit.
                let value = f64::from(rng.random_range(1..1_000_000u32)) / 1024.0;
                tree.set(leaf, value);
                model[leaf] = value;
                let sum: f64 = model.iter().sum();
                assert_eq!(tree.sum(), sum);
                let mass = rng.random::<f64>() * sum;
                let mut left = mass;
                let naive = model.iter().position(|value| {
                    left -= value;
                    left < 0.0
                });
                assert_eq!(Some(tree.find(mass)), naive);
                let least = model.iter().copied().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
                assert_eq!(tree.minimum(), least);
            }
        }
    }

    #[test]
    fn an_unset_leaf_is_never_drawn() {
        let mut tree = SumTree::new(5);
        tree.set(1, 1e-12);
        tree.set(3, 1e12);
        for mass in [0.0, 1e-13, 0.5e12, tree.sum(), tree.sum() * 2.0] {
            assert!([1, 3].contains(&tree.find(mass)));
        }
    }
}
