//! The replay: what is drawn by priority, with the observations gathered into tensors.

mod split;

pub use split::{Draws, Rows};

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::frames::{Clock, Dataset, FrameStream, ObservationRef, TierBytes};
use crate::replay::Transition;
use crate::replay::batch::Batch;
use crate::replay::copied_observations::Copies;
use crate::replay::sampler::Sampler;
use crate::replay::tiers::{self, ReplayBuffer, Tiers, evict_local};
use crate::replay::transitions::{Slot, Transitions};
use crate::store::file::writer::Opened;
use crate::store::{Damage, StoreOptions, Tier};

/// What a replay is made for.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayOptions {
    /// Transitions kept; the oldest is overwritten.
    pub capacity_transitions: usize,
    /// α, from 0 (uniform) to 1 (proportional).
    pub priority_exponent: f64,
    /// Environments that write into it.
    pub n_environments: usize,
    /// Numbers in an environment's local row.
    pub local_width: usize,
    /// Copies whole observations into each transition, the usual way, instead of reading windows over the
    /// streams.
    pub copies_observations: bool,
    /// In which tiers rows are kept.
    pub store: StoreOptions,
}

/// Share of their bytes that compressed rows are planned to take.
const PLANNED_SHARE: f64 = 0.6;

/// Prioritized replay.
#[derive(Debug, Serialize, Deserialize)]
pub struct Replay {
    #[serde(skip)]
    dataset: Arc<Dataset>,
    sampler: Sampler,
    local: Vec<FrameStream>,
    /// Local rows that an observation shows at most, counted back from its own.
    #[serde(skip)]
    local_reach: usize,
    /// Made anew from the streams when a saved replay is read back.
    #[serde(skip)]
    copies: Option<Copies>,
    #[serde(skip)]
    tiers: Tiers,
    /// Whether the last batch waited for the disk: the next one has it read ahead.
    #[serde(skip)]
    is_cold: AtomicBool,
}

impl Replay {
    /// An empty replay over `dataset`. A file of the mapped tier is made when rows first go there, in the place of an
    /// older one.
    ///
    /// # Errors
    /// [`memsys::Error::Refused`] where the memory limit has no room for its ring and its tree, [`Error::NoFile`].
    pub fn new(options: &ReplayOptions, dataset: Arc<Dataset>) -> Result<Self> {
        let mut tiers = Tiers::new(options.store.clone(), options.n_environments, dataset.local_reach());
        let (capacity, exponent) = (options.capacity_transitions, options.priority_exponent);
        let is_streamed = options.store.tier != Tier::Hot && !options.copies_observations;
        let ring_bytes = if is_streamed { 0 } else { Transitions::planned_bytes(capacity) };
        tiers.begin(Sampler::planned_bytes(capacity) - Transitions::planned_bytes(capacity) + ring_bytes)?;
        let transitions = match is_streamed {
            true => Transitions::streamed(capacity, tiers.transition_stream()),
            false => Transitions::new(capacity),
        };
        let sampler = Sampler::over(transitions, exponent);
        let local = (0..options.n_environments).map(|_| tiers.local_stream(options.local_width)).collect();
        let copies = copies(options, &dataset);
        let is_cold = AtomicBool::new(true);
        Ok(Self { local_reach: dataset.local_reach(), dataset, sampler, local, copies, tiers, is_cold })
    }

    /// Gives a restored replay its instruments back, which are not saved with it, and the rows that its file keeps. What was
    /// found on opening the file is returned.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the replay was saved by a run of another size or tier; where its file cannot be opened
    /// or lacks what was committed; [`memsys::Error::Refused`].
    pub fn reattach(&mut self, options: &ReplayOptions, dataset: Arc<Dataset>) -> Result<Opened> {
        let differs = |what, found, wanted| {
            if found == wanted { Ok(()) } else { Err(Error::Mismatch { what, found, wanted }) }
        };
        differs("capacity", self.sampler.transitions().capacity(), options.capacity_transitions)?;
        differs("environments", self.local.len(), options.n_environments)?;
        let is_stored_so = self.local.iter().all(|local| local.kind() == options.store.local_kind);
        differs("local rows stored as configured", usize::from(is_stored_so), 1)?;
        differs("local numbers", self.local.first().map_or(0, FrameStream::width), options.local_width)?;
        let mut tiers = Tiers::new(options.store.clone(), options.n_environments, dataset.local_reach());
        let opened = tiers.take_over(&mut self.sampler, &mut self.local)?;
        self.tiers = tiers;
        self.is_cold = AtomicBool::new(true);
        self.copies = copies(options, &dataset);
        self.local_reach = dataset.local_reach();
        self.dataset = dataset;
        for index in 0..self.len() {
            self.copy(index);
        }
        self.enforce_budget()?;
        Ok(opened)
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

    /// Bytes held: transitions, priorities and local rows; the instruments' streams are shared and not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sampler.bytes() + self.own_bytes() + self.copies.as_ref().map_or(0, Copies::bytes)
    }

