//! The ring of transitions, 32 bytes each, and the numbers by which they are called.

use serde::{Deserialize, Serialize};

use super::Transition;

/// Which transition: its number since the beginning. A number that has been overwritten is told from the
/// newer one at its place, so a late priority never lands on a newer transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(u64);

/// A transition that lies in one cache line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[repr(align(32))]
struct Row(Transition);

const _: () = assert!(size_of::<Row>() == 32, "two transitions a cache line");

/// The newest `capacity` transitions; the oldest is overwritten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transitions {
    capacity: usize,
    rows: Vec<Row>,
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
        Self { capacity, rows: Vec::with_capacity(capacity), n_inserted: 0, next: 0 }
    }

    /// Transitions that it holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Transitions held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Transitions ever inserted.
    #[must_use]
    pub fn n_inserted(&self) -> u64 {
        self.n_inserted
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.rows.capacity() * size_of::<Row>()) as u64
    }

    /// Bytes of a ring of `capacity` transitions.
    #[must_use]
    pub fn planned_bytes(capacity: usize) -> u64 {
        (capacity * size_of::<Row>()) as u64
    }

    /// Inserts a transition; gives its index and the one that it overwrote.
    pub fn push(&mut self, transition: Transition) -> (usize, Option<Transition>) {
        let index = self.next;
        let old = if index < self.rows.len() {
            Some(std::mem::replace(&mut self.rows[index], Row(transition)).0)
        } else {
            // A restored ring has room for its own rows alone; growing by doubling would pass the capacity.
            self.rows.reserve_exact(self.capacity - self.rows.len());
            self.rows.push(Row(transition));
            None
        };
        self.n_inserted += 1;
        self.next = if index + 1 == self.capacity { 0 } else { index + 1 };
        (index, old)
    }

    /// The transition at an index.
    ///
    /// # Panics
    /// Where none lies there.
    #[must_use]
    pub fn at(&self, index: usize) -> &Transition {
        &self.rows[index].0
    }

    /// The number of the transition at an index.
    ///
    /// # Panics
    /// Where none lies there.
    #[must_use]
    pub fn slot(&self, index: usize) -> Slot {
        assert!(index < self.rows.len(), "no transition lies at {index}");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Place;

    #[test]
    fn a_number_finds_its_transition_until_that_is_overwritten() {
        for capacity in [1usize, 2, 7, 16] {
            let mut ring = Transitions::new(capacity);
            let mut slots = Vec::new();
            for i in 0..50u32 {
                let from = Place { own: i, ..Place::default() };
                let new = Transition { from, to_base: 0, to_own: 0, action: 0, reward: 0.0, discount: 0.0 };
                let (index, old) = ring.push(new);
                assert_eq!(old.map(|old| old.from.own), i.checked_sub(capacity as u32));
                slots.push(ring.slot(index));
                for (own, slot) in (0..).zip(&slots) {
                    let found = ring.index(*slot).map(|index| ring.at(index).from.own);
                    assert_eq!(found, (own + capacity as u32 > i).then_some(own));
                }
                (0..ring.len()).for_each(|index| assert_eq!(ring.index(ring.slot(index)), Some(index)));
            }
            assert_eq!(ring.n_inserted(), 50);
        }
    }
}
