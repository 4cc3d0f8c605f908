//! A replay that copies both whole observations of each transition. This is the usual design, kept for comparison.

use crate::frames::View;

/// The two observations of every transition, side by side.
#[derive(Debug, Default)]
pub(super) struct CopiedObservations {
    /// Where each view begins in an observation. The last offset is the observation's length.
    offsets: Vec<usize>,
    numbers: Vec<f32>,
}

impl CopiedObservations {
    /// Empty, for `capacity` transitions over `views`.
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

    /// Bytes of the copied numbers.
    pub(super) fn bytes(&self) -> u64 {
        self.numbers.len() as u64 * 4
    }

    /// The two observations of the transition at `index`, to be written. `index` is at most one past the last.
    pub(super) fn at_mut(&mut self, index: usize) -> [&mut [f32]; 2] {
        let len = self.observation_len();
        let end = (index + 1) * 2 * len;
        if self.numbers.len() < end {
            self.numbers.resize(end, 0.0);
        }
        let (observation, next) = self.numbers[end - 2 * len..end].split_at_mut(len);
        [observation, next]
    }

    /// Copies the windows of a view of the transitions at `indices` into `now`, and the windows to bootstrap from into
    /// `next`.
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
