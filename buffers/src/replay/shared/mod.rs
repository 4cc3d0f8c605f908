//! A replay for threads: many write, one samples, and one updates priorities.
//!
//! ```text
//! Writer (one per environment) ──blocks──┐
//! Writer ──blocks────────────────────────┤  core: two short locks        SharedSampler ──> Batch
//! Writer ──blocks────────────────────────┘  (protocol: see `core`)       copies and decodes without a lock
//!                           learner ──priorities with their slots──┘
//! ```
//!
//! A writer collects rows and transitions and publishes them in blocks, which never change afterwards. The sampler holds
//! the blocks of the drawn transitions while it copies them, even if the replay evicts them meanwhile. The order in which
//! the replay takes the blocks of different writers depends on the threads; a run that must be repeatable uses
//! [`Replay`](crate::replay::Replay). This replay does not copy whole observations and writes no file.

mod core;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use rand_pcg::Pcg64Mcg;

use self::core::{Block, Core, Lease, Published, StdLocks};
use crate::error::{Error, Result};
use crate::frames::{Clock, Dataset, View, position};
use crate::replay::batch::Batch;
use crate::replay::gather::gather;
use crate::replay::intake::{Intake, check_rows};
use crate::replay::sampler::Sampler;
use crate::replay::transitions::Slot;
use crate::replay::{ReplayOptions, Transition};
use crate::store::{Chunk, ChunkCache, Codec, RowKind, RowShape, codec};

/// Rows of a full block.
const BLOCK_ROWS: usize = 64;

/// Bytes of decompressed blocks that a sampler keeps.
const CACHE_BYTES: u64 = 16 << 20;

/// The replay that the threads share: updates priorities, reports sizes and compresses rows.
pub struct SharedReplay {
    dataset: Arc<Dataset>,
    core: Core<StdLocks>,
    local: RowShape,
}

impl SharedReplay {
    /// An empty replay over `dataset`, a writer for each environment, and the only sampler.
    ///
    /// # Errors
    /// [`Error::LocalRows`] if the views of `dataset` show other local rows than those of `options`.
    pub fn new(
        options: &ReplayOptions,
        dataset: Arc<Dataset>,
    ) -> Result<(Arc<Self>, Vec<Writer>, SharedSampler)> {
        check_rows(options.store.local_kind, options.local_width, &dataset)?;
        let sampler = Sampler::new(options.capacity_transitions, options.priority_exponent);
        let local = RowShape { kind: RowKind::F32, width: options.local_width };
        let core = Core::new(sampler, options.n_environments, dataset.local_reach());
        let shared = Arc::new(Self { dataset, core, local });
        let writer = |environment| Writer {
            shared: Arc::clone(&shared),
            environment: environment as u16,
            intake: Intake::default(),
            first_row: 0,
            rows: Vec::new(),
            transitions: Vec::new(),
        };
        let writers = (0..options.n_environments).map(writer).collect();
        let sampler = SharedSampler {
            shared: Arc::clone(&shared),
            cache: ChunkCache::new(CACHE_BYTES),
            leases: [Lease::default(), Lease::default()],
        };
        Ok((shared, writers, sampler))
    }

    /// Sets the priorities of sampled transitions from their TD errors. Ignores slots that were overwritten since.
    ///
    /// # Errors
    /// [`Error::WrongTdErrors`] if one is not finite, or they are not as many as the slots. Nothing has changed then.
    pub fn update_priorities(&self, slots: &[Slot], td_errors: &[f32]) -> Result<()> {
        self.core.update_priorities(slots, td_errors)
    }

    /// Compresses local rows, the oldest first, until they take at most `limit_bytes` or none is hot any more. Holds no
    /// lock while it encodes. Returns the freed bytes.
    ///
    /// # Errors
    /// [`Error::Undecodable`], which would be a bug.
    pub fn compress(&self, limit_bytes: u64) -> Result<u64> {
        self.core.absorb()?;
        self.core.compress(limit_bytes, self.local, self.codec())
    }

    /// Number of transitions held, without those that still wait in the inbox.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.with_sampler(|sampler| sampler.transitions().len())
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of transitions ever inserted, without those that still wait in the inbox.
    #[must_use]
    pub fn n_inserted(&self) -> u64 {
        self.core.with_sampler(|sampler| sampler.transitions().n_inserted())
    }

    /// Bytes of the transitions, the priorities and the local rows. The dataset is shared and not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.core.with_sampler(Sampler::bytes) + self.core.row_bytes().iter().sum::<u64>()
    }

    /// Blocks are small and similar, so the codec that is fastest to decode is good enough.
    fn codec(&self) -> Codec {
        Codec { transform: codec::Transform::ByteShuffle, predictor: codec::Predictor::None, level: 1 }
    }
}

impl fmt::Debug for SharedReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReplay").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Writes the steps of one environment. Dropping it publishes what it still holds.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<SharedReplay>,
    environment: u16,
    intake: Intake,
    first_row: usize,
    rows: Vec<u8>,
    transitions: Vec<Transition>,
}

impl Writer {
    /// The number of the environment.
    #[must_use]
    pub fn environment(&self) -> u16 {
        self.environment
    }

    /// Appends the local row of an episode's first observation, as
    /// [`Replay::begin_episode`](crate::replay::Replay::begin_episode) does.
    ///
    /// # Errors
    /// As [`Self::append_local`].
    pub fn begin_episode(&mut self, row: &[f32]) -> Result<u32> {
        for _ in 1..self.shared.dataset.local_reach() {
            self.append_local(row)?;
        }
        let low = self.append_local(row)?;
        self.intake.begin_episode(self.first_row + self.n_rows() - 1);
        Ok(low)
    }

