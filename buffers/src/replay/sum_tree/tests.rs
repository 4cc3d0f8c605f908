use super::*;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// The same results by plain loops over the leaves.
#[derive(Clone)]
struct Naive(Vec<f64>);

impl Naive {
    fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    fn minimum(&self) -> f64 {
        self.0.iter().copied().filter(|leaf| *leaf > 0.0).fold(f64::INFINITY, f64::min)
    }

    fn find(&self, mass: f64) -> usize {
        let mut end = 0.0;
        let within = self.0.iter().position(|leaf| {
            end += leaf;
            mass < end
        });
        within.or_else(|| self.0.iter().rposition(|leaf| *leaf > 0.0)).unwrap_or(0)
    }
}

/// Multiples of 1/1024 add up exactly, so that the naive sum equals the tree's to the bit. A sixth are zero.
fn priority(rng: &mut Pcg64Mcg) -> f64 {
    if rng.random_range(0..6) == 0 { 0.0 } else { f64::from(rng.random_range(1..1_000_000u32)) / 1024.0 }
}

fn check_random_operations(capacity: usize, n_operations: usize, seed: u64) {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut tree = SumTree::new(capacity);
    let mut naive = Naive(vec![0.0; capacity]);
    let (mut leaves, mut n) = (Vec::new(), 0);
    while n < n_operations {
        let n_batch = rng.random_range(1..40);
        match rng.random_range(0..4) {
            0 => {
                let (leaf, value) = (rng.random_range(0..capacity), priority(&mut rng));
                tree.set(leaf, value);
                naive.0[leaf] = value;
                n += 1;
            }
            1 => {
                leaves = (0..n_batch).map(|_| rng.random_range(0..capacity)).collect();
                if rng.random() {
                    leaves.sort_unstable();
                }
                let values: Vec<f64> = (0..n_batch).map(|_| priority(&mut rng)).collect();
                tree.set_many(&leaves, &values);
                leaves.iter().zip(&values).for_each(|(leaf, value)| naive.0[*leaf] = *value);
                n += n_batch;
            }
            2 => {
                let mass = rng.random::<f64>() * 1.1 * naive.sum();
                assert_eq!(tree.find(mass), naive.find(mass));
                n += 1;
            }
            _ => {
                let mut masses: Vec<f64> =
                    (0..n_batch).map(|_| rng.random::<f64>() * 1.1 * naive.sum()).collect();
                let expected: Vec<usize> = masses.iter().map(|mass| naive.find(*mass)).collect();
                tree.find_many(&mut masses, &mut leaves);
                assert_eq!(leaves, expected);
                n += n_batch;
            }
        }
        assert_eq!((tree.sum(), tree.minimum()), (naive.sum(), naive.minimum()));
    }
    (0..capacity).for_each(|leaf| assert_eq!(tree.get(leaf), naive.0[leaf]));
    assert_eq!(tree.bytes(), SumTree::planned_bytes(capacity, capacity));
}

#[test]
fn a_million_random_operations_agree_with_a_naive_model() {
    for (seed, capacity) in (0..).zip([1usize, 2, 15, 16, 17, 37, 255, 256, 257, 1000]) {
        check_random_operations(capacity, 100_000, seed);
    }
}

