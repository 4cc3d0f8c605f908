//! The newest transitions, 32 bytes each, and the numbers by which they are called.
//!
//! They lie in a ring in memory, or, where a replay may go to a file, in a stream whose rows are their bytes and whose
//! positions are their numbers.

use serde::{Deserialize, Serialize};

use super::Transition;
use crate::error::{Error, Result};
use crate::frames::{FrameStream, Place};
use crate::store::RowKind;

/// Which transition: its number since the beginning. A number that has been overwritten is told from the
/// newer one at its place, so a late priority never lands on a newer transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(u64);

/// A transition that lies in one cache line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[repr(align(32))]
struct Row(Transition);

const ROW_BYTES: usize = 32;
const _: () = assert!(size_of::<Row>() == ROW_BYTES, "two transitions a cache line");

/// A stream for transitions, of which `1 << chunk_shift` go into a chunk.
pub(super) fn transition_stream(chunk_shift: u32) -> FrameStream {
    FrameStream::by_row(RowKind::U8, ROW_BYTES, chunk_shift)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Rows {
    /// At `number % capacity`.
    Ring(Vec<Row>),
    /// At `number`.
    Stream(Box<FrameStream>),
}

/// The newest `capacity` transitions; the oldest is overwritten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transitions {
    capacity: usize,
    rows: Rows,
    n_inserted: u64,
    /// Where the next one goes: `n_inserted` modulo `capacity`.
    next: usize,
}

impl Transitions {
    /// An empty ring.
    ///
    /// # Panics
    /// Where `capacity` is 0.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a ring holds at least one transition");
        Self { capacity, rows: Rows::Ring(Vec::with_capacity(capacity)), n_inserted: 0, next: 0 }
    }

    /// The same, in a stream of [`transition_stream`].
    ///
    /// # Panics
    /// Where `capacity` is 0.
    #[must_use]
    pub(super) fn streamed(capacity: usize, stream: FrameStream) -> Self {
        assert!(capacity > 0, "a ring holds at least one transition");
        Self { capacity, rows: Rows::Stream(Box::new(stream)), n_inserted: 0, next: 0 }
    }

    /// Transitions that it holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Transitions held.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.n_inserted as usize).min(self.capacity)
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_inserted == 0
    }

    /// Transitions ever inserted.
    #[must_use]
    pub fn n_inserted(&self) -> u64 {
        self.n_inserted
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.rows {
            Rows::Ring(rows) => (rows.capacity() * ROW_BYTES) as u64,
            Rows::Stream(stream) => stream.bytes(),
        }
    }

    /// Bytes of a ring of `capacity` transitions.
    #[must_use]
    pub fn planned_bytes(capacity: usize) -> u64 {
        (capacity * ROW_BYTES) as u64
    }

    /// The stream, where they lie in one.
    pub(super) fn stream_mut(&mut self) -> Option<&mut FrameStream> {
        match &mut self.rows {
            Rows::Ring(_) => None,
            Rows::Stream(stream) => Some(stream),
        }
    }

    /// The stream, where they lie in one.
    pub(super) fn stream(&self) -> Option<&FrameStream> {
        match &self.rows {
            Rows::Ring(_) => None,
            Rows::Stream(stream) => Some(stream),
        }
    }

    /// Inserts a transition; gives its index and, of a ring, the one that it overwrote. In a stream that goes with its
    /// chunk ([`Self::evict`]).
    pub fn push(&mut self, transition: Transition) -> (usize, Option<Transition>) {
        let index = self.next;
        let old = match &mut self.rows {
            Rows::Ring(rows) if index < rows.len() => {
                Some(std::mem::replace(&mut rows[index], Row(transition)).0)
            }
            Rows::Ring(rows) => {
                // A restored ring has room for its own rows alone; growing by doubling would pass the capacity.
                rows.reserve_exact(self.capacity - rows.len());
                rows.push(Row(transition));
                None
            }
            Rows::Stream(stream) => {
                stream.append_bytes(&to_bytes(&transition));
                None
            }
        };
        self.n_inserted += 1;
        self.next = if index + 1 == self.capacity { 0 } else { index + 1 };
        (index, old)
    }

    /// Gives back the chunks of a stream whose transitions have all been overwritten, and tells `gone` of each.
    ///
    /// # Errors
    /// Where the file cannot be read; what was not given back yet stays.
    pub(super) fn evict(&mut self, mut gone: impl FnMut(&Transition)) -> Result<()> {
        let Rows::Stream(stream) = &mut self.rows else { return Ok(()) };
        let first_live = self.n_inserted.saturating_sub(self.capacity as u64) as usize;
        while stream.first_row() + stream.chunk_rows() <= first_live {
            let n_rows = stream.chunk_rows();
            let end = stream.first_row() + n_rows;
            let mut rows = vec![0; n_rows * ROW_BYTES];
            match stream.copy_window_bytes(end - 1, n_rows, 1, &mut rows) {
                Ok(()) => rows.as_chunks().0.iter().for_each(|row| gone(&of_bytes(row))),
                // Nobody needs them any more; what they pointed to goes with the next chunk.
                Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            stream.evict_before(end);
        }
        Ok(())
    }

    /// The transition at an index of a ring in memory.
    ///
    /// # Panics
    /// Where none lies there, or they lie in a stream.
    #[must_use]
    pub fn at(&self, index: usize) -> &Transition {
        match &self.rows {
            Rows::Ring(rows) => &rows[index].0,
            Rows::Stream(_) => panic!("transitions in a file are read, and not pointed at"),
        }
    }

    /// Has the system begin to read those at `indices` that lie in a file.
    pub(super) fn will_need(&self, indices: &[usize]) {
        if let Rows::Stream(stream) = &self.rows {
            indices.iter().for_each(|index| stream.will_need(self.slot(*index).0 as usize, 1, 1));
        }
    }

    /// Gives `take` the transitions at `indices`, in order.
    ///
    /// # Errors
    /// Where a file holds them that cannot be read.
    ///
    /// # Panics
    /// Where none lies at an index.
    pub fn read(&self, indices: &[usize], mut take: impl FnMut(Slot, &Transition)) -> Result<()> {
        match &self.rows {
            Rows::Ring(rows) => indices.iter().for_each(|index| take(self.slot(*index), &rows[*index].0)),
            Rows::Stream(stream) => {
                let mut row = [0; ROW_BYTES];
                for index in indices {
                    let slot = self.slot(*index);
                    stream.copy_window_bytes(slot.0 as usize, 1, 1, &mut row)?;
                    take(slot, &of_bytes(&row));
                }
            }
        }
        Ok(())
    }

    /// The number of the transition at an index.
    ///
    /// # Panics
    /// Where none lies there.
    #[must_use]
    pub fn slot(&self, index: usize) -> Slot {
        assert!(index < self.len(), "no transition lies at {index}");
        let round = self.n_inserted - self.next as u64;
        let before = if index < self.next { 0 } else { self.capacity as u64 };
        Slot(round - before + index as u64)
    }

    /// Where a transition lies, if it has not been overwritten.
    #[must_use]
    pub fn index(&self, slot: Slot) -> Option<usize> {
        let age = self.n_inserted.checked_sub(slot.0)?;
        if age == 0 || age > self.capacity as u64 {
            return None;
        }
        let age = age as usize;
        Some(if age <= self.next { self.next - age } else { self.next + self.capacity - age })
    }
}

