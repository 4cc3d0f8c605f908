//! Prioritized replay: draws transitions by priority and gathers their observations into a batch.

mod other_tier;
mod split;
mod validate;

pub use split::{Draws, Rows};

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::frames::{Clock, Dataset, FrameStream, ObservationRef, TierBytes, View};
use crate::replay::Transition;
use crate::replay::batch::Batch;
use crate::replay::copied_observations::CopiedObservations;
use crate::replay::intake::{Intake, check_rows};
use crate::replay::n_step::MOST_N_STEP;
use crate::replay::sampler::Sampler;
use crate::replay::sum_tree::SumTree;
#[cfg(test)]
use crate::replay::tiers::ReplayBuffer;
use crate::replay::tiers::{self, Committed, Tiers, evict_local};
use crate::replay::transitions::{Slot, Transitions};
use crate::store::file::writer::Opened;
use crate::store::{CommitId, Damage, StoreOptions, Tier};

/// Options of a replay.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayOptions {
    /// The most transitions that it keeps. A new transition overwrites the oldest.
    pub capacity_transitions: usize,
    /// α, from 0 (uniform) to 1 (proportional).
    pub priority_exponent: f64,
    /// Number of environments that write into it.
    pub n_environments: usize,
    /// Numbers per local row of an environment.
    pub local_width: usize,
    /// Whether to copy whole observations into each transition, the usual design, instead of reading windows over the
    /// streams.
    pub copies_observations: bool,
    /// The tiers that rows may go to, and the budget.
    pub store: StoreOptions,
}

/// The share of their bytes that a plan assumes for compressed rows.
const PLANNED_SHARE: f64 = 0.6;

/// Prioritized replay.
#[derive(Debug, Serialize, Deserialize)]
pub struct Replay {
    #[serde(skip)]
    dataset: Arc<Dataset>,
    sampler: Sampler,
    local: Vec<FrameStream>,
    /// What was taken of each environment.
    intakes: Vec<Intake>,
    /// The last commit of the file, in the mapped tier.
    commit: Option<CommitId>,
    /// The most local rows that one observation can show.
    #[serde(skip)]
    local_reach: usize,
    /// Rebuilt from the streams when a saved replay is read back.
    #[serde(skip)]
    copies: Option<CopiedObservations>,
    #[serde(skip)]
    tiers: Tiers,
    /// Whether the last batch waited for the disk, so that the next one reads ahead.
    #[serde(skip)]
    is_cold: AtomicBool,
}

impl Replay {
    /// An empty replay over `dataset`. The file of the mapped tier is created when rows first go there, and replaces an
    /// older file.
    ///
    /// # Errors
    /// [`memsys::Error::Refused`] if the memory limit has no room for the first transitions and rows; [`Error::NoFile`];
    /// [`Error::LocalRows`] if the views of `dataset` show other local rows than those of `options`.
    pub fn new(options: &ReplayOptions, dataset: Arc<Dataset>) -> Result<Self> {
        check_rows(options.store.local_kind, options.local_width, &dataset)?;
        if options.store.tier == Tier::Mapped && options.store.file.is_none() {
            return Err(Error::NoFile);
        }
        let mut tiers = Tiers::new(options.store.clone(), options.n_environments, dataset.local_reach());
        let (capacity, exponent) = (options.capacity_transitions, options.priority_exponent);
        let is_streamed = options.store.tier != Tier::Hot && !options.copies_observations;
        let transitions = match is_streamed {
            true => Transitions::streamed(capacity, tiers.transition_stream()),
            false => Transitions::new(capacity),
        };
        let mut sampler = Sampler::over(transitions, exponent);
        let mut local: Vec<FrameStream> =
            (0..options.n_environments).map(|_| tiers.local_stream(options.local_width)).collect();
        tiers.hold(&mut sampler, &mut local)?;
        let intakes = vec![Intake::default(); options.n_environments];
        let copies = copies(options, &dataset);
        let is_cold = AtomicBool::new(true);
        let local_reach = dataset.local_reach();
        Ok(Self { local_reach, dataset, sampler, local, intakes, commit: None, copies, tiers, is_cold })
    }

