//! Whole observations copied into the replay, both of each transition: the usual way, kept to compare with.

use crate::frames::View;

/// The two observations of every transition, side by side.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Where each view begins in an observation; the last is its length.
    offsets: Vec<usize>,
    numbers: Vec<f32>,
}

impl Copies {
    /// Room for `capacity` transitions over `views`.
    pub(super) fn new(views: &[View], capacity: usize) -> Self {
        let mut offsets = vec![0];
        for view in views {
            offsets.push(offsets[offsets.len() - 1] + view.n_numbers());
        }
        let numbers = Vec::with_capacity(capacity * 2 * offsets[offsets.len() - 1]);
        Self { offsets, numbers }
    }

    fn observation_len(&self) -> usize {
        self.offsets[self.offsets.len() - 1]
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.numbers.len() as u64 * 4
    }

    /// Room for the two observations of the transition at `index`, which is at most one past the last.
    pub(super) fn at_mut(&mut self, index: usize) -> [&mut [f32]; 2] {
        let len = self.observation_len();
        let end = (index + 1) * 2 * len;
        if self.numbers.len() < end {
            self.numbers.resize(end, 0.0);
        }
        let (observation, next) = self.numbers[end - 2 * len..end].split_at_mut(len);
        [observation, next]
    }

    /// Copies the windows of a view, and the next ones, of the transitions at `indices` into `now` and `next`, which
    /// have room for them.
    pub(super) fn gather(&self, view: usize, indices: &[usize], [now, next]: [&mut [f32]; 2]) {
        let len = self.observation_len();
        let (start, end) = (self.offsets[view], self.offsets[view + 1]);
        let rooms = now.chunks_exact_mut(end - start).zip(next.chunks_exact_mut(end - start));
        for (index, (now, next)) in indices.iter().zip(rooms) {
            let pair = &self.numbers[index * 2 * len..];
            now.copy_from_slice(&pair[start..end]);
            next.copy_from_slice(&pair[len + start..len + end]);
        }
    }
}
