//! The newest transitions, 27 bytes each, and the slots that name them.
//!
//! ```text
//! instrument │ environment │ t │ local │ to_t │ to_local − local │ action │ reward │ discount
//! 2          │ 2           │ 4 │ 4     │ 4    │ 2, signed        │ 1      │ 4      │ 4           bytes, little-endian
//! ```
//!
//! Nothing is rounded. An environment appends its local rows in order, so that the row to bootstrap from lies about n
//! rows further and 16 bits hold the distance; `to_t` may be anywhere and is stored whole.
//!
//! This is the layout of a ring in memory. If the chunks of a replay may be compressed or go to a file, the transitions
//! lie in a stream instead, as eight words each, which pack to few bits. A transition's position in the stream is its
//! number.

use std::fmt;
use std::hint::black_box;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use memsys::ledger::Owner;
use memsys::ledger::reservation::try_reserve;

use crate::error::{Error, Result};
use crate::frames::{FrameStream, ObservationRef};
use crate::replay::Transition;
use crate::replay::sum_tree::GROWTH;
use crate::store::RowKind;

/// Names a transition by its number since the beginning. The slot of an overwritten transition differs from that of the
/// newer one at the same index, so that a late priority never reaches a newer transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(u64);

impl Slot {
    /// Number of transitions inserted before it.
    pub(super) fn number(self) -> usize {
        self.0 as usize
    }
}

/// Bytes of a transition in the ring.
const RING_BYTES: usize = 27;

/// A transition's bytes in the ring, as in the picture above.
type RingBytes = [u8; RING_BYTES];

/// Bytes of a transition in a stream.
const WORDS_BYTES: usize = 32;

/// A transition as the row of a stream.
type Words = [u8; WORDS_BYTES];

/// An empty stream for transitions, with `1 << chunk_shift` of them per chunk.
pub(super) fn transition_stream(chunk_shift: u32) -> FrameStream {
    FrameStream::by_row(RowKind::U8, WORDS_BYTES, chunk_shift)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Storage {
    /// A transition lies at its number modulo the capacity.
    Ring(Ring),
    /// A transition lies at its number.
    Stream(Box<FrameStream>),
}

/// Transitions that serialize as one run of bytes.
#[derive(Debug, Clone, PartialEq)]
struct Ring(Vec<RingBytes>);

/// The newest `capacity` transitions. A new transition overwrites the oldest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transitions {
    capacity: usize,
    storage: Storage,
    n_inserted: u64,
    /// Index of the next transition: `n_inserted` modulo `capacity`.
    next: usize,
}

