//! What threads share of a replay, and the protocol by which they do. It knows nothing of tensors.
//!
//! ```text
//! writers ──publish──> inbox ──absorb──> state: transitions, priorities, blocks of local rows (Arc, immutable)
//!          short lock          state's lock      │ draw: slots, and the Arcs of the blocks that they show
//!                                                ▼
//!                              copied and decoded by the sampler, with no lock held
//! ```
//!
//! The protocol:
//! - A block is published whole: its rows before, or with, the transitions that show them. Rows never change.
//! - Locks are taken in one order: the state's, then the inbox's. A writer's blocks are taken in in the order in
//!   which it published them.
//! - Whoever has drawn holds Arcs: eviction and change of tier take a block out of the state, never out of a reader's
//!   hands. What is taken out is freed after the lock.
//! - A block is encoded outside the lock and put in its place only where it is still the block that was encoded.
//! - A priority comes back with the transition's number; one that has been overwritten is passed over.
//!
//! The locks are a parameter, so that the tests can put in those of a model checker.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rand_pcg::Pcg64Mcg;

use crate::error::Result;
use crate::frames::ObservationRef;
use crate::replay::Transition;
use crate::replay::sampler::{Drawn, Sampler};
use crate::replay::transitions::Slot;
use crate::store::{Chunk, Codec, RowShape};

/// Blocks that wait in the inbox at most before a writer takes them in itself.
const MOST_WAITING: usize = 64;

/// A lock around a value.
pub(super) trait Lock<T> {
    /// A lock around `value`.
    fn new(value: T) -> Self;
    /// Works on the value while nobody else does.
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R;
}

/// Which locks there are.
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
        // A panic under the lock is a bug of this module or a diverged learner's; it ends its own thread, which says
        // so, and the others find whole rows.
        work(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a writer publishes at once.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) block: Block,
    pub(super) transitions: Vec<Transition>,
}

/// Neighbouring rows of an environment's local stream.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) environment: u16,
    pub(super) first_row: usize,
    pub(super) n_rows: usize,
    pub(super) rows: Arc<Chunk>,
}

/// The blocks that hold the rows of what was drawn, place by place.
#[derive(Debug, Default)]
pub(super) struct Lease {
    blocks: Vec<Block>,
    /// Where each place's blocks end.
    ends: Vec<usize>,
}

impl Lease {
    /// The blocks of place `i`, oldest first.
    pub(super) fn blocks(&self, i: usize) -> &[Block] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.blocks[start..self.ends[i]]
    }

    /// Lets all blocks go.
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

/// What threads share.
pub(super) struct Core<L: Locks> {
    inbox: L::Of<Vec<Published>>,
    state: L::Of<State>,
    /// Rows up to a place's own that its windows may show.
    reach: usize,
}

impl<L: Locks> Core<L> {
    pub(super) fn new(sampler: Sampler, n_environments: usize, reach: usize) -> Self {
        let local = (0..n_environments).map(|_| VecDeque::new()).collect();
        let state = State { sampler, local, hot_bytes: 0, compressed_bytes: 0 };
        Self { inbox: L::Of::new(Vec::new()), state: L::Of::new(state), reach }
    }

    /// Gives a writer's rows and transitions to the others.
    pub(super) fn publish(&self, published: Published) {
        let n_waiting = self.inbox.with(|inbox| {
            inbox.push(published);
            inbox.len()
        });
        if n_waiting >= MOST_WAITING {
            self.absorb();
        }
    }

    /// Takes in what was published.
    pub(super) fn absorb(&self) {
        let gone = self.state.with(|state| self.absorb_into(state));
        drop(gone);
    }

    /// Draws `n` transitions, and takes hold of the rows that they and the observations after them show.
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
            let gone = self.absorb_into(state);
            let outcome = state.sampler.draw(n, importance_sampling_exponent, rng, drawn);
            if outcome.is_ok() && self.reach > 0 {
                for (lease, observation_refs) in
                    [(now, &drawn.observation_refs), (next, &drawn.next_observation_refs)]
                {
                    observation_refs
                        .iter()
                        .for_each(|observation| state.lease(observation, self.reach, lease));
                }
            }
            (outcome, gone)
        });
        drop(gone);
        outcome
    }

    /// Sets the priorities of drawn transitions. One that has been overwritten is passed over.
    pub(super) fn update_priorities(&self, slots: &[Slot], td_errors: &[f32]) {
        self.state.with(|state| state.sampler.update_priorities(slots, td_errors));
    }

    /// Compresses blocks, each time the oldest of the environment that holds most of hot ones, until at most
    /// `limit_bytes` of rows are held or none is hot any more. Returns the bytes given back.
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

    /// Looks at the transitions and priorities.
    pub(super) fn with_sampler<R>(&self, look: impl FnOnce(&Sampler) -> R) -> R {
        self.state.with(|state| look(&state.sampler))
    }

    /// Bytes of hot and of compressed rows.
    pub(super) fn row_bytes(&self) -> [u64; 2] {
        self.state.with(|state| [state.hot_bytes, state.compressed_bytes])
    }

    /// Takes in what was published, under the state's lock; gives what is not needed any more, to be freed outside.
    fn absorb_into(&self, state: &mut State) -> Vec<Block> {
        let mut gone = Vec::new();
        let published = self.inbox.with(std::mem::take);
        for Published { block, transitions } in published {
            if block.n_rows > 0 {
                state.hold(&block, 1);
                state.local[usize::from(block.environment)].push_back(block);
            }
            let State { sampler, local, .. } = state;
            sampler.insert_many(transitions, |old| {
                let observation = old.from;
                let blocks = &mut local[usize::from(observation.environment)];
                let needed = (observation.local as usize + 1).saturating_sub(self.reach);
                while blocks.front().is_some_and(|block| block.first_row + block.n_rows <= needed) {
                    gone.extend(blocks.pop_front());
                }
            });
        }
        for block in &gone {
            state.hold(block, -1);
        }
        gone
    }
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

    fn lease(&self, observation: &ObservationRef, reach: usize, lease: &mut Lease) {
        let blocks = &self.local[usize::from(observation.environment)];
        let (first, after) =
            ((observation.local as usize + 1).saturating_sub(reach), observation.local as usize + 1);
        let start = blocks.partition_point(|block| block.first_row + block.n_rows <= first);
        lease.blocks.extend(blocks.range(start..).take_while(|block| block.first_row < after).cloned());
        lease.ends.push(lease.blocks.len());
    }

    fn to_compress(&self, limit_bytes: u64) -> Option<Block> {
        if self.hot_bytes + self.compressed_bytes <= limit_bytes {
            return None;
        }
        // Blocks are compressed oldest first, so the hot ones are the last.
        let first_hot =
            |blocks: &VecDeque<Block>| blocks.partition_point(|block| !matches!(*block.rows, Chunk::Hot(_)));
        let hottest = self.local.iter().max_by_key(|blocks| blocks.len() - first_hot(blocks))?;
        hottest.get(first_hot(hottest)).cloned()
    }

    /// Puts rows in the place of a block's, where it is still there. Gives the bytes saved and what is not needed.
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
