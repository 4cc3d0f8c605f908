//! The state that threads share, and the protocol by which they share it.
//!
//! ```text
//! writers ──publish──> inbox ──absorb──> state: transitions, priorities, blocks of local rows (Arc, immutable)
//!          short lock          state's lock      │ draw: slots, and the Arcs of the blocks that they refer to
//!                                                ▼
//!                              the sampler copies and decodes the blocks without a lock
//! ```
//!
//! The protocol:
//! - A writer publishes a block of rows before, or together with, the transitions that refer to it. Rows never change.
//! - Locks are taken in one order: the state's, then the inbox's. The blocks of one writer are absorbed in the order in
//!   which it published them.
//! - A reader holds the Arcs of its blocks. Eviction and compression remove a block from the state, never from a reader.
//!   Removed blocks are freed after the lock is released.
//! - A block is encoded without the lock, and replaced only if it is still the block that was encoded.
//! - A priority comes back with the transition's slot. An overwritten slot is ignored.
//!
//! The locks are a type parameter, so that the tests can use those of a model checker.

use std::collections::VecDeque;
#[cfg(tried_locks)]
use std::sync::TryLockError;
use std::sync::{Arc, LockResult, Mutex, MutexGuard, PoisonError};

use rand_pcg::Pcg64Mcg;

use crate::error::Result;
use crate::frames::{ObservationRef, position};
use crate::replay::Transition;
use crate::replay::sampler::{Drawn, Sampler};
use crate::replay::transitions::Slot;
use crate::store::{Chunk, Codec, RowShape};

/// When this many blocks wait in the inbox, the writer absorbs them itself.
const MOST_WAITING: usize = 64;

/// A lock around a value.
pub(super) trait Lock<T> {
    /// A lock around `value`.
    fn new(value: T) -> Self;
    /// Calls `work` with exclusive access to the value.
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R;
}

/// A kind of locks.
pub(super) trait Locks {
    /// A lock around a `T`.
    type Of<T>: Lock<T>;
}

/// The locks of the standard library.
#[derive(Debug)]
pub(super) struct StdLocks;

impl Locks for StdLocks {
    type Of<T> = Mutex<T>;
}

impl<T> Lock<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        // A panic under the lock is a bug of this module or the report of a diverged learner. It ends its own thread, which
        // reports it, and leaves the rows whole for the others.
        work(&mut lock(self).unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(not(tried_locks))]
fn lock<T>(mutex: &Mutex<T>) -> LockResult<MutexGuard<'_, T>> {
    mutex.lock()
}

/// Tries the lock again and again. ThreadSanitizer does not see a wait inside a standard library that was built without
/// it, and would report every wait as a race. `try_lock` is generic, so that it is built with this crate.
#[cfg(tried_locks)]
fn lock<T>(mutex: &Mutex<T>) -> LockResult<MutexGuard<'_, T>> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Err(poisoned),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
}

/// A block of rows and the transitions that a writer publishes with it.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) block: Block,
    pub(super) transitions: Vec<Transition>,
}

/// Consecutive local rows of an environment.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) environment: u16,
    pub(super) first_row: usize,
    pub(super) n_rows: usize,
    pub(super) rows: Arc<Chunk>,
}

/// The blocks that hold the local rows of drawn observations.
#[derive(Debug, Default)]
pub(super) struct Lease {
    blocks: Vec<Block>,
    /// Where the blocks of each observation end.
    ends: Vec<usize>,
}

impl Lease {
    /// The blocks of observation `i`, oldest first.
    pub(super) fn blocks(&self, i: usize) -> &[Block] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.blocks[start..self.ends[i]]
    }

    /// Releases all blocks.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.ends.clear();
    }
}

#[derive(Debug)]
struct State {
    sampler: Sampler,
    /// By environment, oldest first.
    local: Vec<VecDeque<Block>>,
    hot_bytes: u64,
    compressed_bytes: u64,
}

/// The shared state behind its locks.
pub(super) struct Core<L: Locks> {
    inbox: L::Of<Vec<Published>>,
    state: L::Of<State>,
    /// The most local rows that one observation can show.
    reach: usize,
}

impl<L: Locks> Core<L> {
    pub(super) fn new(sampler: Sampler, n_environments: usize, reach: usize) -> Self {
        let local = (0..n_environments).map(|_| VecDeque::new()).collect();
        let state = State { sampler, local, hot_bytes: 0, compressed_bytes: 0 };
        Self { inbox: L::Of::new(Vec::new()), state: L::Of::new(state), reach }
    }

    /// Publishes a writer's rows and transitions.
    ///
    /// # Errors
    /// If the system gives no memory. What was published waits then.
    pub(super) fn publish(&self, published: Published) -> Result<()> {
        let n_waiting = self.inbox.with(|inbox| {
            inbox.push(published);
            inbox.len()
        });
        if n_waiting >= MOST_WAITING { self.absorb() } else { Ok(()) }
    }