impl Transitions {
    /// An empty ring.
    ///
    /// # Panics
    /// If `capacity` is 0.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a ring holds at least one transition");
        Self { capacity, storage: Storage::Ring(Ring(Vec::new())), n_inserted: 0, next: 0 }
    }

    /// Empty, in a stream that [`transition_stream`] made.
    ///
    /// # Panics
    /// If `capacity` is 0.
    #[must_use]
    pub(super) fn streamed(capacity: usize, stream: FrameStream) -> Self {
        assert!(capacity > 0, "a ring holds at least one transition");
        Self { capacity, storage: Storage::Stream(Box::new(stream)), n_inserted: 0, next: 0 }
    }

    /// The most transitions that it holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of transitions held.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.n_inserted as usize).min(self.capacity)
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_inserted == 0
    }

    /// Number of transitions ever inserted.
    #[must_use]
    pub fn n_inserted(&self) -> u64 {
        self.n_inserted
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.storage {
            Storage::Ring(Ring(rows)) => (rows.capacity() * RING_BYTES) as u64,
            Storage::Stream(stream) => stream.bytes(),
        }
    }

    /// Bytes of a ring of `capacity` with room for `n` transitions. It takes room for 65,536 more at a time, 1.7 MiB. The C
    /// library moves so large a block by mapping its pages elsewhere, so growth copies nothing.
    #[must_use]
    pub fn planned_bytes(capacity: usize, n: usize) -> u64 {
        (room(capacity, n) * RING_BYTES) as u64
    }

    /// Bytes of memory with room for `n` more transitions; those of now for a stream.
    pub(super) fn bytes_with_room(&self, n: usize) -> u64 {
        match &self.storage {
            Storage::Ring(Ring(rows)) => {
                self.bytes().max(Self::planned_bytes(self.capacity, rows.len().saturating_add(n)))
            }
            Storage::Stream(_) => self.bytes(),
        }
    }

    /// Makes room in a ring for `n` more transitions.
    ///
    /// # Errors
    /// [`memsys::Error::Refused`] if the system gives no memory.
    pub(super) fn reserve(&mut self, n: usize) -> Result<()> {
        let Storage::Ring(Ring(rows)) = &mut self.storage else { return Ok(()) };
        let wanted = rows.len().saturating_add(n).min(self.capacity);
        if wanted > rows.capacity() {
            let n_more = room(self.capacity, wanted) - rows.len();
            try_reserve(rows, n_more, Owner::named("run/replay/hot"))?;
        }
        Ok(())
    }

    /// The stream, if the transitions lie in one.
    pub(super) fn stream_mut(&mut self) -> Option<&mut FrameStream> {
        match &mut self.storage {
            Storage::Ring(_) => None,
            Storage::Stream(stream) => Some(stream),
        }
    }

    /// The stream, if the transitions lie in one.
    pub(super) fn stream(&self) -> Option<&FrameStream> {
        match &self.storage {
            Storage::Ring(_) => None,
            Storage::Stream(stream) => Some(stream),
        }
    }

    /// Inserts a transition. Returns its index and, for a ring, the transition that it overwrote; a stream evicts
    /// overwritten transitions a chunk at a time.
    ///
    /// # Panics
    /// For a ring, if `to_local` lies 2¹⁵ or more rows from `from.local`, or there was no room and the system gives none.
    pub fn push(&mut self, transition: Transition) -> (usize, Option<Transition>) {
        let index = self.next;
        let old = match &mut self.storage {
            Storage::Ring(Ring(rows)) if index < rows.len() => {
                Some(of_bytes(&std::mem::replace(&mut rows[index], to_bytes(&transition))))
            }
            Storage::Ring(Ring(rows)) => {
                if rows.len() == rows.capacity() {
                    rows.reserve_exact(room(self.capacity, rows.len() + 1) - rows.len());
                }
                rows.push(to_bytes(&transition));
                None
            }
            Storage::Stream(stream) => {
                stream.append_bytes(&to_words(&transition));
                None
            }
        };
        self.n_inserted += 1;
        self.next = if index + 1 == self.capacity { 0 } else { index + 1 };
        (index, old)
    }

    /// Moves the transitions into `stream`, which is empty, or into a ring if there is none.
    ///
    /// # Errors
    /// If the file that holds them cannot be read. They stay where they are then.
    pub(super) fn move_to(&mut self, stream: Option<FrameStream>) -> Result<()> {
        let storage = match stream {
            Some(stream) => {
                let n_inserted = self.n_inserted as usize;
                Storage::Stream(Box::new(stream.with_rows(
                    n_inserted - self.len(),
                    n_inserted,
                    |number, row| {
                        let index = self.index(Slot(number as u64)).expect("it was not overwritten");
                        self.read(&[index], |_, transition| row.copy_from_slice(&to_words(transition)))
                    },
                )?))
            }
            None => {
                let mut ring = Self::new(self.capacity);
                ring.reserve(self.len())?;
                let indices: Vec<usize> = (0..self.len()).collect();
                self.read(&indices, |_, transition| {
                    ring.push(*transition);
                })?;
                ring.storage
            }
        };
        self.storage = storage;
        Ok(())
    }

    /// Evicts the chunks of a stream whose transitions are all overwritten, and calls `gone` for each transition.
    ///
    /// # Errors
    /// If the file cannot be read. The remaining chunks stay.
    pub(super) fn evict(&mut self, mut gone: impl FnMut(&Transition)) -> Result<()> {
        let Storage::Stream(stream) = &mut self.storage else { return Ok(()) };
        let first_live = self.n_inserted.saturating_sub(self.capacity as u64) as usize;
        while stream.first_row() + stream.chunk_rows() <= first_live {
            let n_rows = stream.chunk_rows();
            let end = stream.first_row() + n_rows;
            let mut rows = vec![0; n_rows * WORDS_BYTES];
            match stream.copy_window_bytes(end - 1, n_rows, 1, &mut rows) {
                Ok(()) => rows.as_chunks().0.iter().for_each(|row| gone(&of_words(row))),
                // No one needs these transitions any more; the local rows that they refer to go with the next chunk.
                Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            stream.evict_before(end);
        }
        Ok(())
    }

    /// The transition at an index of a ring.
    ///
    /// # Panics
    /// If there is none, or the transitions lie in a stream.
    #[must_use]
    pub fn at(&self, index: usize) -> Transition {
        match &self.storage {
            Storage::Ring(Ring(rows)) => of_bytes(&rows[index]),
            Storage::Stream(_) => panic!("transitions in a file are read, which can fail"),
        }
    }

    /// Asks the system to begin reading the transitions at `indices` that lie in a file.
    pub(super) fn will_need(&self, indices: &[usize]) {
        if let Storage::Stream(stream) = &self.storage {
            indices.iter().for_each(|index| stream.will_need(self.slot(*index).0 as usize, 1, 1));
        }
    }

    /// Calls `take` for the transitions at `indices`, in order.
    ///
    /// # Errors
    /// If the file that holds them cannot be read.
    ///
    /// # Panics
    /// If there is no transition at an index.
    pub fn read(&self, indices: &[usize], mut take: impl FnMut(Slot, &Transition)) -> Result<()> {
        match &self.storage {
            Storage::Ring(Ring(rows)) => {
                // The transitions lie scattered: touching all of them before any is used lets the memory latencies overlap.
                black_box(indices.iter().fold(0u8, |sum, index| {
                    let row = &rows[*index];
                    sum.wrapping_add(row[0]).wrapping_add(row[RING_BYTES - 1])
                }));
                indices.iter().for_each(|index| take(self.slot(*index), &of_bytes(&rows[*index])));
            }
            Storage::Stream(stream) => {
                let mut row = [0; WORDS_BYTES];
                indices.iter().for_each(|index| stream.prefetch(self.slot(*index).0 as usize, 1, 1));
                for index in indices {
                    let slot = self.slot(*index);
                    stream.copy_window_bytes(slot.0 as usize, 1, 1, &mut row)?;
                    take(slot, &of_words(&row));
                }
            }
        }
        Ok(())
    }

    /// The slot of the transition at an index.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn slot(&self, index: usize) -> Slot {
        assert!(index < self.len(), "no transition lies at {index}");
        let begin_of_lap = self.n_inserted - self.next as u64;
        let back = if index < self.next { 0 } else { self.capacity as u64 };
        Slot(begin_of_lap - back + index as u64)
    }

    /// The index of a transition that was not overwritten.
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

