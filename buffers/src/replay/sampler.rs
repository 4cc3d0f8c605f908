//! The sampler: the transitions and their priorities, without observations.
//!
//! With α = 0 all transitions are alike: the sampler keeps no priorities, draws stratified over the ring, and gives
//! weights of 1. Transitions that need damaged rows are excluded from draws of either kind until they are overwritten.

use rand::Rng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::frames::ObservationRef;
use crate::replay::Transition;
use crate::replay::intake::check_td_errors;
use crate::replay::priorities::Priorities;
use crate::replay::sum_tree::SumTree;
use crate::replay::transitions::{Slot, Transitions};

/// Transitions and their priorities.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sampler {
    transitions: Transitions,
    priorities: Option<Priorities>,
    /// Indices that uniform draws leave out, ascending. With priorities theirs is 0.
    excluded: Vec<usize>,
    #[serde(skip)]
    scratch: Scratch,
}

/// Scratch space, kept from call to call.
#[derive(Debug, Default)]
struct Scratch {
    indices: Vec<usize>,
    td_errors: Vec<f32>,
    powers: Vec<f64>,
}

/// The drawn transitions, one column of length `n` per quantity, in the ring's order. Draw into the same value again to
/// reuse its memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drawn {
    /// For [`Sampler::update_priorities`].
    pub slots: Vec<Slot>,
    /// References to the observations.
    pub observation_refs: Vec<ObservationRef>,
    /// References to the observations to bootstrap from.
    pub next_observation_refs: Vec<ObservationRef>,
    /// Actions.
    pub actions: Vec<i64>,
    /// n-step rewards.
    pub rewards: Vec<f32>,
    /// γⁿ (1 − terminated).
    pub discounts: Vec<f32>,
    /// Importance weights, in (0, 1].
    pub weights: Vec<f32>,
    /// The transitions' indices in the ring.
    pub(super) indices: Vec<usize>,
    pub(super) masses: Vec<f64>,
    /// Number of transitions inserted before the draw.
    pub(super) n_inserted: u64,
    /// Whether to ask the system to read ahead from files.
    pub(super) reads_ahead: bool,
}

impl Sampler {
    /// An empty sampler over `capacity` transitions with exponent α.
    #[must_use]
    pub fn new(capacity: usize, priority_exponent: f64) -> Self {
        Self::over(Transitions::new(capacity), priority_exponent)
    }

    /// A sampler over transitions that are still empty.
    pub(super) fn over(transitions: Transitions, priority_exponent: f64) -> Self {
        let priorities =
            (priority_exponent != 0.0).then(|| Priorities::new(transitions.capacity(), priority_exponent));
        Self { transitions, priorities, excluded: Vec::new(), scratch: Scratch::default() }
    }

    /// The transitions.
    #[must_use]
    pub fn transitions(&self) -> &Transitions {
        &self.transitions
    }

    /// The transitions, for moving them between tiers.
    pub(super) fn transitions_mut(&mut self) -> &mut Transitions {
        &mut self.transitions
    }

    /// Bytes of the priorities, and of the transitions unless they lie in a stream.
    pub(super) fn fixed_bytes(&self) -> u64 {
        let ring = if self.transitions.stream().is_some() { 0 } else { self.transitions.bytes() };
        ring + self.priorities_bytes()
    }

    /// [`Self::fixed_bytes`] once there is room for `n` more transitions.
    pub(super) fn fixed_bytes_with_room(&self, n: usize) -> u64 {
        let transitions = &self.transitions;
        let ring = if transitions.stream().is_some() { 0 } else { transitions.bytes_with_room(n) };
        let n_leaves = transitions.len().saturating_add(n);
        let tree = |_: &Priorities| SumTree::planned_bytes(transitions.capacity(), n_leaves);
        ring + self.priorities.as_ref().map_or(0, tree).max(self.priorities_bytes())
    }

    /// Bytes of the priorities.
    pub(super) fn priorities_bytes(&self) -> u64 {
        self.priorities.as_ref().map_or(0, Priorities::bytes)
    }

    /// The priorities, or `None` if draws are uniform.
    #[must_use]
    pub fn priorities(&self) -> Option<&Priorities> {
        self.priorities.as_ref()
    }

