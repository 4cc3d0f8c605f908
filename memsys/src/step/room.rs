//! Work that the memory limit may refuse: it is tried again, first as it was and then in smaller blocks.
//!
//! ```text
//! block ── refused ──> collect caches, the same block again ── refused ──> … ──> half the block ── … ──> the refusal
//! ```
//!
//! Every phase of a run goes through this module: acting, gathering, publishing, evaluating, loading and saving through
//! [`with_room`] or [`in_blocks`], and learner steps through
//! [`StepRunner`](crate::step::retry::StepRunner). The same block comes first because a block of another size may round
//! differently, and because other threads free memory meanwhile.
//!
//! This module does not undo an attempt: an attempt that fails must have changed nothing.

use std::ops::Range;

use crate::error::Error;
use crate::ledger::budget;
use crate::ledger::refusal::Refusal;
use crate::libtorch;

/// Number of attempts at the same work before it is cut into smaller blocks, or fails.
pub const SAME_ATTEMPTS: u32 = 6;

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum Failed<E> {
    /// An allocation was refused: by the memory limit, which gives the refusal, or by a device.
    Refused(Option<Refusal>, E),
    /// Another error.
    Other(E),
}

impl<E: From<Error>> Failed<E> {
    /// The error to report: the refusal if there is one, else the error of the attempt.
    pub(crate) fn into_error(self) -> E {
        match self {
            Self::Refused(Some(refusal), _) => Error::Refused(refusal).into(),
            Self::Refused(None, error) | Self::Other(error) => error,
        }
    }
}

/// Runs `work` once and tells a refused allocation from other errors. `n_refused` is how often the same work was refused
/// before.
pub(crate) fn attempt<T, E>(n_refused: u32, work: impl FnOnce() -> Result<T, E>) -> Result<T, Failed<E>> {
    let denied_before = budget::n_denied();
    let refused_before = libtorch::n_refused_by_devices();
    let _ = budget::take_refusal();
    let error = match budget::attempt(n_refused, work) {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    // The refused allocation may have been on one of libtorch's threads instead of this one.
    let refusal = budget::take_refusal();
    let refusal =
        refusal.or_else(|| (budget::n_denied() > denied_before).then(budget::last_refusal).flatten());
    if refusal.is_none() && libtorch::n_refused_by_devices() == refused_before {
        return Err(Failed::Other(error));
    }
    Err(Failed::Refused(refusal, error))
}

/// Runs `work`. If an allocation in it is refused, collects caches and runs it again, up to [`SAME_ATTEMPTS`] times in
/// all. Work of another error is not repeated. A `work` that fails must have changed nothing.
///
/// # Errors
/// [`Error::Refused`] if every attempt was refused; the error of `work` if it failed for another reason or a device had
/// no room.
pub fn with_room<T, E: From<Error>>(mut work: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let mut n_refused = 0;
    loop {
        match attempt(n_refused, &mut work) {
            Ok(done) => return Ok(done),
            Err(Failed::Refused(..)) if n_refused + 1 < SAME_ATTEMPTS => {
                budget::collect(u64::MAX);
                n_refused += 1;
            }
            Err(failed) => return Err(failed.into_error()),
        }
    }
}

/// Runs `work` on consecutive blocks that together are `0..n`, in order, and returns what each gave. The first block is
/// the whole range. A block that is refused is tried again as [`with_room`] does, and then its first half; later blocks
/// have at most the size of the last one that had room. If nothing is refused, `work` runs once. A `work` that fails must
/// have changed nothing.
///
/// # Errors
/// As [`with_room`], if a block of one item is refused; the blocks before it have been run.
pub fn in_blocks<T, E: From<Error>>(
    n: usize,
    mut work: impl FnMut(Range<usize>) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let (mut done, mut start, mut size, mut n_refused) = (Vec::new(), 0, n, 0);
    while start < n {
        let end = n.min(start + size);
        match attempt(n_refused, || work(start..end)) {
            Ok(output) => {
                done.push(output);
                (start, n_refused) = (end, 0);
                continue;
            }
            Err(Failed::Refused(..)) if n_refused + 1 < SAME_ATTEMPTS => {}
            Err(Failed::Refused(..)) if end - start > 1 => size = (end - start).div_ceil(2),
            Err(failed) => return Err(failed.into_error()),
        }
        budget::collect(u64::MAX);
        n_refused += 1;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::ledger::Owner;
    use crate::ledger::reservation::Reservation;

    /// Asks for more bytes than any memory limit has beside those that are held.
    fn refused() -> Result<(), Error> {
        let owner = Owner::named("test/room");
        let mut held = Reservation::declared(owner);
        held.set(1);
        Reservation::declared(owner).try_set(u64::MAX)
    }

    #[test]
    fn refused_work_is_run_again_until_it_has_room() {
        let mut n_runs = 0;
        let work = || -> Result<u32, Error> {
            n_runs += 1;
            if n_runs < 3 { refused().map(|()| 0) } else { Ok(n_runs) }
        };
        assert_eq!(with_room(work).unwrap(), 3);
    }

    #[test]
    fn work_that_never_has_room_ends_with_the_refusal() {
        let mut n_runs = 0;
        let work = || -> Result<(), Error> {
            n_runs += 1;
            refused()
        };
        assert!(matches!(with_room(work), Err(Error::Refused(refusal)) if refusal.wanted_bytes == u64::MAX));
        assert_eq!(n_runs, SAME_ATTEMPTS);
    }

    /// Runs 100 items where only blocks of at most `room` items fit. Returns the blocks that were done.
    fn blocks_within(room: usize) -> Result<Vec<Range<usize>>, Error> {
        in_blocks(100, |block| if block.len() > room { refused().map(|()| block) } else { Ok(block) })
    }

    #[test]
    fn blocks_are_halved_until_they_have_room_and_cover_everything_in_order() {
        assert_eq!(blocks_within(100).unwrap(), [0..100]);
        assert_eq!(blocks_within(99).unwrap(), [0..50, 50..100]);
        for room in [1, 3, 7, 24] {
            let blocks = blocks_within(room).unwrap();
            assert!(blocks.iter().all(|block| block.len() <= room), "{room}: {blocks:?}");
            assert_eq!(blocks.into_iter().flatten().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        }
        assert!(matches!(blocks_within(0), Err(Error::Refused(_))));
        let nothing: Vec<()> = in_blocks(0, |_| refused()).unwrap();
        assert_eq!(nothing.len(), 0, "without items nothing runs");
    }

    #[test]
    fn every_kth_allocation_refused_work_is_done_in_the_blocks_of_an_undisturbed_run() {
        libtorch::count_tensors().unwrap();
        let sum = |block: Range<usize>| -> Result<f64, Error> {
            let mut sum = 0.0;
            for item in block {
                let row = Tensor::f_ones([64], (Kind::Float, Device::Cpu))?;
                sum += row.f_sum(Kind::Float)?.f_double_value(&[])? * item as f64;
            }
            Ok(sum)
        };
        let undisturbed = in_blocks(20, sum).unwrap();
        for every in [1, 7, 30] {
            let denied_before = budget::n_denied();
            budget::inject_refusals_here(every);
            let disturbed = in_blocks(20, sum);
            budget::inject_refusals_here(0);
            assert!(budget::n_denied() > denied_before, "{every}: nothing was refused");
            assert_eq!(disturbed.unwrap(), undisturbed, "{every}");
        }
    }
}