    /// Appends the local row of any later observation and returns the lowest 32 bits of its position.
    ///
    /// # Errors
    /// [`Error::LocalRows`] if `row` has another width; as [`Self::flush`].
    pub fn append_local(&mut self, row: &[f32]) -> Result<u32> {
        let RowShape { kind, width } = self.shared.local;
        if row.len() != width {
            let what = format!("a row of {} numbers, where rows have {width}", row.len());
            return Err(Error::LocalRows { what });
        }
        if self.n_rows() == BLOCK_ROWS {
            self.flush()?;
        }
        kind.narrow(row, &mut self.rows);
        Ok((self.first_row + self.n_rows() - 1) as u32)
    }

    /// Inserts a transition with the largest priority seen so far. Its local rows must have been appended before.
    ///
    /// # Errors
    /// [`Error::WrongTransition`] if it cannot be the environment's next one; as [`Self::flush`].
    pub fn insert(&mut self, transition: Transition) -> Result<()> {
        if transition.from.environment != self.environment {
            let what = format!("environment {} is not the writer's", transition.from.environment);
            return Err(Error::LocalRows { what });
        }
        let (reach, dataset) = (self.shared.dataset.local_reach(), &self.shared.dataset);
        self.intake.take(&transition, 0..self.first_row + self.n_rows(), reach, dataset)?;
        if self.transitions.len() == BLOCK_ROWS {
            self.flush()?;
        }
        self.transitions.push(transition);
        Ok(())
    }

    /// Publishes the rows and transitions that it still holds, at most 64 of each.
    ///
    /// # Errors
    /// If the system gives no memory for transitions. They wait, and the next call of any thread tries it again.
    pub fn flush(&mut self) -> Result<()> {
        let n_rows = self.n_rows();
        if n_rows + self.transitions.len() == 0 {
            return Ok(());
        }
        let rows = Arc::new(Chunk::Hot(std::mem::take(&mut self.rows)));
        let block = Block { environment: self.environment, first_row: self.first_row, n_rows, rows };
        let transitions = std::mem::take(&mut self.transitions);
        self.first_row += n_rows;
        self.shared.core.publish(Published { block, transitions })
    }

    fn n_rows(&self) -> usize {
        self.rows.len() / self.shared.local.row_bytes().max(1)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What cannot be taken yet waits for the next call of another thread.
        let _ = self.flush();
    }
}

/// Draws transitions and gathers their observations.
#[derive(Debug)]
pub struct SharedSampler {
    shared: Arc<SharedReplay>,
    cache: ChunkCache,
    leases: [Lease; 2],
}

impl SharedSampler {
    /// Draws `n` transitions by priority from all that were published, and gathers their observations into `batch`, whose
    /// memory it reuses as [`Replay::sample_into`](crate::replay::Replay::sample_into) does.
    ///
    /// # Errors
    /// [`Error::Empty`], or if libtorch refuses the memory. The batch must not be used then.
    pub fn sample_into(
        &mut self,
        n: usize,
        importance_sampling_exponent: f64,
        rng: &mut Pcg64Mcg,
        batch: &mut impl Batch,
    ) -> Result<()> {
        let SharedReplay { dataset, core, local } = &*self.shared;
        let mut drawn = batch.reset(dataset.views().len());
        let [now, next] = &mut self.leases;
        core.draw(n, importance_sampling_exponent, rng, &mut drawn, [now, next])?;
        for (index, view) in dataset.views().iter().enumerate() {
            let windows = batch.windows_mut(index, view, n)?;
            let observation_refs = [&drawn.observation_refs[..], &drawn.next_observation_refs];
            if view.clock != Clock::Local {
                gather(dataset, &[], index, observation_refs, windows)?;
                continue;
            }
            for ((lease, observation_refs), out) in self.leases.iter().zip(observation_refs).zip(windows) {
                let windows = observation_refs.iter().zip(out.chunks_exact_mut(view.n_numbers()));
                for (i, (observation_ref, out)) in windows.enumerate() {
                    copy_window(&self.cache, *local, lease.blocks(i), view, observation_ref.local, out)?;
                }
            }
        }
        self.leases.iter_mut().for_each(Lease::clear);
        batch.put_columns(drawn)
    }
}

/// Copies the window of a local view that ends with row `end` from the blocks that hold its rows, without a lock.
fn copy_window(
    cache: &ChunkCache,
    shape: RowShape,
    blocks: &[Block],
    view: &View,
    end: u32,
    out: &mut [f32],
) -> Result<()> {
    let end = position(end, blocks.last().map_or(0, |block| block.first_row + block.n_rows));
    let first = end.checked_sub((view.length - 1) * view.stride).expect("a window begins in its stream");
    let row_bytes = shape.row_bytes();
    let wanted = |i: usize| first + i * view.stride;
    let mut i = 0;
    for block in blocks {
        let after = block.first_row + block.n_rows;
        if i == view.length || wanted(i) >= after {
            continue;
        }
        let decoded;
        let rows: &[u8] = match &*block.rows {
            Chunk::Hot(rows) => rows,
            cold => {
                let key = (u64::from(block.environment), block.first_row as u64);
                decoded = cache.rows(key, || cold.rows().map(Cow::into_owned))?;
                &decoded
            }
        };
        while i < view.length && wanted(i) < after {
            let row = &rows[(wanted(i) - block.first_row) * row_bytes..][..row_bytes];
            shape.kind.widen(row, &mut out[i * shape.width..][..shape.width]);
            i += 1;
        }
    }
    assert_eq!(i, view.length, "rows that are drawn are held");
    Ok(())
}
