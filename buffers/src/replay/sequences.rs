//! Sequences for recurrent learners (Kapturowski et al. 2019): consecutive transitions of one environment
//! within one episode.
//!
//! ```text
//! episode of one environment   · · b b A t t t t t · · ·     A: the anchor, which is drawn and has the priority
//!                                  burn-in │ trained         b: up to `burn_in` transitions before it
//! ```
//!
//! A transition becomes an anchor when the `length − 1` transitions after it are inserted. If an episode ends before it has
//! `length` transitions, its first one becomes an anchor, so that the learner sees every episode. All others have
//! priority 0 and are never drawn. When an anchor is overwritten, its sequence is gone; overwritten burn-in only makes the
//! burn-in shorter.
//!
//! The local rows say which transitions follow each other. Every observation has a row, also the last one of an episode,
//! where no transition begins. So a transition continues the one before it exactly if its row is the next.

use std::collections::VecDeque;

use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::frames::ObservationRef;
use crate::replay::Transition;
use crate::replay::priorities::Priorities;
use crate::replay::transitions::{Slot, Transitions};

/// Options of a replay of sequences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceOptions {
    /// The most transitions that it keeps. A new transition overwrites the oldest.
    pub capacity_transitions: usize,
    /// α, from 0 (uniform) to 1 (proportional).
    pub priority_exponent: f64,
    /// Number of environments that write into it.
    pub n_environments: usize,
    /// Transitions per sequence to train on, at least 1.
    pub length: usize,
    /// The most transitions before them, which only warm up the recurrent state.
    pub burn_in: usize,
}

/// Transitions, and the priorities of those that begin a sequence.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sequences {
    length: usize,
    burn_in: usize,
    transitions: Transitions,
    priorities: Priorities,
    trails: Vec<Trail>,
    #[serde(skip)]
    scratch: Scratch,
}

/// Scratch space, kept from call to call.
#[derive(Debug, Default)]
struct Scratch {
    indices: Vec<usize>,
    errors: Vec<f32>,
    powers: Vec<f64>,
}

/// The indices of one environment's transitions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Trail {
    /// Local row of the first entry.
    first: u32,
    /// Index of the transition that begins at each local row, or [`NONE`].
    indices: VecDeque<u32>,
    /// Number of transitions of the newest episode.
    n_newest: usize,
}

/// Marks a local row at which no transition begins.
const NONE: u32 = u32::MAX;

/// The `n` drawn sequences of `width = burn_in + length` cells each, one after the other. Cell `burn_in` is the anchor.
/// `n_burn_in` and `n_trained` count the filled cells before it and from it on; empty cells repeat the nearest
/// transition. Draw into the same value again to reuse its memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DrawnSequences {
    /// For [`Sequences::update_priorities`], `n`.
    pub slots: Vec<Slot>,
    /// Filled burn-in cells, `n`.
    pub n_burn_in: Vec<usize>,
    /// Filled cells to train on, at least 1, `n`.
    pub n_trained: Vec<usize>,
    /// Importance weights, in (0, 1], `n`.
    pub weights: Vec<f32>,
    /// References to the observations, `n × width`.
    pub observation_refs: Vec<ObservationRef>,
    /// References to the observations to bootstrap from, `n × width`.
    pub next_observation_refs: Vec<ObservationRef>,
    /// Actions, `n × width`.
    pub actions: Vec<i64>,
    /// n-step rewards, `n × width`.
    pub rewards: Vec<f32>,
    /// γⁿ (1 − terminated), `n × width`.
    pub discounts: Vec<f32>,
    masses: Vec<f64>,
    indices: Vec<usize>,
}

impl Sequences {
    /// Empty, without transitions.
    ///
    /// # Panics
    /// If the length or the capacity is 0, or the capacity is not below 2³² − 1.
    #[must_use]
    pub fn new(options: &SequenceOptions) -> Self {
        let capacity = options.capacity_transitions;
        assert!(options.length > 0, "a sequence has at least one transition");
        assert!(u32::try_from(capacity).is_ok_and(|capacity| capacity < NONE), "2³² transitions or more");
        Self {
            length: options.length,
            burn_in: options.burn_in,
            transitions: Transitions::new(capacity),
            priorities: Priorities::new(capacity, options.priority_exponent),
            trails: vec![Trail::default(); options.n_environments],
            scratch: Scratch::default(),
        }
    }

    /// The transitions.
    #[must_use]
    pub fn transitions(&self) -> &Transitions {
        &self.transitions
    }