    /// Bytes of the transitions and priorities.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.transitions.bytes() + self.priorities_bytes()
    }

    /// Makes room for `n` more transitions and their priorities, so that inserting them allocates nothing.
    ///
    /// # Errors
    /// [`memsys::Error::Refused`] if the system gives no memory.
    pub fn reserve(&mut self, n: usize) -> Result<()> {
        reserve(&mut self.transitions, self.priorities.as_mut(), n)
    }

    /// Inserts a transition with the largest priority seen so far. Returns its index and the transition that it overwrote.
    pub fn insert(&mut self, transition: Transition) -> (usize, Option<Transition>) {
        let (index, old) = self.transitions.push(transition);
        admit(&mut self.excluded, index);
        if let Some(priorities) = &mut self.priorities {
            priorities.set_largest(index);
        }
        (index, old)
    }

    /// Inserts many transitions at once, which is faster than [`Self::insert`] and has the same result. Calls `overwritten`
    /// for each transition that is overwritten.
    ///
    /// # Errors
    /// As [`Self::reserve`]. Those before the refused one are inserted.
    pub fn insert_many(
        &mut self,
        transitions: impl IntoIterator<Item = Transition>,
        mut overwritten: impl FnMut(&Transition),
    ) -> Result<()> {
        let Scratch { indices, powers, .. } = &mut self.scratch;
        indices.clear();
        let mut reserved = Ok(());
        for transition in transitions {
            reserved = reserve(&mut self.transitions, self.priorities.as_mut(), 1);
            if reserved.is_err() {
                break;
            }
            let (index, old) = self.transitions.push(transition);
            indices.push(index);
            admit(&mut self.excluded, index);
            if let Some(old) = &old {
                overwritten(old);
            }
        }
        if let Some(priorities) = &mut self.priorities {
            priorities.set_largest_many(indices, powers);
        }
        reserved
    }

    /// Draws `n` transitions by priority, one from each of `n` equal shares of the sum.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::NoneReadable`], or if a file that holds transitions cannot be read.
    pub fn draw(
        &self,
        n: usize,
        importance_sampling_exponent: f64,
        rng: &mut Pcg64Mcg,
        drawn: &mut Drawn,
    ) -> Result<()> {
        if self.transitions.is_empty() {
            return Err(Error::Empty);
        }
        let Drawn {
            slots,
            observation_refs,
            next_observation_refs,
            actions,
            rewards,
            discounts,
            weights,
            masses,
            indices,
            n_inserted,
            reads_ahead,
        } = drawn;
        *n_inserted = self.transitions.n_inserted();
        if let Some(priorities) = &self.priorities {
            if priorities.sum() == 0.0 {
                return Err(Error::NoneReadable);
            }
            priorities.draw(n, rng, masses, indices);
            priorities.weights(indices, importance_sampling_exponent, weights);
        } else {
            let n_drawable = self.transitions.len() - self.excluded.len();
            if n_drawable == 0 {
                return Err(Error::NoneReadable);
            }
            draw_uniform(n, n_drawable, rng, indices);
            if !self.excluded.is_empty() {
                indices.iter_mut().for_each(|index| *index = nth_drawable(&self.excluded, *index));
            }
            weights.clear();
            weights.resize(n, 1.0);
        }
        slots.clear();
        observation_refs.clear();
        next_observation_refs.clear();
        actions.clear();
        rewards.clear();
        discounts.clear();
        if *reads_ahead {
            self.transitions.will_need(indices);
        }
        self.transitions.read(indices, |slot, transition| {
            slots.push(slot);
            observation_refs.push(transition.from);
            next_observation_refs.push(transition.to());
            actions.push(i64::from(transition.action));
            rewards.push(transition.reward);
            discounts.push(transition.discount);
        })
    }

    /// Excludes the transitions at `indices` from draws until they are overwritten, and returns how many could be drawn
    /// before.
    pub(super) fn exclude(&mut self, indices: &[usize]) -> usize {
        let Some(priorities) = &mut self.priorities else {
            let n_before = self.excluded.len();
            self.excluded.extend_from_slice(indices);
            self.excluded.sort_unstable();
            self.excluded.dedup();
            return self.excluded.len() - n_before;
        };
        let drawable = indices.iter().filter(|index| priorities.at(**index) > 0.0).count();
        indices.iter().for_each(|index| priorities.clear(*index));
        drawable
    }

    /// Sets the priorities of drawn transitions from their TD errors. Ignores slots that were overwritten since.
    ///
    /// # Errors
    /// [`Error::WrongTdErrors`] if one is not finite, or they are not as many as the slots. Nothing has changed then.
    pub fn update_priorities(&mut self, slots: &[Slot], td_errors: &[f32]) -> Result<()> {
        check_td_errors(slots.len(), td_errors)?;
        let Some(priorities) = &mut self.priorities else { return Ok(()) };
        let Scratch { indices, td_errors: live, powers } = &mut self.scratch;
        indices.clear();
        live.clear();
        for (slot, td_error) in slots.iter().zip(td_errors) {
            if let Some(index) = self.transitions.index(*slot) {
                indices.push(index);
                live.push(*td_error);
            }
        }
        priorities.set_by_errors(indices, live, powers);
        Ok(())
    }
}