/// Transitions for which a ring of `capacity` has room once it has room for `n`.
fn room(capacity: usize, n: usize) -> usize {
    n.min(capacity).next_multiple_of(GROWTH).min(capacity)
}

/// Eight little-endian words. `to_t` and `to_local` become distances, which are short and so pack to few bits.
fn to_words(transition: &Transition) -> Words {
    let Transition { from, to_t, to_local, action, reward, discount } = transition;
    let words = [
        u32::from(from.instrument) | u32::from(from.environment) << 16,
        from.t,
        to_t.wrapping_sub(from.t),
        from.local,
        to_local.wrapping_sub(from.local),
        u32::from(*action),
        reward.to_bits(),
        discount.to_bits(),
    ];
    let mut row = [0; WORDS_BYTES];
    row.as_chunks_mut().0.iter_mut().zip(words).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
    row
}

fn of_words(row: &Words) -> Transition {
    let words: [u32; 8] = std::array::from_fn(|i| u32::from_le_bytes(row.as_chunks().0[i]));
    let [who, t, t_distance, local, local_distance, action, reward, discount] = words;
    Transition {
        from: ObservationRef { instrument: who as u16, environment: (who >> 16) as u16, t, local },
        to_t: t.wrapping_add(t_distance),
        to_local: local.wrapping_add(local_distance),
        action: action as u8,
        reward: f32::from_bits(reward),
        discount: f32::from_bits(discount),
    }
}

fn to_bytes(transition: &Transition) -> RingBytes {
    let Transition { from, to_t, to_local, action, reward, discount } = transition;
    let distance = i16::try_from(to_local.wrapping_sub(from.local).cast_signed());
    let distance = distance.unwrap_or_else(|_| panic!("from local row {} to row {to_local}", from.local));
    let mut row = [0; RING_BYTES];
    row[..2].copy_from_slice(&from.instrument.to_le_bytes());
    row[2..4].copy_from_slice(&from.environment.to_le_bytes());
    row[4..8].copy_from_slice(&from.t.to_le_bytes());
    row[8..12].copy_from_slice(&from.local.to_le_bytes());
    row[12..16].copy_from_slice(&to_t.to_le_bytes());
    row[16..18].copy_from_slice(&distance.to_le_bytes());
    row[18] = *action;
    row[19..23].copy_from_slice(&reward.to_le_bytes());
    row[23..].copy_from_slice(&discount.to_le_bytes());
    row
}

