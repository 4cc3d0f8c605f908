//! The replay: a ring of transitions, their priorities, and the environments' own rows.
//!
//! Proportional prioritization (Schaul et al. 2016): `P(i) = p_i^α / Σ p^α`, weights
//! `w_i = (N P(i))^−β / max w`, `p = |td error| + 1e-6`, unbounded. With α = 0 it is uniform. Draws are
//! stratified: one from each of `batch` equal shares of the sum.

use std::sync::Arc;

use rand::Rng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Transition;
use super::sum_tree::SumTree;
use crate::error::{Error, Result};
use crate::frames::{Clock, FrameStream, Place, Scenes};

/// Added to a TD error, so that no transition is forgotten.
const LEAST_PRIORITY: f64 = 1e-6;

/// What a replay is made for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReplayOptions {
    /// Transitions kept; the oldest is overwritten.
    pub capacity_transitions: usize,
    /// α, from 0 (uniform) to 1 (proportional).
    pub priority_exponent: f64,
    /// Environments that write into it.
    pub n_environments: usize,
    /// Numbers in an environment's own row.
    pub own_width: usize,
}

/// Which transition a priority belongs to: its number since the beginning. A number that has been overwritten
/// is told from the newer one at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(u64);

/// A batch, ready for the learner. `B` transitions; observations are one `B × length × width` tensor a view.
#[derive(Debug)]
pub struct Batch {
    /// What was acted on, a tensor a view.
    pub observations: Vec<Tensor>,
    /// What is bootstrapped from, a tensor a view.
    pub next_observations: Vec<Tensor>,
    /// Where the observations lie.
    pub places: Vec<Place>,
    /// Where the next observations lie.
    pub next_places: Vec<Place>,
    /// Actions, i64, `B`.
    pub actions: Tensor,
    /// n-step rewards, f32, `B`.
    pub rewards: Tensor,
    /// γⁿ (1 − terminated), f32, `B`.
    pub discounts: Tensor,
    /// Importance weights, f32 in (0, 1], `B`.
    pub weights: Tensor,
    /// For [`Replay::update_priorities`].
    pub slots: Vec<Slot>,
}

/// Prioritized replay.
#[derive(Debug, Serialize, Deserialize)]
pub struct Replay {
    #[serde(skip)]
    scenes: Arc<Scenes>,
    capacity: usize,
    priority_exponent: f64,
    transitions: Vec<Transition>,
    n_inserted: u64,
    tree: SumTree,
    largest_priority: f64,
    own: Vec<FrameStream>,
}

impl Replay {
    /// An empty replay over `scenes`.
    #[must_use]
    pub fn new(options: &ReplayOptions, scenes: Arc<Scenes>) -> Self {
        Self {
            scenes,
            capacity: options.capacity_transitions,
            priority_exponent: options.priority_exponent,
            transitions: Vec::with_capacity(options.capacity_transitions),
            n_inserted: 0,
            tree: SumTree::new(options.capacity_transitions),
            largest_priority: 1.0,
            own: vec![FrameStream::new(options.own_width); options.n_environments],
        }
    }

    /// Gives a restored replay its scenes back, which are not saved with it.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the replay was saved by a run of another size.
    pub fn reattach(&mut self, options: &ReplayOptions, scenes: Arc<Scenes>) -> Result<()> {
        let differs = |what, found, wanted| {
            if found == wanted { Ok(()) } else { Err(Error::Mismatch { what, found, wanted }) }
        };
        differs("capacity", self.capacity, options.capacity_transitions)?;
        differs("environments", self.own.len(), options.n_environments)?;
        differs("own numbers", self.own.first().map_or(0, FrameStream::width), options.own_width)?;
        self.scenes = scenes;
        Ok(())
    }

