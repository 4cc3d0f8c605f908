//! Reservations: bytes that an owner holds for as long as the reservation lives.
//!
//! There are two kinds. A *heap* reservation moves the bytes of a large structure from [`ledger::HEAP`], where they are
//! counted already, to the structure's owner. A *declared* reservation counts what no allocator here sees: mapped
//! files, buffers inside a library, pinned memory. A holder asks for more before it uses the bytes, and the budget
//! refuses where the memory limit has no room. A reservation allocates nothing itself.

use crate::error::{Error, Result};
use crate::ledger::budget;
use crate::ledger::{self, Owner};

/// Bytes that the ledger counts under an owner until the reservation is dropped.
#[derive(Debug)]
pub struct Reservation {
    owner: Owner,
    is_heap: bool,
    bytes: u64,
}

impl Reservation {
    /// A reservation of 0 bytes of Rust's heap.
    #[must_use]
    pub fn of_heap(owner: Owner) -> Self {
        Self { owner, is_heap: true, bytes: 0 }
    }

    /// A reservation of 0 bytes that no allocator counts.
    #[must_use]
    pub fn declared(owner: Owner) -> Self {
        Self { owner, is_heap: false, bytes: 0 }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Changes the reservation to `bytes` in all. Call it before you use the bytes.
    ///
    /// # Errors
    /// [`Error::Refused`] where the memory limit has no room for the growth even after caches are collected; the
    /// reservation then stays as it was.
    pub fn try_set(&mut self, bytes: u64) -> Result<()> {
        if let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) {
            let room = budget::injected_refusal(more).map_or_else(|| budget::make_room(more), Err);
            room.map_err(|refusal| Error::Refused(refusal.of(self.owner)))?;
        }
        self.set(bytes);
        Ok(())
    }

    /// Changes the reservation to `bytes` in all without asking the budget, for bytes that are in use already.
    pub fn set(&mut self, bytes: u64) {
        let difference =
            i64::try_from(bytes).unwrap_or(i64::MAX) - i64::try_from(self.bytes).unwrap_or(i64::MAX);
        ledger::reserve(self.owner, self.is_heap, difference);
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_for_as_long_as_the_reservation_lives() {
        let owner = Owner::named("test/reservation");
        let mut reservation = Reservation::declared(owner);
        reservation.set(5000);
        assert_eq!(owner.bytes(), 5000);
        reservation.set(3000);
        assert_eq!((owner.bytes(), owner.peak_bytes()), (3000, 5000));
        drop(reservation);
        assert_eq!(owner.bytes(), 0);
    }
}
