//! Leaks of tensors, told from what owners hold at step marks. A first form.
//!
//! At the boundary of a learner step every owner should hold what it held at the last one. An owner whose live bytes of
//! tensors never fell over a whole window of marks, and rose at half of them or more, is reported. What it cannot tell:
//! a leak at fewer than half of the steps, one that is hidden by an owner's own ups and downs, a fill that is meant to
//! end later than the window, and anything outside of tensors.

use std::collections::VecDeque;
use std::fmt;

use crate::ledger::{self, OwnerBytes};
use crate::limit::Readable;

/// The fewest marks that a leak is told from.
pub const FEWEST_MARKS: usize = 20;

/// An owner that only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leak {
    /// Its path.
    pub path: &'static str,
    /// Bytes of tensors that it holds.
    pub tensor_bytes: u64,
    /// By how much they grew.
    pub grown_bytes: u64,
    /// Over how many steps.
    pub n_steps: usize,
    /// At how many of them they rose.
    pub n_rises: usize,
}

/// What owners held at the latest step marks.
#[derive(Debug)]
pub struct StepMarks {
    n_marks: usize,
    /// Live bytes at the latest marks, oldest first.
    series: Vec<(&'static str, VecDeque<u64>)>,
    owners: Vec<OwnerBytes>,
}

impl StepMarks {
    /// Windows of `n_marks` marks, 20 or more: less is taken for 20.
    #[must_use]
    pub fn new(n_marks: usize) -> Self {
        Self { n_marks: n_marks.max(FEWEST_MARKS), series: Vec::new(), owners: Vec::new() }
    }

    /// Marks the boundary of a step: what every owner holds now is as it was at the last one, if nothing leaks.
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

    /// The owners that only grew over the last window, the fastest first.
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
        let mut marks = StepMarks::new(1);
        for _ in 0..30 {
            marks.mark();
        }
        assert_eq!(marks.n_marks, FEWEST_MARKS);
        assert!(marks.leaks().iter().all(|leak| leak.path.starts_with("test/")));
    }
}