    /// The priorities of the anchors, and 0 for all other transitions.
    #[must_use]
    pub fn priorities(&self) -> &Priorities {
        &self.priorities
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let trails: usize = self.trails.iter().map(|trail| trail.indices.capacity() * size_of::<u32>()).sum();
        self.transitions.bytes() + self.priorities.bytes() + trails as u64
    }

    /// Inserts a transition and returns the one that it overwrote. A sequence that becomes complete gets the largest
    /// priority seen so far.
    ///
    /// # Panics
    /// If an environment's transitions do not come in the order of its local rows.
    pub fn insert(&mut self, transition: Transition) -> Option<Transition> {
        let (index, old) = self.transitions.push(transition);
        self.priorities.clear(index);
        if let Some(old) = &old {
            self.trails[usize::from(old.from.environment)].forget(old.from.local);
        }
        let ObservationRef { environment, local, .. } = transition.from;
        let trail = &mut self.trails[usize::from(environment)];
        if trail.next() != local {
            self.end_episode(environment);
        }
        let trail = &mut self.trails[usize::from(environment)];
        trail.push(local, index as u32);
        if trail.n_newest >= self.length
            && let Some(anchor) = trail.index(local.wrapping_sub((self.length - 1) as u32))
        {
            self.priorities.set_largest(anchor);
        }
        old
    }

    /// Ends the newest episode of an environment, so that an episode shorter than `length` can be drawn. The first
    /// transition of the next episode does so too.
    pub fn end_episode(&mut self, environment: u16) {
        let trail = &mut self.trails[usize::from(environment)];
        let n = std::mem::take(&mut trail.n_newest);
        if n > 0
            && n < self.length
            && let Some(anchor) = trail.index(trail.next().wrapping_sub(n as u32))
        {
            self.priorities.set_largest(anchor);
        }
    }

    /// Draws `n` sequences by the priorities of their anchors, one from each of `n` equal shares of the sum.
    ///
    /// # Errors
    /// [`Error::Empty`] if no sequence is complete yet.
    pub fn draw(
        &self,
        n: usize,
        importance_sampling_exponent: f64,
        rng: &mut Pcg64Mcg,
        drawn: &mut DrawnSequences,
    ) -> Result<()> {
        if self.priorities.sum() == 0.0 {
            return Err(Error::Empty);
        }
        self.priorities.draw(n, rng, &mut drawn.masses, &mut drawn.indices);
        self.priorities.weights(&drawn.indices, importance_sampling_exponent, &mut drawn.weights);
        drawn.clear();
        for i in 0..n {
            self.lay_out(drawn.indices[i], drawn);
        }
        Ok(())
    }

    /// Sets the priorities of drawn sequences from one error each ([`sequence_error`]). Ignores sequences whose anchor was
    /// overwritten since.
    ///
    /// # Panics
    /// If an error is not finite. The learner must report its divergence first.
    pub fn update_priorities(&mut self, slots: &[Slot], errors: &[f32]) {
        let Scratch { indices, errors: live, powers } = &mut self.scratch;
        indices.clear();
        live.clear();
        for (slot, error) in slots.iter().zip(errors) {
            if let Some(index) = self.transitions.index(*slot) {
                indices.push(index);
                live.push(*error);
            }
        }
        self.priorities.set_by_errors(indices, live, powers);
    }

    fn lay_out(&self, anchor: usize, drawn: &mut DrawnSequences) {
        let ObservationRef { environment, local, .. } = self.transitions.at(anchor).from;
        let trail = &self.trails[usize::from(environment)];
        let before = (1..=self.burn_in as u32).map_while(|i| trail.index(local.wrapping_sub(i))).count();
        let trained = (0..self.length as u32).map_while(|i| trail.index(local.wrapping_add(i))).count();
        drawn.slots.push(self.transitions.slot(anchor));
        drawn.n_burn_in.push(before);
        drawn.n_trained.push(trained);
        for cell in 0..self.burn_in + self.length {
            // Cells from the anchor on, of which those before it are negative.
            let from_anchor = (cell as i64 - self.burn_in as i64).clamp(-(before as i64), trained as i64 - 1);
            let row = local.wrapping_add_signed(from_anchor as i32);
            drawn.push(&self.transitions.at(trail.index(row).unwrap_or(anchor)));
        }
    }
}