    /// Gives a restored replay what is not saved with it: the dataset, and the rows that its file keeps. Its rows may go to
    /// another tier than they came from. Returns what was found on opening the file. [`Self::enforce_budget`] is due next.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a run of another size saved the replay; [`Error::MissingFile`] and
    /// [`Error::OtherHistory`] if its file is not there or not the one that it was saved with;
    /// [`Error::ImpossibleTransition`] if a transition refers to rows that neither the dataset nor the replay has; if the
    /// file cannot be opened or lacks what was committed.
    pub fn reattach(&mut self, options: &ReplayOptions, dataset: Arc<Dataset>) -> Result<Opened> {
        let differs = |what, found, wanted| {
            if found == wanted { Ok(()) } else { Err(Error::Mismatch { what, found, wanted }) }
        };
        differs("capacity", self.sampler.transitions().capacity(), options.capacity_transitions)?;
        differs("environments", self.local.len(), options.n_environments)?;
        differs("environments that give transitions", self.intakes.len(), options.n_environments)?;
        check_rows(options.store.local_kind, options.local_width, &dataset)?;
        let n_of_kind = self.local.iter().filter(|local| local.kind() == options.store.local_kind).count();
        differs("local streams of the configured kind", n_of_kind, options.n_environments)?;
        differs(
            "numbers per local row",
            self.local.first().map_or(0, FrameStream::width),
            options.local_width,
        )?;
        self.change_tier(options, dataset.local_reach())?;
        let mut tiers = Tiers::new(options.store.clone(), options.n_environments, dataset.local_reach());
        let opened = tiers.adopt(&mut self.sampler, &mut self.local, self.commit)?;
        self.tiers = tiers;
        self.is_cold = AtomicBool::new(true);
        self.copies = copies(options, &dataset);
        self.local_reach = dataset.local_reach();
        self.dataset = dataset;
        self.validate()?;
        for index in 0..self.len() {
            self.copy(index)?;
        }
        Ok(opened)
    }

