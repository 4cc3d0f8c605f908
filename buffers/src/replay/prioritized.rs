//! The replay: what is drawn by priority, with the observations gathered into tensors.

use std::sync::Arc;

use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::Transition;
use super::batch::Batch;
use super::copies::Copies;
use super::sampler::Sampler;
use super::transitions::Slot;
use super::windows::gather;
use crate::error::{Error, Result};
use crate::frames::{Clock, FrameStream, Place, Scenes, TierBytes};

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
    /// Copies whole observations into each transition, the usual way, instead of reading windows over the
    /// streams.
    pub copies_observations: bool,
}

/// Prioritized replay.
#[derive(Debug, Serialize, Deserialize)]
pub struct Replay {
    #[serde(skip)]
    scenes: Arc<Scenes>,
    sampler: Sampler,
    own: Vec<FrameStream>,
    /// Own rows that an observation shows at most, counted back from its own.
    #[serde(skip)]
    own_reach: usize,
    /// Made anew from the streams when a saved replay is read back.
    #[serde(skip)]
    copies: Option<Copies>,
}

impl Replay {
    /// An empty replay over `scenes`.
    #[must_use]
    pub fn new(options: &ReplayOptions, scenes: Arc<Scenes>) -> Self {
        let copies = copies(options, &scenes);
        Self {
            own_reach: scenes.own_reach(),
            scenes,
            sampler: Sampler::new(options.capacity_transitions, options.priority_exponent),
            own: vec![FrameStream::new(options.own_width); options.n_environments],
            copies,
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
        differs("capacity", self.sampler.transitions().capacity(), options.capacity_transitions)?;
        differs("environments", self.own.len(), options.n_environments)?;
        differs("own numbers", self.own.first().map_or(0, FrameStream::width), options.own_width)?;
        self.copies = copies(options, &scenes);
        self.own_reach = scenes.own_reach();
        self.scenes = scenes;
        for index in 0..self.len() {
            self.copy(index);
        }
        Ok(())
    }

    /// Transitions held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sampler.transitions().len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sampler.transitions().is_empty()
    }

    /// Transitions ever inserted.
    #[must_use]
    pub fn n_inserted(&self) -> u64 {
        self.sampler.transitions().n_inserted()
    }

