//! The refusal of a request for bytes: who asked, for how much, what is left, and whose refusal it was.
//!
//! A refusal is plain numbers. Its text names the five largest owners of the moment at which it is printed, so print it
//! close to where it happened. It does not decide anything: [`budget`](crate::ledger::budget) refuses.
//!
//! A refusal belongs to the thread whose call failed because of it, and [`take_refusal`] tells it from other errors there.
//! The refused allocation itself may have been on a thread of libtorch, which hands its exception on to the thread that
//! called; what other threads are refused meanwhile is theirs.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ledger::{Owner, OwnerBytes, largest_owners};
use crate::limit::Readable;

static N_DENIED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static REFUSED: Cell<Option<Refusal>> = const { Cell::new(None) };
}

/// Who had no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RefusedBy {
    /// The memory limit.
    Limit,
    /// The operating system, although the memory limit had room.
    System,
}

/// A request for bytes that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Refusal {
    /// The owner that asked.
    pub owner: Owner,
    /// Who had no room.
    pub by: RefusedBy,
    /// The bytes that it asked for.
    pub wanted_bytes: u64,
    /// The bytes that were left under the memory limit after caches were collected.
    pub left_bytes: u64,
    /// The memory limit.
    pub limit_bytes: u64,
}

impl Refusal {
    pub(crate) fn of(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }

    /// Counts this refusal in [`n_denied`].
    pub(crate) fn counted(self) -> Self {
        N_DENIED.fetch_add(1, Relaxed);
        self
    }

    /// Notes that a call of this thread fails because of this refusal. Where another thread of the program works for this
    /// one, it [takes](take_refusal) its refusal and hands it over with its error.
    pub fn reaches_this_thread(self) {
        REFUSED.set(Some(self));
    }
}

/// Number of requests refused so far, on all threads. Caches that go without ([`Reservation::set_if_room`]) do not count.
///
/// [`Reservation::set_if_room`]: crate::ledger::reservation::Reservation::set_if_room
#[must_use]
pub fn n_denied() -> u64 {
    N_DENIED.load(Relaxed)
}

/// Takes the latest refusal because of which a call of this thread failed. After an error, `Some` means that the cause was
/// a refusal; take what there is before the work that may fail.
pub fn take_refusal() -> Option<Refusal> {
    REFUSED.take()
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, by, wanted_bytes, left_bytes, limit_bytes } = self;
        let wanted = Readable(*wanted_bytes);
        write!(formatter, "{} asked for {wanted} and ", owner.path())?;
        if *by == RefusedBy::System {
            write!(formatter, "the system gave no memory, although ")?;
        }
        match *limit_bytes {
            u64::MAX => write!(formatter, "no memory limit is set")?,
            limit => write!(
                formatter,
                "the memory limit of {} has {} left",
                Readable(limit),
                Readable(*left_bytes)
            )?,
        }
        write!(formatter, "; the largest owners are")?;
        for (rank, OwnerBytes { path, bytes, .. }) in largest_owners(5).iter().enumerate() {
            write!(formatter, "{} {path} {}", if rank == 0 { "" } else { "," }, Readable(*bytes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(by: RefusedBy, limit_bytes: u64) -> Refusal {
        let owner = Owner::named("test/refusal");
        Refusal { owner, by, wanted_bytes: 4 << 20, left_bytes: 1 << 20, limit_bytes }
    }

    #[test]
    fn a_refusal_is_that_of_the_thread_whose_call_failed() {
        let mine = refusal(RefusedBy::Limit, 8 << 20);
        mine.reaches_this_thread();
        let of_another = std::thread::spawn(|| {
            let before = take_refusal();
            refusal(RefusedBy::System, 1).reaches_this_thread();
            (before, take_refusal())
        });
        assert_eq!(of_another.join().unwrap(), (None, Some(refusal(RefusedBy::System, 1))));
        assert_eq!((take_refusal(), take_refusal()), (Some(mine), None));
    }

    #[test]
    fn the_system_is_told_from_the_limit() {
        let by_limit = refusal(RefusedBy::Limit, 8 << 20).to_string();
        assert!(by_limit.starts_with(
            "test/refusal asked for 4.0 MiB and the memory limit of 8.0 MiB has 1.0 MiB left; the largest"
        ));
        let by_system = refusal(RefusedBy::System, u64::MAX).to_string();
        assert!(by_system.starts_with(
            "test/refusal asked for 4.0 MiB and the system gave no memory, although no memory limit is set; the"
        ));
    }
}
