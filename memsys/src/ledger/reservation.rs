//! Reservations: bytes that are held only for as long as the reservation lives.
//!
//! Two kinds. A *heap* reservation says whose bytes of Rust's heap those of a large structure are (they are counted
//! already, under [`ledger::HEAP`]). A *declared* one counts what no allocator of ours sees:
//! mapped files, a library's own buffers, pinned memory. Growth is asked for before the bytes are used, and refused
//! where the memory limit has no room.

use crate::error::{Error, Result};
use crate::ledger::budget;
use crate::ledger::{self, Owner};

/// Bytes held in the ledger under an owner's name; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    owner: Owner,
    is_heap: bool,
    bytes: u64,
}

impl Reservation {
    /// Bytes of Rust's heap, none yet.
    #[must_use]
    pub fn of_heap(owner: Owner) -> Self {
        Self { owner, is_heap: true, bytes: 0 }
    }

    /// Bytes that no allocator counts, none yet.
    #[must_use]
    pub fn declared(owner: Owner) -> Self {
        Self { owner, is_heap: false, bytes: 0 }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds `bytes` in all from now on. Call it before the bytes are used.
    ///
    /// # Errors
    /// [`Error::Refused`] where the memory limit has no room for more, after caches were collected; nothing has changed then.
    pub fn try_set(&mut self, bytes: u64) -> Result<()> {
        if let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) {
            budget::make_room(more).map_err(|refusal| Error::Refused(refusal.of(self.owner)))?;
        }
        self.set(bytes);
        Ok(())
    }

    /// States that it holds `bytes` in all, which are there already.
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