    /// Number of transitions held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sampler.transitions().len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sampler.transitions().is_empty()
    }

    /// Number of transitions ever inserted.
    #[must_use]
    pub fn n_inserted(&self) -> u64 {
        self.sampler.transitions().n_inserted()
    }

    /// Bytes of memory of the transitions, the priorities and the local rows. The dataset is shared and not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sampler.bytes() + self.local_bytes() + self.copies.as_ref().map_or(0, CopiedObservations::bytes)
    }

    /// The most bytes of memory of a replay with these options after `n_inserted` transitions, with the rows and
    /// transitions that it reserves ahead. It assumes that rows compress to 0.6 of their bytes.
    #[must_use]
    pub fn planned_bytes(options: &ReplayOptions, n_inserted: u64) -> u64 {
        let ReplayOptions { store, capacity_transitions: capacity, n_environments, local_width, .. } =
            options;
        let (capacity, n_environments, local_width) = (*capacity, *n_environments, *local_width);
        let local_row_bytes = local_width * store.local_kind.number_bytes();
        let filled = usize::try_from(n_inserted).unwrap_or(usize::MAX).min(capacity);
        let with_ahead = filled.saturating_add(MOST_N_STEP * n_environments);
        let is_prioritized = options.priority_exponent != 0.0;
        let tree = if is_prioritized { SumTree::planned_bytes(capacity, with_ahead) } else { 0 };
        let ring = Transitions::planned_bytes(capacity, with_ahead);
        let rows = ring + (filled * local_row_bytes) as u64;
        match store.tier {
            Tier::Hot => {
                let chunk_rows = tiers::hot_chunk_rows(store.local_kind, local_width, n_environments);
                // Of each environment, the unfinished chunk and the one ahead; and where the ring has wrapped, the oldest
                // chunk, of which some rows are needed no more.
                let ahead = 3 * n_environments * chunk_rows * local_row_bytes;
                tree + rows + ahead as u64
            }
            Tier::Compressed => {
                let packed = (rows as f64 * PLANNED_SHARE) as u64;
                tree + packed.max(store.begin_bytes()).min(rows)
                    + tiers::overhead_bytes(n_environments, local_width)
            }
            Tier::Mapped => {
                let filed = (rows as f64 * PLANNED_SHARE) as u64;
                let kept = rows.min(store.budget_bytes) + tiers::overhead_bytes(n_environments, local_width);
                tree + kept + rows / tiers::ROW_BYTES_PER_MAPPED_BYTE + filed.min(store.window_bytes)
            }
        }
    }

    /// Bytes of transitions and local rows by tier.
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

    /// Moves chunks down the tiers until the budget and the requests for bytes are met, reserves the bytes of the next chunk
    /// of each stream, and returns the freed bytes of memory. Call it often: appended rows stay hot until this compresses
    /// or maps them.
    ///
    /// # Errors
    /// [`memsys::Error::Refused`] if the memory limit has no room for the next rows even then; if the file cannot be
    /// written. The replay stays usable.
    pub fn enforce_budget(&mut self) -> Result<u64> {
        self.tiers.enforce_budget(&mut self.sampler, &mut self.local)
    }

    /// Appends all new rows to the file of the mapped tier and commits it, so that a state saved afterwards finds them
    /// there. In other tiers it does nothing, because the state itself holds the rows. A file that is mostly garbage is then
    /// compacted. Returns why that was not possible, once until it is: it is tried again at later commits.
    ///
    /// # Errors
    /// If the file cannot be written. What was committed before stays.
    pub fn commit(&mut self) -> Result<Option<Error>> {
        let Committed { commit, not_compacted } = self.tiers.commit(&mut self.sampler, &mut self.local)?;
        self.commit = commit;
        Ok(not_compacted)
    }

    /// The last commit of the file, which the saved state refers to; `None` if the rows lie in no file.
    #[must_use]
    pub fn commit_id(&self) -> Option<CommitId> {
        self.commit
    }

    /// Gives the next local row of every environment a position.
    #[cfg(test)]
    pub(super) fn begin_rows_at(&mut self, position: usize) {
        for rows in &mut self.local {
            let empty = std::mem::replace(rows, FrameStream::new(0));
            *rows = empty.beginning_at(position);
        }
    }

    /// Compacts the file as soon as half of it is garbage.
    #[cfg(test)]
    pub(super) fn keep_no_garbage(&mut self) {
        self.tiers.keep_no_garbage();
    }

    /// The saved state but for the random name of the last commit.
    #[cfg(test)]
    pub(super) fn state_without_commit(&mut self) -> Vec<u8> {
        let commit = self.commit.take();
        let state = postcard::to_stdvec(&*self).expect("a committed replay can be saved");
        self.commit = commit;
        state
    }

    #[cfg(test)]
    pub(super) fn buffer(&self) -> Arc<ReplayBuffer> {
        self.tiers.buffer()
    }

    /// The lowest tier that its rows may go to.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tiers.tier()
    }

    /// Bytes of the priorities.
    #[must_use]
    pub fn priority_bytes(&self) -> u64 {
        self.sampler.priorities_bytes()
    }

    /// Bytes of memory of the environments' local rows.
    #[must_use]
    pub fn local_bytes(&self) -> u64 {
        self.local.iter().map(FrameStream::bytes).sum()
    }

    /// Appends the local row of an episode's first observation and returns the lowest 32 bits of its position, as an
    /// [`ObservationRef`] holds them. Where a view shows several local rows, the row is also the one that those before it
    /// show, so that no observation shows rows of the episode before.
    ///
    /// # Errors
    /// [`Error::LocalRows`] if the row or the environment is none of this replay; [`memsys::Error::Refused`] if the system
    /// gives no memory.
    pub fn begin_episode(&mut self, environment: u16, row: &[f32]) -> Result<u32> {
        for _ in 1..self.local_reach {
            self.append_local(environment, row)?;
        }
        let low = self.append_local(environment, row)?;
        let environment = usize::from(environment);
        self.intakes[environment].begin_episode(self.local[environment].position(low));
        Ok(low)
    }

    /// Appends the local row of any later observation of an episode and returns the lowest 32 bits of its position.
    ///
    /// # Errors
    /// As [`Self::begin_episode`].
    pub fn append_local(&mut self, environment: u16, row: &[f32]) -> Result<u32> {
        let rows = self.local.get_mut(usize::from(environment)).ok_or_else(|| no_environment(environment))?;
        Ok(rows.try_append(row)? as u32)
    }

    /// Inserts a transition with the largest priority seen so far. It overwrites the oldest if the replay is full.
    ///
    /// # Errors
    /// [`Error::WrongTransition`] if it cannot be an environment's next one; [`memsys::Error::Refused`] if the system gives
    /// no memory. It is not inserted then.
    pub fn insert(&mut self, transition: Transition) -> Result<()> {
        self.sampler.reserve(1)?;
        take(&mut self.intakes, &self.local, self.local_reach, &self.dataset, &transition)?;
        let (index, old) = self.sampler.insert(transition);
        if let Some(old) = old {
            evict_local(&mut self.local, self.local_reach, &old);
        }
        self.copy(index)
    }

    /// Inserts many transitions at once, which is faster than [`Self::insert`] and has the same result.
    ///
    /// # Errors
    /// As [`Self::insert`]. Those before the refused one are inserted.
    pub fn insert_many(&mut self, transitions: impl IntoIterator<Item = Transition>) -> Result<()> {
        if self.copies.is_some() {
            return transitions.into_iter().try_for_each(|transition| self.insert(transition));
        }
        let Self { dataset, sampler, local, intakes, local_reach: reach, .. } = self;
        // The rows of a transition are checked, and those of the one that it overwrites are evicted, in turns.
        let local = RefCell::new(local);
        let mut refused = None;
        let checked = transitions.into_iter().map_while(|transition| {
            let taken = take(intakes, &local.borrow(), *reach, dataset, &transition);
            taken.map_err(|error| refused = Some(error)).ok().map(|()| transition)
        });
        sampler.insert_many(checked, |old| evict_local(&mut local.borrow_mut(), *reach, old))?;
        refused.map_or(Ok(()), Err)
    }

    /// Draws `n` transitions by priority and gathers their observations.
    ///
    /// # Errors
    /// [`Error::Empty`], or if libtorch refuses the memory.
    pub fn sample<B: Batch + Default>(
        &self,
        n: usize,
        importance_sampling_exponent: f64,
        rng: &mut Pcg64Mcg,
    ) -> Result<B> {
        let mut batch = B::default();
        self.sample_into(n, importance_sampling_exponent, rng, &mut batch)?;
        Ok(batch)
    }

    /// [`Self::sample`] into the memory of a batch that is not needed any more, which takes half the time of fresh memory.
    /// Tensors that have another shape, or that something else holds, are replaced. In the steady state it allocates
    /// nothing, except for chunks that are decoded as a whole.
    ///
    /// # Errors
    /// As [`Self::sample`]. The batch must not be used then.
    pub fn sample_into(
        &self,
        n: usize,
        importance_sampling_exponent: f64,
        rng: &mut Pcg64Mcg,
        batch: &mut impl Batch,
    ) -> Result<()> {
        self.draw_into(n, importance_sampling_exponent, rng, batch)?;
        self.gather_into(batch)
    }

    /// Sets the priorities of sampled transitions from their TD errors. Ignores slots that were overwritten since.
    ///
    /// # Errors
    /// [`Error::WrongTdErrors`] if one is not finite, or they are not as many as the slots. Nothing has changed then.
    pub fn update_priorities(&mut self, slots: &[Slot], td_errors: &[f32]) -> Result<()> {
        self.sampler.update_priorities(slots, td_errors)
    }

    /// Excludes the transitions that need an unreadable chunk of the file at `path` from draws until they are overwritten, and
    /// returns how many these are. 0 means that none can be excluded: the file is not the replay's own, or no transition
    /// that can be drawn needs the chunk.
    pub fn exclude(&mut self, path: &Path, damage: &Damage) -> usize {
        let Some((stream, number)) = damage.chunk.filter(|_| self.tiers.owns(path)) else { return 0 };
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
                    // A transition that cannot be read itself is excluded when it is drawn.
                    let read =
                        self.sampler.transitions().read(&[index], |_, transition| found = Some(*transition));
                    found.filter(|_| read.is_ok()).is_some_and(|transition| {
                        let rows = self.local.get(environment);
                        rows.filter(|_| usize::from(transition.from.environment) == environment).is_some_and(
                            |rows| {
                                let ends = [transition.from.local, transition.to_local]
                                    .map(|low| rows.position(low));
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

    /// Whether a path is that of the file of the mapped tier.
    #[must_use]
    pub fn owns_file(&self, path: &Path) -> bool {
        self.tiers.owns(path)
    }

    /// The priorities of the transitions held, in the ring's order, or `None` if draws are uniform.
    #[must_use]
    pub fn priorities(&self) -> Option<impl Iterator<Item = f64>> {
        let priorities = self.sampler.priorities()?;
        Some((0..self.len()).map(|index| priorities.priority(index)))
    }

    /// The slot of the transition at an index of the ring.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn slot(&self, index: usize) -> Slot {
        self.sampler.transitions().slot(index)
    }

    /// Copies the observations of a transition, if the replay copies observations.
    fn copy(&mut self, index: usize) -> Result<()> {
        let Some(copies) = &mut self.copies else { return Ok(()) };
        let transition = self.sampler.transitions().at(index);
        let observation_refs = [transition.from, transition.to()];
        for (mut out, observation_ref) in copies.at_mut(index).into_iter().zip(observation_refs) {
            for (view, shape) in self.dataset.views().iter().enumerate() {
                let (window, rest) = out.split_at_mut(shape.n_numbers());
                copy_view(&self.dataset, &self.local, view, &observation_ref, window)?;
                out = rest;
            }
        }
        Ok(())
    }
}

/// Checks a transition by what was taken of its environment before, and notes it.
fn take(
    intakes: &mut [Intake],
    local: &[FrameStream],
    reach: usize,
    dataset: &Dataset,
    transition: &Transition,
) -> Result<()> {
    let environment = transition.from.environment;
    match (intakes.get_mut(usize::from(environment)), local.get(usize::from(environment))) {
        (Some(intake), Some(rows)) => {
            intake.take(transition, rows.first_row()..rows.n_rows(), reach, dataset)
        }
        _ => Err(no_environment(environment)),
    }
}

fn no_environment(environment: u16) -> Error {
    Error::LocalRows { what: format!("environment {environment} does not exist") }
}

fn copies(options: &ReplayOptions, dataset: &Dataset) -> Option<CopiedObservations> {
    options
        .copies_observations
        .then(|| CopiedObservations::new(dataset.views(), options.capacity_transitions))
}

fn copy_view(
    dataset: &Dataset,
    local: &[FrameStream],
    view: usize,
    observation_ref: &ObservationRef,
    out: &mut [f32],
) -> Result<()> {
    let View { length, stride, clock, .. } = dataset.views()[view];
    let ObservationRef { instrument, environment, t, local: row } = *observation_ref;
    match clock {
        Clock::Local => {
            let rows = &local[usize::from(environment)];
            rows.try_copy_window(rows.position(row), length, stride, out)
        }
        Clock::Decision | Clock::Slow => dataset.copy_window(view, instrument, t, out),
    }
}

#[cfg(all(test, feature = "tensors"))]
mod tests;
