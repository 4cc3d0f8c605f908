//! A sequence that grows without moving what it holds.
//!
//! Its items lie in segments of one length, which are allocated when they are first needed. So a sequence takes the memory
//! of what was used of it, growing copies nothing, and memory that the system does not give is an error.

use std::ops::{Index, IndexMut};

use memsys::ledger::Owner;
use memsys::ledger::reservation::try_reserve;

use crate::error::Result;

/// The owner of what is held for transitions.
const OWNER: &str = "run/replay/hot";

/// A sequence of up to `most` items, of which the first segments are there.
#[derive(Debug, Clone)]
pub(super) struct Segments<T> {
    segments: Vec<Box<[T]>>,
    /// A segment has `1 << shift` items, and the last one those that are left.
    shift: u32,
    most: usize,
    empty: T,
}

impl<T: Copy> Segments<T> {
    /// A sequence that holds no item yet. What is not set is `empty`.
    pub(super) fn new(shift: u32, most: usize, empty: T) -> Self {
        Self { segments: Vec::new(), shift, most, empty }
    }

    /// Number of items that are there.
    pub(super) fn len(&self) -> usize {
        (self.segments.len() << self.shift).min(self.most)
    }

    /// Number of items that are there once the first `n` are, of a sequence of up to `most`.
    pub(super) fn planned_len(shift: u32, most: usize, n: usize) -> usize {
        n.next_multiple_of(1 << shift).min(most)
    }

    /// Makes the first `n` items be there.
    ///
    /// # Errors
    /// [`memsys::Error::Refused`] if the system gives no memory. Items that are there stay.
    pub(super) fn grow(&mut self, n: usize) -> Result<()> {
        while self.len() < n.min(self.most) {
            let n_items = (self.most - self.len()).min(1 << self.shift);
            let mut segment = Vec::new();
            try_reserve(&mut segment, n_items, Owner::named(OWNER))?;
            segment.resize(n_items, self.empty);
            if self.segments.len() == self.segments.capacity() {
                let n_more = self.segments.len().max(4);
                try_reserve(&mut self.segments, n_more, Owner::named(OWNER))?;
            }
            self.segments.push(segment.into_boxed_slice());
        }
        Ok(())
    }

    /// Bytes of the items that are there.
    pub(super) fn bytes(&self) -> u64 {
        (self.len() * size_of::<T>()) as u64
    }

    /// The items that are there, in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.segments.iter().flat_map(|segment| segment.iter())
    }

    /// The item at an index, or `empty` if it is not there yet.
    pub(super) fn get(&self, index: usize) -> T {
        if index < self.len() { self[index] } else { self.empty }
    }
}

impl<T> Index<usize> for Segments<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.segments[index >> self.shift][index & ((1 << self.shift) - 1)]
    }
}

impl<T> IndexMut<usize> for Segments<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.segments[index >> self.shift][index & ((1 << self.shift) - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_where_they_are_and_the_last_segment_is_as_long_as_what_is_left() {
        let mut numbers = Segments::new(3, 21, 7u32);
        assert_eq!((numbers.len(), numbers.bytes(), numbers.get(20)), (0, 0, 7));
        for (n, expected) in [(1, 8), (8, 8), (9, 16), (17, 21), (1000, 21)] {
            numbers.grow(n).unwrap();
            assert_eq!((numbers.len(), numbers.bytes()), (expected, expected as u64 * 4));
            assert_eq!(Segments::<u32>::planned_len(3, 21, n), expected);
            numbers[n.min(21) - 1] = n as u32;
            assert_eq!(numbers[0], if n == 1 { 1 } else { numbers.get(0) });
        }
        let all: Vec<u32> = numbers.iter().copied().collect();
        assert_eq!(all.len(), 21);
        assert_eq!((all[0], all[7], all[8], all[16], all[20], all[5]), (1, 8, 9, 17, 1000, 7));
    }
}