    /// Bytes that a replay of `capacity` will hold at most after `n_inserted` transitions, with local rows of
    /// `local_width` numbers.
    #[must_use]
    pub fn planned_bytes(capacity: usize, n_inserted: u64, local_width: usize) -> u64 {
        let n_rows = n_inserted.min(capacity as u64);
        Sampler::planned_bytes(capacity) + n_rows * local_width as u64 * 4
    }

    /// Bytes of memory of a replay in the tiers of `store`, at most; as [`Self::planned_bytes`] where all is hot. How
    /// well rows compress is taken at a guess, to `PLANNED_SHARE`.
    #[must_use]
    pub fn planned_tier_bytes(
        store: &StoreOptions,
        capacity: usize,
        n_inserted: u64,
        local_width: usize,
        n_environments: usize,
    ) -> u64 {
        let own_bytes = (local_width * store.local_kind.number_bytes()) as u64;
        let hot = Sampler::planned_bytes(capacity) + n_inserted.min(capacity as u64) * own_bytes;
        let fixed = Sampler::planned_bytes(capacity);
        let tree = fixed - Transitions::planned_bytes(capacity);
        match store.tier {
            Tier::Hot => hot,
            Tier::Compressed => {
                let rows = hot - tree;
                let packed = (rows as f64 * PLANNED_SHARE) as u64;
                tree + packed.max(store.begin_bytes()).min(rows)
                    + tiers::overhead_bytes(n_environments, local_width)
            }
            Tier::Mapped => {
                let rows = hot - tree;
                let filed = (rows as f64 * PLANNED_SHARE) as u64;
                let kept = rows.min(store.budget_bytes) + tiers::overhead_bytes(n_environments, local_width);
                tree + kept + rows / tiers::ROWS_BYTES_A_MAPPED_BYTE + filed.min(store.window_bytes)
            }
        }
    }

    /// Bytes of transitions and local rows by tier: in memory as they are, in memory encoded, in the file.
    #[must_use]
    pub fn tier_bytes(&self) -> TierBytes {
        let filed = self.sampler.transitions().stream();
        let ring = if filed.is_some() { 0 } else { self.sampler.transitions().bytes() };
        self.local.iter().chain(filed).map(FrameStream::tier_bytes).fold(
            TierBytes { hot: ring, ..TierBytes::default() },
            |sum, of| TierBytes {
                hot: sum.hot + of.hot,
                compressed: sum.compressed + of.compressed,
                mapped: sum.mapped + of.mapped,
            },
        )
    }

    /// Moves chunks down as far as the tier, its budget and wishes for bytes say, reserves what the next chunk of each
    /// stream will take, and returns the bytes of memory given back. To be called often: rows appended since the last
    /// time lie in memory, and only this encodes or maps them.
    ///
    /// # Errors
    /// [`memsys::Error::Refused`] where the memory limit has no room for the next rows even then; where the file cannot be
    /// written. The replay can be used as before.
    pub fn enforce_budget(&mut self) -> Result<u64> {
        self.tiers.enforce_budget(&mut self.sampler, &mut self.local)
    }

    /// Brings all rows to the file of the mapped tier and commits it, so that a state saved afterwards finds them
    /// there. It costs time in proportion to what is new. In other tiers nothing is done: the state holds the rows.
    ///
    /// # Errors
    /// Where the file cannot be written; what was committed before is kept.
    pub fn commit(&mut self) -> Result<()> {
        self.tiers.commit(&mut self.sampler, &mut self.local)
    }

    /// Writes the file anew as soon as half of it is of no use.
    #[cfg(test)]
    pub(super) fn waste_nothing(&mut self) {
        self.tiers.waste_nothing();
    }

    /// Who can be asked for bytes on another thread.
    #[must_use]
    pub fn buffer(&self) -> Arc<ReplayBuffer> {
        self.tiers.buffer()
    }