/// The error of a sequence: `η max |δ| + (1 − η) mean |δ|` over its TD errors δ, with η = 0.9 (Kapturowski et al. 2019,
/// section 2.3). It is 0 without TD errors.
#[must_use]
pub fn sequence_error(td_errors: &[f32]) -> f32 {
    const LARGEST_FRACTION: f32 = 0.9;
    let largest = td_errors.iter().fold(0f32, |largest, error| largest.max(error.abs()));
    let sum: f32 = td_errors.iter().map(|error| error.abs()).sum();
    LARGEST_FRACTION * largest + (1.0 - LARGEST_FRACTION) * sum / td_errors.len().max(1) as f32
}

impl Trail {
    /// The local row after the newest entry.
    fn next(&self) -> u32 {
        self.first.wrapping_add(self.indices.len() as u32)
    }

    fn push(&mut self, local: u32, index: u32) {
        if self.indices.is_empty() {
            self.first = local;
        }
        // Rows are numbered by their lowest 32 bits, and those of one trail lie near each other.
        let n_between = local.wrapping_sub(self.next());
        assert!(n_between.cast_signed() >= 0, "transitions out of the order of their rows");
        for _ in 0..n_between {
            self.indices.push_back(NONE);
        }
        self.indices.push_back(index);
        self.n_newest += 1;
    }

    fn index(&self, local: u32) -> Option<usize> {
        let entry = local.wrapping_sub(self.first) as usize;
        self.indices.get(entry).copied().filter(|index| *index != NONE).map(|index| index as usize)
    }

    /// Drops the entries up to and including a local row.
    fn forget(&mut self, local: u32) {
        while local.wrapping_sub(self.first).cast_signed() >= 0 && self.indices.pop_front().is_some() {
            self.first = self.first.wrapping_add(1);
        }
    }
}

impl DrawnSequences {
    fn clear(&mut self) {
        self.slots.clear();
        self.n_burn_in.clear();
        self.n_trained.clear();
        self.observation_refs.clear();
        self.next_observation_refs.clear();
        self.actions.clear();
        self.rewards.clear();
        self.discounts.clear();
    }

