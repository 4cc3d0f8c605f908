//! Reservations: bytes that an owner holds for as long as the reservation lives.
//!
//! There are two kinds. A *declared* reservation counts what no allocator here sees: mapped files, buffers inside a
//! library, pinned memory. A *heap* reservation gives the bytes of a large structure, which Rust's heap counts, to the
//! structure's owner. It asks before it grows, and until the growth lies in the heap it is declared, so that no other
//! request takes the room:
//!
//! ```text
//! try_set(bytes) ──granted: counted, as declared──> allocate ──> set(bytes): the heap counts it, it is declared no more
//! ```
//!
//! Where the program's global allocator does not count the heap ([`ledger::counts_heap`]), a heap reservation stays
//! declared. A reservation allocates nothing itself.

use crate::error::{Error, Result};
use crate::ledger::budget;
use crate::ledger::reclaimable::Generation;
use crate::ledger::refusal::RefusedBy;
use crate::ledger::{self, Owner, Part};

/// Bytes that the ledger counts under an owner until the reservation is dropped.
#[derive(Debug)]
pub struct Reservation {
    owner: Owner,
    is_heap: bool,
    /// Counted by Rust's heap.
    heap_bytes: u64,
    /// Counted for this reservation.
    declared_bytes: u64,
}

impl Reservation {
    /// A reservation of 0 bytes of Rust's heap.
    #[must_use]
    pub fn of_heap(owner: Owner) -> Self {
        Self { owner, is_heap: true, heap_bytes: 0, declared_bytes: 0 }
    }

    /// A reservation of 0 bytes that no allocator counts.
    #[must_use]
    pub fn declared(owner: Owner) -> Self {
        Self { owner, is_heap: false, heap_bytes: 0, declared_bytes: 0 }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.heap_bytes + self.declared_bytes
    }

    /// Changes the reservation to `bytes` in all. Call it before you use the bytes. Once they lie in Rust's
    /// heap call [`set`](Self::set): until then, or until the next call of this, the growth is counted twice.
    ///
    /// # Errors
    /// [`Error::Refused`] where the memory limit has no room for the growth even after caches are collected; the
    /// reservation then stays as it was.
    pub fn try_set(&mut self, bytes: u64) -> Result<()> {
        let Some(more) = bytes.checked_sub(self.bytes()).filter(|more| *more > 0) else {
            self.shrink_to(bytes);
            return Ok(());
        };
        if self.is_granted(more, Generation::Cold) {
            return Ok(());
        }
        let refusal = budget::refuse(RefusedBy::Limit, more).of(self.owner);
        refusal.reaches_this_thread();
        Err(Error::Refused(refusal))
    }

    /// As [`try_set`](Self::try_set), for a cache, which goes without where there is no room: false, and the reservation
    /// stays as it was. Only what a step leaves behind gives way to it, so no cache drives out another one or is asked for
    /// its own bytes meanwhile, and it is no refusal that anybody must act on.
    #[must_use]
    pub fn set_if_room(&mut self, bytes: u64) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes()).filter(|more| *more > 0) else {
            self.shrink_to(bytes);
            return true;
        };
        self.is_granted(more, Generation::Step)
    }

    /// Changes the reservation to `bytes` in all without asking the budget, for bytes that are in use already.
    pub fn set(&mut self, bytes: u64) {
        self.set_with_ahead(bytes, 0);
    }

    /// As [`set`](Self::set), with `ahead_bytes` more that are to be allocated and not in use yet.
    pub fn set_with_ahead(&mut self, bytes: u64, ahead_bytes: u64) {
        let heap_bytes = if self.is_heap && ledger::counts_heap() { bytes } else { 0 };
        self.change(heap_bytes, bytes - heap_bytes + ahead_bytes);
    }

    fn is_granted(&mut self, more: u64, oldest: Generation) -> bool {
        if budget::injection_refuses() || !budget::grant(Part::Declared, more, oldest) {
            return false;
        }
        // Who asks for more has allocated what was granted before.
        self.set(self.bytes());
        self.declared_bytes += more;
        ledger::reserve(self.owner, signed(more));
        true
    }

    /// What was declared goes first: it may not be in use yet.
    fn shrink_to(&mut self, bytes: u64) {
        let heap_bytes = self.heap_bytes.min(bytes);
        self.change(heap_bytes, bytes - heap_bytes);
    }

    fn change(&mut self, heap_bytes: u64, declared_bytes: u64) {
        let heap_more = signed(heap_bytes) - signed(self.heap_bytes);
        let declared_more = signed(declared_bytes) - signed(self.declared_bytes);
        ledger::count(Part::Declared, declared_more);
        ledger::move_heap(heap_more);
        ledger::reserve(self.owner, heap_more + declared_more);
        (self.heap_bytes, self.declared_bytes) = (heap_bytes, declared_bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Makes room for exactly `n_more` items beyond the length of a vector that may be large.
///
/// # Errors
/// [`Error::Refused`] where the system gives no memory; the vector is then as it was.
pub fn try_reserve<T>(items: &mut Vec<T>, n_more: usize, owner: Owner) -> Result<()> {
    items.try_reserve_exact(n_more).map_err(|_| {
        let bytes = (n_more as u64).saturating_mul(size_of::<T>() as u64);
        let refusal = budget::refuse(RefusedBy::System, bytes).of(owner);
        refusal.reaches_this_thread();
        Error::Refused(refusal)
    })
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_does_not_have_is_refused_and_not_the_end_of_the_process() {
        let mut items = vec![1u64, 2];
        let refused = try_reserve(&mut items, usize::MAX >> 8, Owner::named("test/reservation"));
        assert!(matches!(refused, Err(Error::Refused(refusal)) if refusal.by == RefusedBy::System));
        assert_eq!(items, [1, 2]);
        try_reserve(&mut items, 100, Owner::named("test/reservation")).unwrap();
        assert!(items.capacity() >= 102);
    }

    #[test]
    fn bytes_are_held_for_as_long_as_the_reservation_lives() {
        let owner = Owner::named("test/reservation");
        let mut reservation = Reservation::declared(owner);
        reservation.set(5000);
        assert_eq!(owner.bytes(), 5000);
        reservation.set(3000);
        assert_eq!((owner.bytes(), owner.peak_bytes()), (3000, 5000));
        assert!(reservation.set_if_room(4000));
        reservation.try_set(2000).unwrap();
        assert_eq!((owner.bytes(), reservation.bytes()), (2000, 2000));
        reservation.set_with_ahead(1000, 500);
        assert_eq!(owner.bytes(), 1500);
        drop(reservation);
        assert_eq!(owner.bytes(), 0);
    }
}