    /// The tier that its rows may go down to.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tiers.tier()
    }

    /// Bytes of priorities among them.
    #[must_use]
    pub fn priority_bytes(&self) -> u64 {
        self.sampler.priorities_bytes()
    }

    /// Bytes of the environments' local rows among them.
    #[must_use]
    pub fn own_bytes(&self) -> u64 {
        self.local.iter().map(FrameStream::bytes).sum()
    }

    /// Appends a row of an environment's local numbers and returns its position.
    pub fn append_local(&mut self, environment: u16, row: &[f32]) -> u32 {
        self.local[usize::from(environment)].append(row) as u32
    }

    /// Inserts a transition with the largest priority seen so far, over the oldest where the ring is full.
    pub fn insert(&mut self, transition: Transition) {
        let (index, old) = self.sampler.insert(transition);
        if let Some(old) = old {
            evict_local(&mut self.local, self.local_reach, &old);
        }
        self.copy(index);
    }

    /// [`Self::insert`] for many at once, faster and with the same result.
    pub fn insert_many(&mut self, transitions: impl IntoIterator<Item = Transition>) {
        if self.copies.is_some() {
            return transitions.into_iter().for_each(|transition| self.insert(transition));
        }
        let (local, reach) = (&mut self.local, self.local_reach);
        self.sampler.insert_many(transitions, |old| evict_local(local, reach, old));
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
    /// else holds its tensors: half the time of fresh memory. In the steady state nothing is allocated, but for chunks
    /// that are decoded whole.
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
        self.draw_into(n, importance_sampling_exponent, rng, batch)?;
        self.gather_into(batch)
    }

    /// Sets the priorities of sampled transitions by their TD errors. A slot that has been overwritten since
    /// is passed over.
    ///
    /// # Panics
    /// Where an error is not finite: the learner has diverged and must say so first.
    pub fn update_priorities(&mut self, slots: &[Slot], td_errors: &[f32]) {
        self.sampler.update_priorities(slots, td_errors);
    }

    /// Lets no transition be drawn any more that needs a chunk which cannot be read, and returns how many these are: the
    /// rest is served. Of 0 nothing can be excluded: draws are uniform, the chunk is no part of the replay's own file,
    /// or none needs it.
    pub fn exclude(&mut self, damage: &Damage) -> usize {
        let Some((stream, number)) = damage.chunk else { return 0 };
        let needs = |chunk_rows: usize, row: usize| (row / chunk_rows) as u64 == number;
        let mut excluded = Vec::new();
        for index in 0..self.len() {
            let slot = self.sampler.transitions().slot(index);
            let is_lost = match self.tiers.environment(stream) {
                None => self
                    .sampler
                    .transitions()
                    .stream()
                    .is_some_and(|rows| needs(rows.chunk_rows(), slot.number())),
                Some(environment) => {
                    let mut found = None;
                    // One that cannot be read itself is excluded when it is drawn.
                    let read =
                        self.sampler.transitions().read(&[index], |_, transition| found = Some(*transition));
                    found.filter(|_| read.is_ok()).is_some_and(|transition| {
                        let rows = self.local.get(environment);
                        rows.filter(|_| usize::from(transition.from.environment) == environment).is_some_and(
                            |rows| {
                                let ends =
                                    [transition.from.local, transition.to_local].map(|local| local as usize);
                                let first = (ends[0].min(ends[1]) + 1).saturating_sub(self.local_reach);
                                (first..=ends[0].max(ends[1])).any(|row| needs(rows.chunk_rows(), row))
                            },
                        )
                    })
                }
            };
            if is_lost {
                excluded.push(index);
            }
        }
        self.sampler.exclude(&excluded)
    }

    /// The priorities of the transitions held, in the ring's order; none where draws are uniform.
    #[must_use]
    pub fn priorities(&self) -> Option<impl Iterator<Item = f64>> {
        let priorities = self.sampler.priorities()?;
        Some((0..self.len()).map(|index| priorities.priority(index)))
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
        for (mut room, observation) in
            copies.at_mut(index).into_iter().zip([transition.from, transition.to()])
        {
            for (view, shape) in self.dataset.views().iter().enumerate() {
                let (now, rest) = room.split_at_mut(shape.n_numbers());
                copy_view(&self.dataset, &self.local, view, &observation, now);
                room = rest;
            }
        }
    }
}

fn copies(options: &ReplayOptions, dataset: &Dataset) -> Option<Copies> {
    options.copies_observations.then(|| Copies::new(dataset.views(), options.capacity_transitions))
}

fn copy_view(
    dataset: &Dataset,
    local: &[FrameStream],
    view: usize,
    observation: &ObservationRef,
    room: &mut [f32],
) {
    let shape = dataset.views()[view];
    match shape.clock {
        Clock::Local => local[usize::from(observation.environment)].copy_window(
            observation.local as usize,
            shape.length,
            shape.stride,
            room,
        ),
        Clock::Decision | Clock::Slow => {
            dataset.copy_window(view, observation.instrument, observation.t, room)
        }
    }
}

#[cfg(test)]
mod tests;