    fn push(&mut self, transition: &Transition) {
        self.observation_refs.push(transition.from);
        self.next_observation_refs.push(transition.to());
        self.actions.push(i64::from(transition.action));
        self.rewards.push(transition.reward);
        self.discounts.push(transition.discount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    /// Environments whose episodes end at random, and the local rows that each has appended.
    struct Episodes {
        rng: Pcg64Mcg,
        n_rows: Vec<u32>,
        n_episodes: Vec<u32>,
        longest: u32,
    }

    impl Episodes {
        fn new(n_environments: usize, longest: u32, seed: u64) -> Self {
            let (n_rows, n_episodes) = (vec![0; n_environments], vec![0; n_environments]);
            Self { rng: Pcg64Mcg::seed_from_u64(seed), n_rows, n_episodes, longest }
        }

        /// The next transition. Its `reward` is the episode's number, and the last observation of an episode takes a row
        /// where no transition begins.
        fn next(&mut self) -> Transition {
            let environment = self.rng.random_range(0..self.n_rows.len());
            let local = self.n_rows[environment];
            let from = ObservationRef { environment: environment as u16, t: local * 2, local, instrument: 1 };
            let reward = self.n_episodes[environment] as f32;
            self.n_rows[environment] += 1;
            if self.rng.random_range(0..self.longest) == 0 {
                self.n_rows[environment] += 1;
                self.n_episodes[environment] += 1;
            }
            Transition {
                from,
                to_t: local * 2 + 2,
                to_local: local + 1,
                action: (local % 3) as u8,
                reward,
                discount: 0.9,
            }
        }
    }

    /// The transitions held of the same environment and episode as `of`, in order, and the position of `of` among them.
    fn episode_of(held: &[Transition], of: &Transition) -> (Vec<Transition>, usize) {
        let same = |t: &&Transition| t.from.environment == of.from.environment && t.reward == of.reward;
        let episode: Vec<Transition> = held.iter().filter(same).copied().collect();
        let at = episode.iter().position(|t| t == of).unwrap();
        (episode, at)
    }

    proptest! {
        #[test]
        fn sequences_are_what_naive_loops_over_episodes_give(
            capacity in 1usize..120, n_environments in 1usize..5, longest in 1u32..20,
            length in 1usize..9, burn_in in 0usize..6, n in 1usize..400, seed: u64,
        ) {
            let (capacity_transitions, priority_exponent) = (capacity, 0.6);
            let options =
                SequenceOptions { capacity_transitions, priority_exponent, n_environments, length, burn_in };
            let mut sequences = Sequences::new(&options);
            let mut steps = Episodes::new(n_environments, longest, seed);
            let all: Vec<Transition> = (0..n).map(|_| steps.next()).collect();
            for (i, transition) in all.iter().enumerate() {
                prop_assert_eq!(sequences.insert(*transition), i.checked_sub(capacity).map(|old| all[old]));
            }
            let held = &all[n.saturating_sub(capacity)..];
            let mut n_anchors = 0;
            for index in 0..held.len() {
                let anchor = sequences.transitions.at(index);
                let (episode, at) = episode_of(held, &anchor);
                let (whole, _) = episode_of(&all, &anchor);
                let later = |t: &Transition| t.from.environment == anchor.from.environment && t.reward > anchor.reward;
                let over = all.iter().any(later);
                let short = over && whole.len() < length && whole[0] == anchor;
                let is_anchor = at + length <= episode.len() || short;
                prop_assert_eq!(sequences.priorities.at(index) > 0.0, is_anchor);
                n_anchors += usize::from(is_anchor);
            }
            let mut drawn = DrawnSequences::default();
            let outcome = sequences.draw(16, 0.5, &mut steps.rng, &mut drawn);
            prop_assert_eq!(outcome.is_ok(), n_anchors > 0);
            let width = burn_in + length;
            for (i, slot) in drawn.slots.iter().enumerate() {
                let anchor = sequences.transitions.at(sequences.transitions.index(*slot).unwrap());
                let (episode, at) = episode_of(held, &anchor);
                let first = at.saturating_sub(burn_in);
                let last = (at + length - 1).min(episode.len() - 1);
                prop_assert_eq!((drawn.n_burn_in[i], drawn.n_trained[i]), (at - first, last + 1 - at));
                for cell in 0..width {
                    let naive = episode[(at + cell).saturating_sub(burn_in).clamp(first, last)];
                    let cell = i * width + cell;
                    prop_assert_eq!((drawn.observation_refs[cell], drawn.next_observation_refs[cell]), (naive.from, naive.to()));
                    prop_assert_eq!(drawn.actions[cell], i64::from(naive.action));
                    prop_assert_eq!(drawn.rewards[cell], naive.reward);
                }
            }
        }
    }

    fn sequences(n: usize) -> (Sequences, Episodes) {
        let options = SequenceOptions {
            capacity_transitions: 64,
            priority_exponent: 0.6,
            n_environments: 2,
            length: 4,
            burn_in: 2,
        };
        let (mut sequences, mut steps) = (Sequences::new(&options), Episodes::new(2, 12, 5));
        for _ in 0..n {
            sequences.insert(steps.next());
        }
        (sequences, steps)
    }

    #[test]
    fn restored_sequences_go_on_as_the_saved_ones() {
        let (mut one, mut steps) = sequences(200);
        let mut two: Sequences = postcard::from_bytes(&postcard::to_stdvec(&one).unwrap()).unwrap();
        let (mut drawn, mut again) = (DrawnSequences::default(), DrawnSequences::default());
        let mut rngs = [Pcg64Mcg::seed_from_u64(6), Pcg64Mcg::seed_from_u64(6)];
        for round in 0..50 {
            let new = steps.next();
            assert_eq!(one.insert(new), two.insert(new));
            one.draw(8, 0.5, &mut rngs[0], &mut drawn).unwrap();
            two.draw(8, 0.5, &mut rngs[1], &mut again).unwrap();
            assert_eq!(drawn, again);
            let errors: Vec<f32> = (0..8).map(|i| (i * round % 7) as f32).collect();
            one.update_priorities(&drawn.slots, &errors);
            two.update_priorities(&again.slots, &errors);
        }
    }

    #[test]
    fn a_late_priority_makes_no_anchor() {
        let (mut sequences, mut steps) = sequences(64);
        let slots: Vec<Slot> = (0..64).map(|index| sequences.transitions.slot(index)).collect();
        for _ in 0..64 {
            sequences.insert(steps.next());
        }
        let before: Vec<f64> = (0..64).map(|index| sequences.priorities.at(index)).collect();
        sequences.update_priorities(&slots, &[1e6; 64]);
        assert_eq!(before, (0..64).map(|index| sequences.priorities.at(index)).collect::<Vec<_>>());
    }

    #[test]
    fn the_error_of_a_sequence_mixes_its_largest_and_its_mean() {
        assert!((sequence_error(&[1.0, -3.0, 2.0]) - (0.9 * 3.0 + 0.1 * 2.0)).abs() < 1e-6);
        assert_eq!(sequence_error(&[]), 0.0);
    }
}