/// Eight words, little-endian. Where an observation is bootstrapped from is told as a distance, which is short, so that
/// it packs to few bits.
fn to_bytes(transition: &Transition) -> [u8; ROW_BYTES] {
    let Transition { from, to_base, to_own, action, reward, discount } = transition;
    let words = [
        u32::from(from.scene) | u32::from(from.environment) << 16,
        from.base,
        to_base.wrapping_sub(from.base),
        from.own,
        to_own.wrapping_sub(from.own),
        u32::from(*action),
        reward.to_bits(),
        discount.to_bits(),
    ];
    let mut row = [0; ROW_BYTES];
    row.as_chunks_mut().0.iter_mut().zip(words).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
    row
}

fn of_bytes(row: &[u8; ROW_BYTES]) -> Transition {
    let words: [u32; 8] = std::array::from_fn(|i| u32::from_le_bytes(row.as_chunks().0[i]));
    let [who, base, after_base, own, after_own, action, reward, discount] = words;
    Transition {
        from: Place { scene: who as u16, environment: (who >> 16) as u16, base, own },
        to_base: base.wrapping_add(after_base),
        to_own: own.wrapping_add(after_own),
        action: action as u8,
        reward: f32::from_bits(reward),
        discount: f32::from_bits(discount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_comes_back_from_its_bytes() {
        let from = Place { scene: 0x0102, environment: 0x0304, base: 0x0506_0708, own: 0x090a_0b0c };
        let one =
            Transition { from, to_base: 7, to_own: u32::MAX, action: 255, reward: -1.5e-7, discount: 0.97 };
        assert_eq!(of_bytes(&to_bytes(&one)), one);
    }

    #[test]
    fn a_number_finds_its_transition_until_that_is_overwritten() {
        for (capacity, new) in [1usize, 2, 7, 16]
            .map(|n| {
                let streamed: fn(usize) -> _ = |n| Transitions::streamed(n, transition_stream(3).filed());
                [(n, Transitions::new as fn(usize) -> _), (n, streamed)]
            })
            .as_flattened()
        {
            let (capacity, mut ring) = (*capacity, new(*capacity));
            let mut slots = Vec::new();
            for i in 0..50u32 {
                let from = Place { own: i, ..Place::default() };
                let new = Transition { from, to_base: 0, to_own: 0, action: 0, reward: 0.0, discount: 0.0 };
                let (index, old) = ring.push(new);
                let overwritten = i.checked_sub(capacity as u32).filter(|_| ring.stream().is_none());
                assert_eq!(old.map(|old| old.from.own), overwritten);
                slots.push(ring.slot(index));
                for (own, slot) in (0..).zip(&slots) {
                    let found = ring.index(*slot).map(|index| {
                        let mut own = None;
                        ring.read(&[index], |_, transition| own = Some(transition.from.own)).unwrap();
                        own.unwrap()
                    });
                    assert_eq!(found, (own + capacity as u32 > i).then_some(own));
                }
                (0..ring.len()).for_each(|index| assert_eq!(ring.index(ring.slot(index)), Some(index)));
            }
            assert_eq!(ring.n_inserted(), 50);
        }
    }
}