    /// Moves all that was published from the inbox to the state.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub(super) fn absorb(&self) -> Result<()> {
        let gone = self.state.with(|state| self.absorb_into(state));
        gone.map(drop)
    }

    /// Draws `n` transitions, and leases the local rows of their observations (`now`) and next observations (`next`).
    pub(super) fn draw(
        &self,
        n: usize,
        importance_sampling_exponent: f64,
        rng: &mut Pcg64Mcg,
        drawn: &mut Drawn,
        [now, next]: [&mut Lease; 2],
    ) -> Result<()> {
        now.clear();
        next.clear();
        let (outcome, gone) = self.state.with(|state| {
            let gone = match self.absorb_into(state) {
                Ok(gone) => gone,
                Err(error) => return (Err(error), Vec::new()),
            };
            let outcome = state.sampler.draw(n, importance_sampling_exponent, rng, drawn);
            if outcome.is_ok() && self.reach > 0 {
                let leases = [(now, &drawn.observation_refs), (next, &drawn.next_observation_refs)];
                for (lease, observation_refs) in leases {
                    observation_refs.iter().for_each(|of| state.lease(of, self.reach, lease));
                }
            }
            (outcome, gone)
        });
        drop(gone);
        outcome
    }

    /// Sets the priorities of drawn transitions. Ignores slots that were overwritten since.
    ///
    /// # Errors
    /// As [`Sampler::update_priorities`].
    pub(super) fn update_priorities(&self, slots: &[Slot], td_errors: &[f32]) -> Result<()> {
        self.state.with(|state| state.sampler.update_priorities(slots, td_errors))
    }

    /// Compresses blocks until the rows take at most `limit_bytes` or none is hot any more. Takes the oldest hot block of
    /// the environment that has the most. Returns the freed bytes.
    pub(super) fn compress(&self, limit_bytes: u64, shape: RowShape, codec: Codec) -> Result<u64> {
        let mut given_back = 0;
        loop {
            let Some(block) = self.state.with(|state| state.to_compress(limit_bytes)) else {
                return Ok(given_back);
            };
            let rows = Chunk::Compressed(block.rows.encoded(shape, codec)?.into());
            let (bytes, old) = self.state.with(|state| state.replace(&block, Arc::new(rows)));
            drop(old);
            given_back += bytes;
        }
    }

    /// Calls `look` with the transitions and priorities.
    pub(super) fn with_sampler<R>(&self, look: impl FnOnce(&Sampler) -> R) -> R {
        self.state.with(|state| look(&state.sampler))
    }

    /// Bytes of hot and of compressed rows.
    pub(super) fn row_bytes(&self) -> [u64; 2] {
        self.state.with(|state| [state.hot_bytes, state.compressed_bytes])
    }

    /// Absorbs the inbox under the state's lock. Returns the blocks that are not needed any more, to be freed without it.
    fn absorb_into(&self, state: &mut State) -> Result<Vec<Block>> {
        let n_waiting: usize =
            self.inbox.with(|inbox| inbox.iter().map(|published| published.transitions.len()).sum());
        state.sampler.reserve(n_waiting)?;
        let mut gone = Vec::new();
        let published = self.inbox.with(std::mem::take);
        for Published { block, transitions } in published {
            if block.n_rows > 0 {
                state.hold(&block, 1);
                state.local[usize::from(block.environment)].push_back(block);
            }
            let State { sampler, local, .. } = state;
            sampler.insert_many(transitions, |old| {
                let blocks = &mut local[usize::from(old.from.environment)];
                let needed = (row_of(blocks, old.from.local) + 1).saturating_sub(self.reach);
                while blocks.front().is_some_and(|block| block.first_row + block.n_rows <= needed) {
                    gone.extend(blocks.pop_front());
                }
            })?;
        }
        for block in &gone {
            state.hold(block, -1);
        }
        Ok(gone)
    }
}

/// The position of a local row among the blocks of its environment, by its lowest 32 bits.
fn row_of(blocks: &VecDeque<Block>, low: u32) -> usize {
    position(low, blocks.back().map_or(0, |block| block.first_row + block.n_rows))
}

impl State {
    fn hold(&mut self, block: &Block, sign: i64) {
        let bytes = block.rows.bytes() as i64 * sign;
        let held = match *block.rows {
            Chunk::Hot(_) => &mut self.hot_bytes,
            _ => &mut self.compressed_bytes,
        };
        *held = held.checked_add_signed(bytes).expect("what is let go was held");
    }

    fn lease(&self, observation_ref: &ObservationRef, reach: usize, lease: &mut Lease) {
        let blocks = &self.local[usize::from(observation_ref.environment)];
        let after = row_of(blocks, observation_ref.local) + 1;
        let first = after.saturating_sub(reach);
        let start = blocks.partition_point(|block| block.first_row + block.n_rows <= first);
        lease.blocks.extend(blocks.range(start..).take_while(|block| block.first_row < after).cloned());
        lease.ends.push(lease.blocks.len());
    }

    fn to_compress(&self, limit_bytes: u64) -> Option<Block> {
        if self.hot_bytes + self.compressed_bytes <= limit_bytes {
            return None;
        }
        // The oldest blocks are compressed first, so the hot ones are the last.
        let first_hot =
            |blocks: &VecDeque<Block>| blocks.partition_point(|block| !matches!(*block.rows, Chunk::Hot(_)));
        let hottest = self.local.iter().max_by_key(|blocks| blocks.len() - first_hot(blocks))?;
        hottest.get(first_hot(hottest)).cloned()
    }

    /// Replaces the rows of a block that is still held. Returns the freed bytes and the old block.
    fn replace(&mut self, block: &Block, rows: Arc<Chunk>) -> (u64, Option<Block>) {
        let blocks = &mut self.local[usize::from(block.environment)];
        let at = blocks.partition_point(|held| held.first_row < block.first_row);
        match blocks.get_mut(at) {
            Some(held) if Arc::ptr_eq(&held.rows, &block.rows) => {
                let new = Block { rows, ..block.clone() };
                let old = std::mem::replace(held, new.clone());
                self.hold(&old, -1);
                self.hold(&new, 1);
                (old.rows.bytes().saturating_sub(new.rows.bytes()), Some(old))
            }
            _ => (0, None),
        }
    }
}