    /// Bytes held: transitions, priorities and own rows; the scenes' streams are shared and not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sampler.bytes() + self.own_bytes() + self.copies.as_ref().map_or(0, Copies::bytes)
    }

    /// Bytes that a replay of `capacity` will hold at most after `n_inserted` transitions, with own rows of
    /// `own_width` numbers.
    #[must_use]
    pub fn planned_bytes(capacity: usize, n_inserted: u64, own_width: usize) -> u64 {
        let n_rows = n_inserted.min(capacity as u64);
        Sampler::planned_bytes(capacity) + n_rows * own_width as u64 * 4
    }

    /// Bytes of the environments' own rows among them.
    #[must_use]
    pub fn own_bytes(&self) -> u64 {
        self.own.iter().map(FrameStream::bytes).sum()
    }

    /// Appends a row of an environment's own numbers and returns its position.
    pub fn append_own(&mut self, environment: u16, row: &[f32]) -> u32 {
        self.own[usize::from(environment)].append(row) as u32
    }

    /// Inserts a transition with the largest priority seen so far, over the oldest where the ring is full.
    pub fn insert(&mut self, transition: Transition) {
        let (index, old) = self.sampler.insert(transition);
        if let Some(old) = old {
            evict(&mut self.own, self.own_reach, &old);
        }
        self.copy(index);
    }

    /// [`Self::insert`] for many at once, faster and with the same result.
    pub fn insert_many(&mut self, transitions: impl IntoIterator<Item = Transition>) {
        if self.copies.is_some() {
            return transitions.into_iter().for_each(|transition| self.insert(transition));
        }
        let (own, reach) = (&mut self.own, self.own_reach);
        self.sampler.insert_many(transitions, |old| evict(own, reach, old));
    }

    /// Draws `n` transitions by priority and gathers their observations.
    ///
    /// # Errors
    /// [`Error::Empty`], or where libtorch refuses the memory.
    pub fn sample(&self, n: usize, importance_sampling_exponent: f64, rng: &mut Pcg64Mcg) -> Result<Batch> {
        let mut batch = Batch::default();
        self.sample_into(n, importance_sampling_exponent, rng, &mut batch)?;
        Ok(batch)
    }

    /// [`Self::sample`] into the memory of a batch that is not needed any more, where that fits and nothing
    /// else holds its tensors: half the time of fresh memory. From the second batch of a size on nothing is allocated,
    /// as long as all rows that are drawn are hot.
    ///
    /// # Errors
    /// As [`Self::sample`]; of the batch nothing may then be used.
    pub fn sample_into(
        &self,
        n: usize,
        importance_sampling_exponent: f64,
        rng: &mut Pcg64Mcg,
        batch: &mut Batch,
    ) -> Result<()> {
        let mut drawn = batch.take_room(self.scenes.views().len());
        self.sampler.draw(n, importance_sampling_exponent, rng, &mut drawn)?;
        for (index, view) in self.scenes.views().iter().enumerate() {
            let rooms = batch.rooms(index, view, n)?;
            match &self.copies {
                Some(copies) => copies.gather(index, &drawn.indices, rooms),
                None => {
                    let places = [&drawn.places[..], &drawn.next_places];
                    gather(&self.scenes, &self.own, index, places, rooms);
                }
            }
        }
        batch.put_columns(drawn)
    }

    /// Sets the priorities of sampled transitions by their TD errors. A slot that has been overwritten since
    /// is passed over.
    ///
    /// # Panics
    /// Where an error is not finite: the learner has diverged and must say so first.
    pub fn update_priorities(&mut self, slots: &[Slot], td_errors: &[f32]) {
        self.sampler.update_priorities(slots, td_errors);
    }

    /// The priorities of the transitions held, in the ring's order; none where draws are uniform.
    #[must_use]
    pub fn priorities(&self) -> Option<impl Iterator<Item = f64>> {
        let priorities = self.sampler.priorities()?;
        Some((0..self.len()).map(|index| priorities.priority(index)))
    }

    /// Bytes held by tier: transitions, priorities, and own rows.
    #[must_use]
    pub fn tier_bytes(&self) -> TierBytes {
        let mut bytes = TierBytes { hot: self.sampler.bytes(), ..TierBytes::default() };
        for own in self.own.iter().map(FrameStream::tier_bytes) {
            bytes.hot += own.hot;
            bytes.compressed += own.compressed;
            bytes.mapped += own.mapped;
        }
        bytes
    }

    /// The number of the transition at an index of the ring.
    ///
    /// # Panics
    /// Where none lies there.
    #[must_use]
    pub fn slot(&self, index: usize) -> Slot {
        self.sampler.transitions().slot(index)
    }

    /// Copies the observations of a transition, where whole observations are kept.
    fn copy(&mut self, index: usize) {
        let Some(copies) = &mut self.copies else { return };
        let transition = self.sampler.transitions().at(index);
        for (mut room, place) in copies.at_mut(index).into_iter().zip([transition.from, transition.to()]) {
            for (view, shape) in self.scenes.views().iter().enumerate() {
                let (now, rest) = room.split_at_mut(shape.n_numbers());
                copy_view(&self.scenes, &self.own, view, &place, now);
                room = rest;
            }
        }
    }
}

/// Gives back the own rows that only an overwritten transition pointed to; the next one's windows reach `reach` rows
/// back, its own row included.
fn evict(own: &mut [FrameStream], reach: usize, old: &Transition) {
    own[usize::from(old.from.environment)].evict_before((old.from.own as usize + 1).saturating_sub(reach));
}

fn copies(options: &ReplayOptions, scenes: &Scenes) -> Option<Copies> {
    options.copies_observations.then(|| Copies::new(scenes.views(), options.capacity_transitions))
}

