//! Leaks of tensors, found by comparing what owners hold at the boundaries of learner steps.
//!
//! At each boundary an owner should hold what it held at the one before. An owner is reported if its live bytes of
//! tensors never fell over a whole window of marks and rose at half of the steps or more. This does not find a leak at
//! fewer than half of the steps, a leak that is hidden by ups and downs of the same owner, or a leak outside of tensors.
//! It wrongly reports a buffer that is still filling up over a whole window.

use std::collections::VecDeque;
use std::fmt;

use crate::ledger::{self, OwnerBytes};
use crate::limit::Readable;

/// The fewest marks from which a leak is inferred.
pub const FEWEST_MARKS: usize = 20;

/// An owner that only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leak {
    /// The owner's path.
    pub path: &'static str,
    /// Bytes of tensors that the owner holds.
    pub tensor_bytes: u64,
    /// By how many bytes they grew over the window.
    pub grown_bytes: u64,
    /// Number of steps in the window.
    pub n_steps: usize,
    /// Number of steps at which they rose.
    pub n_rises: usize,
}

/// What each owner held at the latest step marks.
#[derive(Debug)]
pub struct StepMarks {
    n_marks: usize,
    /// Each owner's live bytes of tensors at the latest marks, oldest first.
    series: Vec<(&'static str, VecDeque<u64>)>,
    owners: Vec<OwnerBytes>,
}

impl StepMarks {
    /// A window of `n_marks` marks, raised to [`FEWEST_MARKS`] if it is less.
    #[must_use]
    pub fn new(n_marks: usize) -> Self {
        Self { n_marks: n_marks.max(FEWEST_MARKS), series: Vec::new(), owners: Vec::new() }
    }

    /// Marks the boundary of a step: records what every owner holds now.
    pub fn mark(&mut self) {
        let mut owners = std::mem::take(&mut self.owners);
        ledger::read_owners(&mut owners);
        for OwnerBytes { path, tensor_bytes, .. } in &owners {
            self.record(path, *tensor_bytes);
        }
        self.owners = owners;
    }

    fn record(&mut self, path: &'static str, tensor_bytes: u64) {
        let index = self.series.iter().position(|(known, _)| *known == path).unwrap_or_else(|| {
            self.series.push((path, VecDeque::with_capacity(self.n_marks)));
            self.series.len() - 1
        });
        let marks = &mut self.series[index].1;
        if marks.len() == self.n_marks {
            marks.pop_front();
        }
        marks.push_back(tensor_bytes);
    }

    /// The owners that only grew over the latest window, the fastest first.
    #[must_use]
    pub fn leaks(&self) -> Vec<Leak> {
        let mut leaks: Vec<Leak> =
            self.series.iter().filter_map(|(path, marks)| self.leak(path, marks)).collect();
        leaks.sort_by(|a, b| b.grown_bytes.cmp(&a.grown_bytes).then(a.path.cmp(b.path)));
        leaks
    }

    fn leak(&self, path: &'static str, marks: &VecDeque<u64>) -> Option<Leak> {
        let steps = || marks.iter().zip(marks.iter().skip(1));
        let n_steps = marks.len().checked_sub(1)?;
        let n_rises = steps().filter(|(before, after)| after > before).count();
        let fell = steps().any(|(before, after)| after < before);
        if marks.len() < self.n_marks || fell || n_rises < n_steps / 2 {
            return None;
        }
        let (first, last) = (*marks.front()?, *marks.back()?);
        Some(Leak { path, tensor_bytes: last, grown_bytes: last - first, n_steps, n_rises })
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, tensor_bytes, grown_bytes, n_steps, n_rises } = *self;
        let (grown, held) = (Readable(grown_bytes), Readable(tensor_bytes));
        write!(
            formatter,
            "{path} grew by {grown} to {held} over {n_steps} steps: it rose at {n_rises} and never fell"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes_at: impl Fn(u64) -> u64, n_marks: u64) -> Option<Leak> {
        let mut marks = StepMarks::new(20);
        for mark in 0..n_marks {
            marks.record("test/suspect", bytes_at(mark));
            marks.record("test/steady", 4096);
        }
        let leaks = marks.leaks();
        assert!(leaks.iter().all(|leak| leak.path == "test/suspect"), "{leaks:?}");
        leaks.first().copied()
    }

    #[test]
    fn an_owner_that_only_grows_is_a_leak() {
        let leak = check(|mark| 1000 + mark * 256, 100).unwrap();
        assert_eq!((leak.grown_bytes, leak.n_steps, leak.n_rises), (19 * 256, 19, 19));
        assert_eq!(
            leak.to_string(),
            "test/suspect grew by 4864 B to 25.7 KiB over 19 steps: it rose at 19 and never fell"
        );
        assert!(check(|mark| mark / 2 * 256, 100).is_some(), "half of the steps suffice");
    }

    #[test]
    fn steady_owners_ups_and_downs_and_a_fill_that_ended_are_none() {
        assert_eq!(check(|_| 5000, 100), None);
        assert_eq!(check(|mark| 5000 + mark % 7, 100), None);
        assert_eq!(check(|mark| mark.min(30), 100), None);
        assert_eq!(check(|mark| mark, 19), None);
    }

    #[test]
    fn marks_are_read_from_the_ledger() {
        let owner = ledger::Owner::named("test/leaking");
        let mut marks = StepMarks::new(1);
        for _ in 0..30 {
            ledger::count_tensor(owner, 4096);
            marks.mark();
        }
        ledger::forget_tensor(owner, 30 * 4096);
        assert_eq!(marks.n_marks, FEWEST_MARKS);
        let leak = marks.leaks().into_iter().find(|leak| leak.path == "test/leaking").unwrap();
        assert_eq!((leak.tensor_bytes, leak.grown_bytes, leak.n_rises), (30 * 4096, 19 * 4096, 19));
    }
}