    /// Transitions held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.transitions.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transitions.is_empty()
    }

    /// Transitions ever inserted.
    #[must_use]
    pub fn n_inserted(&self) -> u64 {
        self.n_inserted
    }

    /// Bytes held: transitions, tree and own rows; the scenes' streams are shared and not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let transitions = self.transitions.capacity() * size_of::<Transition>();
        transitions as u64 + self.tree.bytes() + self.own.iter().map(FrameStream::bytes).sum::<u64>()
    }

    /// Appends a row of an environment's own numbers and returns its position.
    pub fn append_own(&mut self, environment: u16, row: &[f32]) -> u32 {
        self.own[environment as usize].append(row) as u32
    }

    /// Inserts a transition with the largest priority seen so far, over the oldest where the ring is full.
    pub fn insert(&mut self, transition: Transition) {
        let index = (self.n_inserted % self.capacity as u64) as usize;
        if index < self.transitions.len() {
            let old = std::mem::replace(&mut self.transitions[index], transition);
            self.own[old.from.environment as usize].evict_before(old.from.own as usize);
        } else {
            self.transitions.push(transition);
        }
        self.tree.set(index, self.largest_priority.powf(self.priority_exponent));
        self.n_inserted += 1;
    }

    /// Draws `n` transitions by priority and gathers their observations.
    ///
    /// # Errors
    /// [`Error::Empty`], or where libtorch refuses the memory.
    pub fn sample(&self, n: usize, importance_sampling_exponent: f64, rng: &mut Pcg64Mcg) -> Result<Batch> {
        if self.is_empty() {
            return Err(Error::Empty);
        }
        let share = self.tree.sum() / n as f64;
        let indices: Vec<usize> =
            (0..n).map(|stratum| self.tree.find((stratum as f64 + rng.random::<f64>()) * share)).collect();
        let weight = |index: &usize| {
            let relative = self.tree.get(*index) / self.tree.minimum();
            relative.powf(-importance_sampling_exponent) as f32
        };
        let of = |index: &usize| &self.transitions[*index];
        let places: Vec<Place> = indices.iter().map(|i| of(i).from).collect();
        let next_places: Vec<Place> = indices.iter().map(|i| of(i).to()).collect();
        let column = |value: fn(&Transition) -> f32| {
            Tensor::f_from_slice(&indices.iter().map(|i| value(of(i))).collect::<Vec<f32>>())
        };
        let actions: Vec<i64> = indices.iter().map(|i| i64::from(of(i).action)).collect();
        Ok(Batch {
            observations: self.gather(&places)?,
            next_observations: self.gather(&next_places)?,
            actions: Tensor::f_from_slice(&actions)?,
            rewards: column(|t| t.reward)?,
            discounts: column(|t| t.discount)?,
            weights: Tensor::f_from_slice(&indices.iter().map(weight).collect::<Vec<f32>>())?,
            slots: indices.iter().map(|index| self.slot(*index)).collect(),
            places,
            next_places,
        })
    }

    /// Sets the priorities of sampled transitions by their TD errors. A slot that has been overwritten since is
    /// passed over.
    ///
    /// # Panics
    /// Where an error is not finite: the learner has diverged and must say so first.
    pub fn update_priorities(&mut self, slots: &[Slot], td_errors: &[f32]) {
        for (slot, td_error) in slots.iter().zip(td_errors) {
            if slot.0 + (self.capacity as u64) < self.n_inserted {
                continue;
            }
            let priority = f64::from(td_error.abs()) + LEAST_PRIORITY;
            self.largest_priority = self.largest_priority.max(priority);
            self.tree.set((slot.0 % self.capacity as u64) as usize, priority.powf(self.priority_exponent));
        }
    }

    fn slot(&self, index: usize) -> Slot {
        let capacity = self.capacity as u64;
        let newest = (self.n_inserted - 1) % capacity;
        let round = (self.n_inserted - 1) / capacity - u64::from(index as u64 > newest);
        Slot(round * capacity + index as u64)
    }

    fn gather(&self, places: &[Place]) -> Result<Vec<Tensor>> {
        let mut tensors = Vec::with_capacity(self.scenes.views().len());
        let mut numbers = Vec::new();
        for (index, view) in self.scenes.views().iter().enumerate() {
            numbers.clear();
            numbers.resize(places.len() * view.n_numbers(), 0f32);
            for (place, out) in places.iter().zip(numbers.chunks_exact_mut(view.n_numbers())) {
                match view.clock {
                    Clock::Own => self.own[place.environment as usize].copy_window(
                        place.own as usize,
                        view.length,
                        view.stride,
                        out,
                    ),
                    _ => self.scenes.copy_window(index, place.scene, place.base, out),
                }
            }
            let shape = [places.len() as i64, view.length as i64, view.width as i64];
            tensors.push(Tensor::f_from_slice(&numbers)?.f_view(shape)?);
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::View;
    use rand::SeedableRng;

    const OPTIONS: ReplayOptions =
        ReplayOptions { capacity_transitions: 50, priority_exponent: 0.6, n_environments: 1, own_width: 2 };

    fn replay(n: u32) -> Replay {
        let views = vec![View { name: "own", length: 1, width: 2, stride: 1, clock: Clock::Own }];
        let mut replay = Replay::new(&OPTIONS, Arc::new(Scenes::new(views, Vec::new())));
        replay.append_own(0, &[0.0, 0.5]);
        for i in 0..n {
            let to_own = replay.append_own(0, &[i as f32 + 1.0, 0.5]);
            let from = Place { own: i, ..Place::default() };
            replay.insert(Transition {
                from,
                to_base: 0,
                to_own,
                action: 1,
                reward: i as f32,
                discount: 0.9,
            });
        }
        replay
    }

    #[test]
    fn a_batch_holds_the_observations_of_its_transitions() {
        let replay = replay(5000);
        let batch = replay.sample(32, 0.4, &mut Pcg64Mcg::seed_from_u64(1)).unwrap();
        for i in 0..32 {
            let reward = batch.rewards.double_value(&[i]);
            assert!(reward >= 4950.0, "an overwritten transition was drawn");
            assert_eq!(batch.observations[0].double_value(&[i, 0, 0]), reward);
            assert_eq!(batch.next_observations[0].double_value(&[i, 0, 0]), reward + 1.0);
        }
        assert!(replay.own[0].bytes() <= 2 * 1024 * 8, "rows that nothing points to are given back");
    }

    #[test]
    fn draws_follow_the_priorities() {
        let mut replay = replay(50);
        let slots: Vec<Slot> = (0..50).map(|i| replay.slot(i)).collect();
        let errors: Vec<f32> = (0..50).map(|i| 0.1 + i as f32).collect();
        replay.update_priorities(&slots, &errors);
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        let mut counts = [0f64; 50];
        let n = 4000;
        for _ in 0..n {
            let batch = replay.sample(16, 1.0, &mut rng).unwrap();
            batch.places.iter().for_each(|place| counts[place.own as usize] += 1.0);
        }
        let powers: Vec<f64> = errors.iter().map(|e| (f64::from(*e) + 1e-6).powf(0.6)).collect();
        let sum: f64 = powers.iter().sum();
        let expected = |i: usize| powers[i] / sum * f64::from(n) * 16.0;
        let chi_square: f64 = (0..50).map(|i| (counts[i] - expected(i)).powi(2) / expected(i)).sum();
        // 49 degrees of freedom: 85.4 is passed by chance once in a thousand; stratified draws vary less.
        assert!(chi_square < 85.4, "{chi_square}");
    }

    #[test]
    fn importance_weights_follow_the_formula() {
        let mut replay = replay(50);
        let slots: Vec<Slot> = (0..50).map(|i| replay.slot(i)).collect();
        let errors: Vec<f32> = (0..50).map(|i| 0.5 + (i * i) as f32).collect();
        replay.update_priorities(&slots, &errors);
        let powers: Vec<f64> = errors.iter().map(|e| (f64::from(*e) + 1e-6).powf(0.6)).collect();
        let sum: f64 = powers.iter().sum();
        let raw: Vec<f64> = powers.iter().map(|p| (50.0 * p / sum).powf(-0.7)).collect();
        let largest = raw.iter().copied().fold(0.0, f64::max);
        let batch = replay.sample(64, 0.7, &mut Pcg64Mcg::seed_from_u64(3)).unwrap();
        for (i, place) in batch.places.iter().enumerate() {
            let weight = batch.weights.double_value(&[i as i64]);
            assert!((weight - raw[place.own as usize] / largest).abs() < 1e-6 && weight.is_finite());
        }
    }

    #[test]
    fn a_late_priority_never_lands_on_a_newer_transition() {
        let mut replay = replay(50);
        let slot = replay.slot(7);
        let to = Transition { from: Place { own: 50, ..Place::default() }, ..replay.transitions[0] };
        (0..20).for_each(|_| replay.insert(to));
        let before = replay.tree.get(7);
        replay.update_priorities(&[slot], &[1e6]);
        assert_eq!(replay.tree.get(7), before);
        replay.update_priorities(&[replay.slot(7)], &[1e6]);
        assert!(replay.tree.get(7) > before);
    }

    #[test]
    fn an_empty_replay_says_so() {
        assert!(matches!(replay(0).sample(1, 0.4, &mut Pcg64Mcg::seed_from_u64(1)), Err(Error::Empty)));
    }
}