proptest! {
    #[test]
    fn any_size_agrees_with_a_naive_model(capacity in 1usize..5000, seed: u64) {
        check_random_operations(capacity, 200, seed);
    }

    #[test]
    fn neither_order_nor_a_checkpoint_changes_a_bit(
        capacity in 1usize..600, seed: u64, n in 1usize..400,
    ) {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut tree = SumTree::new(capacity);
        for _ in 0..n {
            let value = rng.random::<f64>().powi(20) * 1e6;
            tree.set(rng.random_range(0..capacity), value);
        }
        let leaves: Vec<usize> = (0..capacity).rev().collect();
        let values: Vec<f64> = leaves.iter().map(|leaf| tree.get(*leaf)).collect();
        let mut backwards = SumTree::new(capacity);
        backwards.set_many(&leaves, &values);
        prop_assert_eq!(&backwards, &tree);
        let restored: SumTree = postcard::from_bytes(&postcard::to_stdvec(&tree).unwrap()).unwrap();
        prop_assert_eq!(&restored, &tree);
    }

    #[test]
    fn setting_many_at_once_equals_setting_one_by_one(
        capacity in 1usize..600, sizes in proptest::collection::vec(1usize..50, 1..30), sorts: bool, seed: u64,
    ) {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let (mut one, mut many) = (SumTree::new(capacity), SumTree::new(capacity));
        for n in sizes {
            let mut leaves: Vec<usize> = (0..n).map(|_| rng.random_range(0..capacity)).collect();
            if sorts {
                leaves.sort_unstable();
            }
            let values: Vec<f64> = (0..n).map(|_| 10f64.powf(rng.random_range(-60.0..60.0))).collect();
            leaves.iter().zip(&values).for_each(|(leaf, value)| one.set(*leaf, *value));
            many.set_many(&leaves, &values);
            prop_assert_eq!(&one, &many);
        }
    }

    #[test]
    fn a_priority_is_rounded_to_nearest_and_stays_above_zero_and_finite(
        value in proptest::num::f64::POSITIVE | proptest::num::f64::SUBNORMAL,
        power in -60f64..60.0,
    ) {
        let mut tree = SumTree::new(3);
        for value in [value.abs(), 10f64.powf(power)] {
            tree.set(1, value);
            let held = tree.get(1);
            prop_assert_eq!((tree.sum(), tree.minimum(), tree.find(0.0)), (held, held, 1));
            match value {
                tiny if tiny < f64::from(f32::MIN_POSITIVE) => prop_assert_eq!(held, f64::from(f32::MIN_POSITIVE)),
                huge if huge > f64::from(f32::MAX) => prop_assert_eq!(held, f64::from(f32::MAX)),
                value => prop_assert!((held - value).abs() <= value * 2f64.powi(-24), "{} of {}", held, value),
            }
        }
    }

    #[test]
    fn a_leaf_of_zero_is_never_drawn(
        powers in proptest::collection::vec(proptest::option::of(-300i32..300), 1..600), share in 0f64..1.0,
    ) {
        let mut tree = SumTree::new(powers.len());
        for (leaf, power) in powers.iter().enumerate() {
            tree.set(leaf, power.map_or(0.0, |power| 2f64.powi(power)));
        }
        let sum = tree.sum();
        prop_assume!(sum > 0.0);
        for mass in [0.0, f64::MIN_POSITIVE, share * sum, sum.next_down()] {
            prop_assert!(tree.get(tree.find(mass)) > 0.0, "{mass} of {sum}");
        }
        let last = powers.iter().rposition(Option::is_some).unwrap();
        for mass in [sum, sum.next_up(), 2.0 * sum, f64::INFINITY] {
            prop_assert_eq!(tree.find(mass), last);
            let mut leaves = Vec::new();
            tree.find_many(&mut [mass, 0.0], &mut leaves);
            prop_assert_eq!(&leaves, &[last, tree.find(0.0)]);
        }
    }
}

#[test]
fn a_tree_of_any_capacity_takes_the_bytes_of_the_leaves_that_were_set() {
    for (capacity, n) in [(1 << 20, 70_000), (1_000_000_000, 3), (1_000_000_000, 140_000), (200_000, 200_000)]
    {
        let mut tree = SumTree::new(capacity);
        let values: Vec<f64> = (0..n).map(|leaf| f64::from(leaf as u32 % 7 + 1)).collect();
        tree.set_many(&(0..n).collect::<Vec<_>>(), &values);
        assert_eq!(tree.bytes(), SumTree::planned_bytes(capacity, n), "{n} of {capacity}");
        assert!(tree.bytes() <= (n.next_multiple_of(GROWTH) * 5) as u64 + 8192, "{}", tree.bytes());
        assert_eq!((tree.sum(), tree.minimum()), (values.iter().sum(), 1.0));
        assert_eq!(
            (tree.get(n - 1), tree.get(capacity - 1)),
            (values[n - 1], if n == capacity { values[n - 1] } else { 0.0 })
        );
        assert_eq!(tree.find(tree.sum() - 0.5), n - 1);
        let restored: SumTree = postcard::from_bytes(&postcard::to_stdvec(&tree).unwrap()).unwrap();
        assert_eq!(restored, tree);
        assert_eq!((restored.sum(), restored.bytes()), (tree.sum(), tree.bytes()));
    }
}

#[test]
fn a_leaf_takes_less_than_five_bytes() {
    let bytes = [100_000usize, 1_000_000]
        .map(|capacity| SumTree::planned_bytes(capacity, capacity) as f64 / capacity as f64);
    assert!(bytes.iter().all(|bytes| *bytes < 5.0), "{bytes:?}");
}

#[test]
#[should_panic(expected = "leaf 5 of 5")]
fn a_leaf_past_the_capacity_is_refused() {
    SumTree::new(5).set(5, 1.0);
}

#[test]
#[should_panic(expected = "a priority of NaN")]
fn a_priority_that_is_no_number_is_refused() {
    SumTree::new(5).set_many(&[1, 2], &[1.0, f64::NAN]);
}

#[test]
fn saved_priorities_that_belong_to_no_tree_are_refused() {
    let saved = postcard::to_stdvec(&(2usize, vec![1.0f32; 3])).unwrap();
    assert!(postcard::from_bytes::<SumTree>(&saved).is_err());
    let saved = postcard::to_stdvec(&(2usize, vec![-1.0f32])).unwrap();
    assert!(postcard::from_bytes::<SumTree>(&saved).is_err());
}