/// One index from each of `n` equal shares of `0..len`.
fn draw_uniform(n: usize, len: usize, rng: &mut Pcg64Mcg, indices: &mut Vec<usize>) {
    let share = len as f64 / n as f64;
    indices.clear();
    indices.extend(
        (0..n).map(|stratum| (((stratum as f64 + rng.random::<f64>()) * share) as usize).min(len - 1)),
    );
}

fn reserve(transitions: &mut Transitions, priorities: Option<&mut Priorities>, n: usize) -> Result<()> {
    transitions.reserve(n)?;
    let n_leaves = transitions.capacity().min(transitions.len().saturating_add(n));
    priorities.map_or(Ok(()), |priorities| priorities.reserve(n_leaves))
}

/// Lets an index be drawn again, because a new transition lies there.
fn admit(excluded: &mut Vec<usize>, index: usize) {
    if !excluded.is_empty()
        && let Ok(at) = excluded.binary_search(&index)
    {
        excluded.remove(at);
    }
}

/// The index with `n` indices before it that are not among the ascending `excluded`, and not among them itself.
fn nth_drawable(excluded: &[usize], n: usize) -> usize {
    let (mut first, mut last) = (0, excluded.len());
    while first < last {
        let middle = first.midpoint(last);
        if excluded[middle] - middle <= n { first = middle + 1 } else { last = middle }
    }
    n + first
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn transition(local: u32) -> Transition {
        let from = ObservationRef { local, t: 3 * local, instrument: 2, environment: 1 };
        Transition {
            from,
            to_t: 3 * local + 1,
            to_local: local + 1,
            action: (local % 7) as u8,
            reward: local as f32,
            discount: 0.9,
        }
    }

    fn sampler(capacity: usize, n: u32, exponent: f64) -> Sampler {
        let mut sampler = Sampler::new(capacity, exponent);
        (0..n).for_each(|local| {
            sampler.insert(transition(local));
        });
        sampler
    }

    fn slots(sampler: &Sampler) -> Vec<Slot> {
        (0..sampler.transitions.len()).map(|index| sampler.transitions.slot(index)).collect()
    }

    fn powers(errors: &[f32], exponent: f64) -> Vec<f64> {
        errors.iter().map(|error| (f64::from(*error) + 1e-6).powf(exponent)).collect()
    }

    /// A chi-square test of the counts. With 99 degrees of freedom chance passes 149 once in a thousand runs; stratified
    /// draws vary less.
    /// Transition `i` lies at index `i` modulo 100, and indices before `n_newer` hold those of the second lap.
    fn check_frequencies(sampler: &Sampler, shares: &[f64], n_newer: u32) {
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        let mut drawn = Drawn::default();
        let mut counts = vec![0f64; shares.len()];
        for _ in 0..8000 {
            sampler.draw(16, 1.0, &mut rng, &mut drawn).unwrap();
            for of in &drawn.observation_refs {
                assert!(of.local % 100 >= n_newer || of.local >= 100, "an overwritten transition was drawn");
                counts[of.local as usize % 100] += 1.0;
            }
        }
        let sum: f64 = shares.iter().sum();
        let expected = shares.iter().map(|share| share / sum * 8000.0 * 16.0);
        let distance = |(n, e): (&f64, f64)| if e == 0.0 { n * f64::INFINITY } else { (n - e).powi(2) / e };
        let distances = counts.iter().zip(expected).filter(|(n, e)| **n + e > 0.0).map(distance);
        let chi_square: f64 = distances.sum();
        assert!(chi_square < 149.0, "{chi_square}");
    }

    #[test]
    fn draws_follow_the_priorities() {
        let mut sampler = sampler(100, 100, 0.6);
        let errors: Vec<f32> = (0..100).map(|i| 0.1 + (i * i % 37) as f32).collect();
        sampler.update_priorities(&slots(&sampler), &errors).unwrap();
        check_frequencies(&sampler, &powers(&errors, 0.6), 0);
    }

    #[test]
    fn without_an_exponent_draws_are_uniform_and_no_priority_is_kept() {
        let mut sampler = sampler(1000, 100, 0.0);
        sampler.update_priorities(&slots(&sampler), &[1e6; 100]).unwrap();
        assert!(sampler.priorities().is_none());
        check_frequencies(&sampler, &[1.0; 100], 0);
        let mut drawn = Drawn::default();
        sampler.draw(300, 0.4, &mut Pcg64Mcg::seed_from_u64(1), &mut drawn).unwrap();
        assert_eq!(drawn.weights, [1.0; 300]);
    }

    #[test]
    fn excluded_transitions_are_drawn_by_no_kind_of_draw_until_they_are_overwritten() {
        for exponent in [0.0, 0.6] {
            let mut sampler = sampler(100, 100, exponent);
            let excluded: Vec<usize> = (0..100).filter(|index| index % 3 == 0 || *index > 80).collect();
            assert_eq!(sampler.exclude(&excluded), excluded.len());
            assert_eq!(sampler.exclude(&excluded[5..]), 0, "they are excluded already");
            let saved = postcard::to_stdvec(&sampler).unwrap();
            let mut restored: Sampler = postcard::from_bytes(&saved).unwrap();
            let shares = |from: usize| -> Vec<f64> {
                (0..100).map(|i| f64::from(u8::from(i < from || !excluded.contains(&i)))).collect()
            };
            for sampler in [&sampler, &restored] {
                check_frequencies(sampler, &shares(0), 0);
            }
            (100..150).for_each(|local| {
                restored.insert(transition(local));
            });
            check_frequencies(&restored, &shares(50), 50);
            restored.exclude(&(0..100).collect::<Vec<_>>());
            let outcome = restored.draw(4, 1.0, &mut Pcg64Mcg::seed_from_u64(1), &mut Drawn::default());
            assert!(matches!(outcome, Err(Error::NoneReadable)), "{outcome:?}");
        }
    }

    #[test]
    fn importance_weights_follow_the_formula() {
        let mut sampler = sampler(50, 50, 0.6);
        let errors: Vec<f32> = (0..50).map(|i| 0.5 + (i * i) as f32).collect();
        sampler.update_priorities(&slots(&sampler), &errors).unwrap();
        let powers = powers(&errors, 0.6);
        let sum: f64 = powers.iter().sum();
        let mut drawn = Drawn::default();
        for exponent in [0.0, 0.4, 0.7, 1.0] {
            let raw: Vec<f64> = powers.iter().map(|p| (50.0 * p / sum).powf(-exponent)).collect();
            let largest = raw.iter().copied().fold(0.0, f64::max);
            sampler.draw(64, exponent, &mut Pcg64Mcg::seed_from_u64(3), &mut drawn).unwrap();
            for (observation_ref, weight) in drawn.observation_refs.iter().zip(&drawn.weights) {
                assert!((f64::from(*weight) - raw[observation_ref.local as usize] / largest).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn drawn_columns_are_those_of_the_transitions() {
        let sampler = sampler(64, 200, 0.6);
        let mut drawn = Drawn::default();
        let mut rng = Pcg64Mcg::seed_from_u64(4);
        for n in [64, 3, 100] {
            sampler.draw(n, 0.4, &mut rng, &mut drawn).unwrap();
            assert_eq!((drawn.slots.len(), drawn.weights.len()), (n, n));
            for i in 0..n {
                let t = sampler.transitions.at(sampler.transitions.index(drawn.slots[i]).unwrap());
                assert!(t.from.local >= 136, "an overwritten transition was drawn");
                assert_eq!(t, transition(t.from.local));
                assert_eq!((drawn.observation_refs[i], drawn.next_observation_refs[i]), (t.from, t.to()));
                assert_eq!((drawn.actions[i], drawn.rewards[i]), (i64::from(t.action), t.reward));
                assert_eq!(drawn.discounts[i], t.discount);
            }
        }
    }

    #[test]
    fn a_late_priority_never_lands_on_a_newer_transition() {
        let mut sampler = sampler(50, 70, 0.6);
        let slots = slots(&sampler);
        (70..90).for_each(|local| {
            sampler.insert(transition(local));
        });
        let before: Vec<f64> = (0..50).map(|index| sampler.priorities().unwrap().at(index)).collect();
        sampler.update_priorities(&slots, &[1e6; 50]).unwrap();
        for index in 0..50 {
            let newer = sampler.transitions.slot(index) != slots[index];
            assert_eq!(newer, sampler.transitions.at(index).from.local >= 70);
            assert_eq!(sampler.priorities().unwrap().at(index) == before[index], newer);
        }
    }

    #[test]
    fn a_new_transition_gets_the_largest_priority_seen_so_far() {
        let mut sampler = sampler(50, 20, 0.6);
        let slots = slots(&sampler);
        sampler.update_priorities(&slots[..2], &[7.0, 0.1]).unwrap();
        sampler.update_priorities(&slots[..2], &[0.2, 0.1]).unwrap();
        sampler.insert(transition(20));
        let (given, largest) = (sampler.priorities().unwrap().at(20), (7.0 + 1e-6f64).powf(0.6));
        assert!((given / largest - 1.0).abs() < 1e-7, "{given} and not {largest}");
    }

    #[test]
    fn inserting_many_at_once_equals_inserting_one_by_one() {
        let (mut one, mut many) = (sampler(77, 0, 0.6), sampler(77, 0, 0.6));
        let mut gone = [Vec::new(), Vec::new()];
        for block in 0..20u32 {
            let new: Vec<Transition> = (block * 100..block * 100 + block * 10).map(transition).collect();
            gone[0].extend(new.iter().filter_map(|transition| one.insert(*transition).1));
            many.insert_many(new, |old| gone[1].push(*old)).unwrap();
            for sampler in [&mut one, &mut many] {
                let mut first = slots(sampler);
                first.truncate(3);
                let td_errors = &[2.0, block as f32, 0.5][..first.len()];
                sampler.update_priorities(&first, td_errors).unwrap();
            }
            assert_eq!((&one.transitions, &one.priorities), (&many.transitions, &many.priorities));
        }
        assert_eq!(gone[0], gone[1]);
    }

    #[test]
    fn a_restored_sampler_goes_on_as_the_saved_one() {
        for exponent in [0.0, 0.6] {
            let mut one = sampler(77, 200, exponent);
            one.update_priorities(&slots(&one), &(0..77).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
            let mut two: Sampler = postcard::from_bytes(&postcard::to_stdvec(&one).unwrap()).unwrap();
            let (mut drawn, mut again) = (Drawn::default(), Drawn::default());
            let mut rngs = [Pcg64Mcg::seed_from_u64(6), Pcg64Mcg::seed_from_u64(6)];
            for local in 200..400 {
                one.draw(8, 0.5, &mut rngs[0], &mut drawn).unwrap();
                two.draw(8, 0.5, &mut rngs[1], &mut again).unwrap();
                assert_eq!(drawn, again);
                for sampler in [&mut one, &mut two] {
                    sampler.update_priorities(&drawn.slots, &[local as f32 * 0.1; 8]).unwrap();
                    sampler.insert(transition(local));
                }
            }
        }
    }

    #[test]
    fn an_empty_sampler_is_an_error() {
        let sampler = sampler(50, 0, 0.6);
        let outcome = sampler.draw(1, 0.4, &mut Pcg64Mcg::seed_from_u64(1), &mut Drawn::default());
        assert!(matches!(outcome, Err(Error::Empty)));
    }
}
