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
use crate::libtorch::DeviceMemory;
use crate::step::mode_choice::Place;

/// Number of attempts at the same work before it is cut into smaller blocks, or fails.
pub const SAME_ATTEMPTS: u32 = 6;

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum Failed<E> {
    /// The memory limit refused an allocation.
    Refused(Refusal),
    /// The device refused an allocation; the error says so.
    RefusedByDevice(Error),
    /// Another error.
    Other(E),
}

impl<E: From<Error>> Failed<E> {
    /// The error to report: the refusal if there is one, else the error of the attempt.
    pub(crate) fn into_error(self) -> E {
        match self {
            Self::Refused(refusal) => Error::Refused(refusal).into(),
            Self::RefusedByDevice(error) => error.into(),
            Self::Other(error) => error,
        }
    }

    /// Where bytes were missing and how many more than there were; `None` if none were. A device does not tell how many.
    pub(crate) fn missing(&self) -> Option<(Place, u64)> {
        match self {
            Self::Refused(refusal) => {
                Some((Place::Host, refusal.wanted_bytes.saturating_sub(refusal.left_bytes).max(1)))
            }
            Self::RefusedByDevice(_) => Some((Place::Device, 1)),
            Self::Other(_) => None,
        }
    }
}

/// Runs `work` once and tells a refused allocation, also on `device`, from other errors. `n_refused` is how often the same
/// work was refused before.
pub(crate) fn attempt<T, E>(
    device: Option<&dyn DeviceMemory>,
    n_refused: u32,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, Failed<E>> {
    let statistics = || device.and_then(|device| device.statistics().ok());
    let before = statistics();
    let _ = budget::take_refusal();
    let error = match budget::attempt(n_refused, work) {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    if let Some(refusal) = budget::take_refusal() {
        return Err(Failed::Refused(refusal));
    }
    match (device, before, statistics()) {
        (Some(device), Some(before), Some(after)) if after.n_refused > before.n_refused => {
            Err(Failed::RefusedByDevice(Error::RefusedByDevice {
                device: device.name(),
                allocated_bytes: after.allocated_bytes,
                limit_bytes: device.limit_bytes(),
            }))
        }
        _ => Err(Failed::Other(error)),
    }
}

/// Gives back the caches of the place that refused.
pub(crate) fn collect(place: Place, device: Option<&dyn DeviceMemory>) {
    match (place, device) {
        (Place::Device, Some(device)) => device.empty_cache(),
        _ => {
            budget::collect(u64::MAX);
        }
    }
}

/// Runs `work`. If an allocation in it is refused, collects caches of the place that refused and runs it again, up to
/// [`SAME_ATTEMPTS`] times in all. Work of another error is not repeated. A `work` that fails must have changed nothing.
///
/// # Errors
/// [`Error::Refused`] or [`Error::RefusedByDevice`] if every attempt was refused; the error of `work` if it failed for
/// another reason.
pub fn with_room<T, E: From<Error>>(work: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    with_room_on(libtorch::gpu_in_use().as_deref(), work)
}

fn with_room_on<T, E: From<Error>>(
    device: Option<&dyn DeviceMemory>,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut n_refused = 0;
    loop {
        let failed = match attempt(device, n_refused, &mut work) {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        match failed.missing() {
            Some((place, _)) if n_refused + 1 < SAME_ATTEMPTS => collect(place, device),
            _ => return Err(failed.into_error()),
        }
        n_refused += 1;
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
    let device = libtorch::gpu_in_use();
    let device = device.as_deref();
    let (mut done, mut start, mut size, mut n_refused) = (Vec::new(), 0, n, 0);
    while start < n {
        let end = n.min(start + size);
        let failed = match attempt(device, n_refused, || work(start..end)) {
            Ok(output) => {
                done.push(output);
                (start, n_refused) = (end, 0);
                continue;
            }
            Err(failed) => failed,
        };
        match failed.missing() {
            Some((place, _)) if n_refused + 1 < SAME_ATTEMPTS => collect(place, device),
            Some((place, _)) if end - start > 1 => {
                size = (end - start).div_ceil(2);
                collect(place, device);
            }
            _ => return Err(failed.into_error()),
        }
        n_refused += 1;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::ledger::Owner;
    use crate::ledger::injection::inject_refusals_here;
    use crate::ledger::reservation::Reservation;
    use crate::step::fake_device::FakeDevice;

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
    fn a_device_that_refuses_gets_its_own_cache_emptied_and_the_work_again() {
        let device = FakeDevice::new(1000);
        let mut n_runs = 0;
        let work = || -> Result<u32, Error> {
            n_runs += 1;
            if n_runs < 3 { device.allocate(1001).map(|()| 0) } else { Ok(n_runs) }
        };
        assert_eq!(with_room_on(Some(&device), work).unwrap(), 3);
        assert_eq!(device.n_emptied(), 2);

        let work = || device.allocate(1001);
        let refused = with_room_on(Some(&device), work).unwrap_err().to_string();
        assert!(
            refused.starts_with("out of memory on fake:1: 0 B of the device limit of 1000 B"),
            "{refused}"
        );
        let other = || -> Result<(), Error> {
            Err(Error::Libtorch { what: "run", message: "another fault".to_owned() })
        };
        assert!(matches!(with_room_on(Some(&device), other), Err(Error::Libtorch { .. })));
        assert_eq!(device.n_emptied(), 2 + u64::from(SAME_ATTEMPTS) - 1);
    }

    #[test]
    fn blocks_are_halved_until_they_have_room_and_cover_everything_in_order() {
        let sizes = |room: usize| -> Vec<usize> {
            blocks_within(room).unwrap().into_iter().map(|block| block.len()).collect()
        };
        assert_eq!((sizes(100), sizes(99)), (vec![100], vec![50, 50]));
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
            inject_refusals_here(every);
            let disturbed = in_blocks(20, sum);
            inject_refusals_here(0);
            assert!(budget::n_denied() > denied_before, "{every}: nothing was refused");
            assert_eq!(disturbed.unwrap(), undisturbed, "{every}");
        }
    }
}