fn copy_view(scenes: &Scenes, own: &[FrameStream], view: usize, place: &Place, room: &mut [f32]) {
    let shape = scenes.views()[view];
    match shape.clock {
        Clock::Own => own[usize::from(place.environment)].copy_window(
            place.own as usize,
            shape.length,
            shape.stride,
            room,
        ),
        Clock::Base | Clock::Slow => scenes.copy_window(view, place.scene, place.base, room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Clock, View};
    use rand::SeedableRng;
    use tch::Tensor;

    const OPTIONS: ReplayOptions = ReplayOptions {
        capacity_transitions: 50,
        priority_exponent: 0.6,
        n_environments: 1,
        own_width: 2,
        copies_observations: false,
    };

    fn scenes() -> Arc<Scenes> {
        let views = vec![View { name: "own", length: 1, width: 2, stride: 1, clock: Clock::Own }];
        Arc::new(Scenes::new(views, Vec::new()))
    }

    fn step(replay: &mut Replay, i: u32) -> Transition {
        let to_own = replay.append_own(0, &[i as f32 + 1.0, 0.5]);
        let from = Place { own: i, ..Place::default() };
        Transition { from, to_base: 0, to_own, action: 1, reward: i as f32, discount: 0.9 }
    }

    fn replay(n: u32) -> Replay {
        let mut replay = Replay::new(&OPTIONS, scenes());
        replay.append_own(0, &[0.0, 0.5]);
        for i in 0..n {
            let transition = step(&mut replay, i);
            replay.insert(transition);
        }
        replay
    }

    #[test]
    fn a_batch_holds_the_observations_of_its_transitions() {
        let replay = replay(5000);
        for n in [32, 7] {
            let batch = replay.sample(n, 0.4, &mut Pcg64Mcg::seed_from_u64(1)).unwrap();
            assert_eq!(batch.observations[0].size(), [n as i64, 1, 2]);
            for i in 0..n as i64 {
                let reward = batch.rewards.double_value(&[i]);
                assert!(reward >= 4950.0, "an overwritten transition was drawn");
                assert_eq!(batch.observations[0].double_value(&[i, 0, 0]), reward);
                assert_eq!(batch.next_observations[0].double_value(&[i, 0, 0]), reward + 1.0);
            }
        }
        assert!(replay.own[0].bytes() <= 2 * 1024 * 8, "rows that nothing points to are given back");
    }

    #[test]
    fn stacked_own_rows_outlive_the_transitions_before_them() {
        let views = vec![View { name: "own", length: 4, width: 2, stride: 1, clock: Clock::Own }];
        let mut replay = Replay::new(&OPTIONS, Arc::new(Scenes::new(views, Vec::new())));
        (0..4).for_each(|_| {
            replay.append_own(0, &[0.0, 0.5]);
        });
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        for i in 3..1000 {
            let transition = step(&mut replay, i);
            replay.insert(transition);
            replay.sample(4, 0.4, &mut rng).unwrap();
        }
    }

    #[test]
    fn many_at_once_are_as_many_one_by_one() {
        let one = replay(5000);
        let mut many = replay(0);
        for block in 0..50 {
            let transitions: Vec<Transition> =
                (block * 100..block * 100 + 100).map(|i| step(&mut many, i)).collect();
            many.insert_many(transitions);
        }
        assert_eq!((one.len(), one.n_inserted(), one.bytes()), (many.len(), many.n_inserted(), many.bytes()));
        let [a, b] =
            [&one, &many].map(|replay| replay.sample(16, 0.4, &mut Pcg64Mcg::seed_from_u64(4)).unwrap());
        assert_eq!((a.slots, a.places), (b.slots, b.places));
    }

    #[test]
    fn a_restored_replay_goes_on_as_the_saved_one() {
        let mut one = replay(130);
        let slots: Vec<Slot> = (0..50).map(|index| one.slot(index)).collect();
        one.update_priorities(&slots, &(0..50).map(|i| i as f32 * 0.1).collect::<Vec<_>>());
        let mut two: Replay = postcard::from_bytes(&postcard::to_stdvec(&one).unwrap()).unwrap();
        let wrong = ReplayOptions { capacity_transitions: 51, ..OPTIONS };
        assert!(matches!(two.reattach(&wrong, scenes()), Err(Error::Mismatch { found: 50, wanted: 51, .. })));
        two.reattach(&OPTIONS, scenes()).unwrap();
        let mut rngs = [Pcg64Mcg::seed_from_u64(6), Pcg64Mcg::seed_from_u64(6)];
        for i in 130..200 {
            let batches = [&mut one, &mut two].into_iter().zip(&mut rngs).map(|(replay, rng)| {
                let transition = step(replay, i);
                replay.insert(transition);
                let batch = replay.sample(8, 0.5, rng).unwrap();
                replay.update_priorities(&batch.slots, &[i as f32 * 0.01; 8]);
                (batch.slots, Vec::<f32>::try_from(batch.weights).unwrap())
            });
            let batches: Vec<_> = batches.collect();
            assert_eq!(batches[0], batches[1]);
        }
    }

    fn numbers(tensors: &[Tensor]) -> Vec<f32> {
        Vec::try_from(tensors[0].flatten(0, -1)).unwrap()
    }

    #[test]
    fn a_batch_that_is_sampled_into_is_as_a_fresh_one() {
        let replay = replay(120);
        let mut rngs = [Pcg64Mcg::seed_from_u64(6), Pcg64Mcg::seed_from_u64(6)];
        let mut reused = Batch::default();
        for n in [8, 8, 3, 16, 16] {
            let fresh = replay.sample(n, 0.5, &mut rngs[0]).unwrap();
            replay.sample_into(n, 0.5, &mut rngs[1], &mut reused).unwrap();
            assert_eq!(numbers(&fresh.observations), numbers(&reused.observations));
            assert_eq!(numbers(&fresh.next_observations), numbers(&reused.next_observations));
            assert_eq!((&fresh.slots, &fresh.next_places), (&reused.slots, &reused.next_places));
            assert_eq!((&fresh.weights, &fresh.rewards), (&reused.weights, &reused.rewards));
        }
    }

    #[test]
    fn a_tensor_that_something_else_holds_is_not_written() {
        let replay = replay(120);
        let mut rng = Pcg64Mcg::seed_from_u64(6);
        let mut batch = replay.sample(8, 0.5, &mut rng).unwrap();
        let handle = batch.observations[0].shallow_clone();
        let view = batch.next_observations[0].narrow(0, 2, 3);
        let before = (handle.copy(), view.copy());
        replay.sample_into(8, 0.5, &mut rng, &mut batch).unwrap();
        assert_eq!((&handle, &view), (&before.0, &before.1));
        drop((handle, view));
        let at = batch.observations[0].data_ptr();
        replay.sample_into(8, 0.5, &mut rng, &mut batch).unwrap();
        assert_eq!(batch.observations[0].data_ptr(), at, "memory that nothing holds is used again");
    }

    #[test]
    fn copies_are_what_the_streams_hold() {
        let options = ReplayOptions { copies_observations: true, ..OPTIONS };
        let mut copied = Replay::new(&options, scenes());
        copied.append_own(0, &[0.0, 0.5]);
        for block in 0..12 {
            let transitions: Vec<Transition> =
                (block * 10..block * 10 + 10).map(|i| step(&mut copied, i)).collect();
            copied.insert_many(transitions);
        }
        let mut restored: Replay = postcard::from_bytes(&postcard::to_stdvec(&copied).unwrap()).unwrap();
        restored.reattach(&options, scenes()).unwrap();
        let plain = replay(120);
        let draw = |replay: &Replay| replay.sample(32, 0.4, &mut Pcg64Mcg::seed_from_u64(1)).unwrap();
        let expected = draw(&plain);
        for replay in [&copied, &restored] {
            let batch = draw(replay);
            assert_eq!(numbers(&batch.observations), numbers(&expected.observations));
            assert_eq!(numbers(&batch.next_observations), numbers(&expected.next_observations));
        }
        assert_eq!(copied.bytes() - plain.bytes(), 50 * 2 * 2 * 4);
    }

    #[test]
    fn bytes_are_as_planned() {
        let replay = replay(5000);
        assert_eq!(replay.bytes() - replay.own_bytes(), Replay::planned_bytes(50, 5000, 0));
    }

    #[test]
    fn an_empty_replay_says_so() {
        assert!(matches!(replay(0).sample(1, 0.4, &mut Pcg64Mcg::seed_from_u64(1)), Err(Error::Empty)));
    }
}