fn of_bytes(row: &RingBytes) -> Transition {
    let half = |at: usize| u16::from_le_bytes([row[at], row[at + 1]]);
    let word = |at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
    let local = word(8);
    Transition {
        from: ObservationRef { instrument: half(0), environment: half(2), t: word(4), local },
        to_t: word(12),
        to_local: local.wrapping_add_signed(half(16).cast_signed().into()),
        action: row[18],
        reward: f32::from_bits(word(19)),
        discount: f32::from_bits(word(23)),
    }
}

impl Serialize for Ring {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_flattened())
    }
}

impl<'de> Deserialize<'de> for Ring {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct AsRows;
        impl Visitor<'_> for AsRows {
            type Value = Ring;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "transitions of {RING_BYTES} bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> std::result::Result<Ring, E> {
                match bytes.as_chunks() {
                    (rows, []) => {
                        let mut ring = Vec::new();
                        try_reserve(&mut ring, rows.len(), Owner::named("run/replay/hot"))
                            .map_err(E::custom)?;
                        ring.extend_from_slice(rows);
                        Ok(Ring(ring))
                    }
                    _ => Err(E::invalid_length(bytes.len(), &self)),
                }
            }
        }
        deserializer.deserialize_bytes(AsRows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_transition_comes_back_from_its_bytes(
            instrument: u16, environment: u16, t: u32, local: u32, to_t: u32, distance: i16, action: u8,
            reward in proptest::num::f32::ANY, discount in proptest::num::f32::ANY,
        ) {
            let from = ObservationRef { instrument, environment, t, local };
            let to_local = local.wrapping_add_signed(distance.into());
            let one = Transition { from, to_t, to_local, action, reward, discount };
            let row = to_bytes(&one);
            let back = of_bytes(&row);
            prop_assert_eq!((back.from, back.to_t, back.to_local, back.action), (from, to_t, to_local, action));
            prop_assert_eq!((back.reward.to_bits(), back.discount.to_bits()), (reward.to_bits(), discount.to_bits()));
            prop_assert_eq!(to_bytes(&back), row);
            prop_assert_eq!(to_bytes(&of_words(&to_words(&one))), row);
        }
    }

    fn transition(local: u32, to_local: u32) -> Transition {
        let from = ObservationRef { local, ..ObservationRef::default() };
        Transition { from, to_t: 0, to_local, action: 0, reward: 0.0, discount: 0.0 }
    }

    #[test]
    #[should_panic(expected = "from local row 5 to row 32773")]
    fn a_local_row_too_far_away_is_refused() {
        Transitions::new(2).push(transition(5, 5 + (1 << 15)));
    }

    #[test]
    fn a_restored_ring_takes_no_more_bytes_and_goes_on_at_the_same_index() {
        for n in [0, 3, 7, 20] {
            let mut ring = Transitions::new(7);
            (0..n).for_each(|local| {
                ring.push(transition(local, local + 1));
            });
            let saved = postcard::to_stdvec(&ring).unwrap();
            let mut restored: Transitions = postcard::from_bytes(&saved).unwrap();
            assert_eq!(restored, ring);
            assert_eq!(restored.push(transition(90, 91)), ring.push(transition(90, 91)));
            assert_eq!((restored.bytes(), ring.bytes()), (7 * 27, 7 * 27));
        }
    }

    #[test]
    fn a_slot_finds_its_transition_until_that_is_overwritten() {
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
                let (index, old) = ring.push(transition(i, i + 1));
                let overwritten = i.checked_sub(capacity as u32).filter(|_| ring.stream().is_none());
                assert_eq!(old.map(|old| old.from.local), overwritten);
                slots.push(ring.slot(index));
                for (local, slot) in (0..).zip(&slots) {
                    let found = ring.index(*slot).map(|index| {
                        let mut local = None;
                        ring.read(&[index], |_, transition| local = Some(transition.from.local)).unwrap();
                        local.unwrap()
                    });
                    assert_eq!(found, (local + capacity as u32 > i).then_some(local));
                }
                (0..ring.len()).for_each(|index| assert_eq!(ring.index(ring.slot(index)), Some(index)));
            }
            assert_eq!(ring.n_inserted(), 50);
        }
    }
}
