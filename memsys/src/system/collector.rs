//! Collections by generation, with the free pages of the C library's heap.
//!
//! Holders of bytes register as [`Reclaimable`](crate::ledger::reclaimable::Reclaimable), which the budget asks too. Only
//! the free pages of the heap are collected here: they are resident and not counted, so they make no room under the
//! memory limit before they are trimmed.

use crate::error::Result;
use crate::ledger::reclaimable;
use crate::os::probe;

pub use crate::ledger::reclaimable::Generation;

/// Collects up to `bytes` from the generations up to `oldest` and returns how many bytes were given back.
/// [`Generation::Cold`] also trims the C library's heap, which takes milliseconds.
///
/// # Errors
/// The error of [`trim`], for [`Generation::Cold`] only.
pub fn collect(oldest: Generation, bytes: u64) -> Result<u64> {
    let given = reclaimable::collect(Generation::Step, oldest, bytes);
    if oldest < Generation::Cold {
        return Ok(given);
    }
    Ok(given + trim()?)
}

/// Gives the free pages within the C library's heap back to the kernel and returns by how many bytes the resident set
/// shrank. It walks the whole heap, which takes milliseconds.
///
/// # Errors
/// [`Error::Probe`](crate::Error::Probe) if the kernel does not tell the resident bytes.
pub fn trim() -> Result<u64> {
    let before = probe::resident_bytes()?;
    crate::os::trim_heap();
    Ok(before.saturating_sub(probe::resident_bytes()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;
    use crate::ledger::reclaimable::{Reclaimable, register, tests::turn};

    /// A holder that counts how often this test asks it: no other one asks for as many bytes.
    struct Endless(Generation, AtomicU64);

    impl Reclaimable for Endless {
        fn name(&self) -> &'static str {
            "endless"
        }

        fn generation(&self) -> Generation {
            self.0
        }

        fn bytes(&self) -> u64 {
            1 << 60
        }

        fn restore_nanos_per_byte(&self) -> f64 {
            1.0
        }

        fn give_back(&self, bytes: u64) -> u64 {
            self.1.fetch_add(u64::from((1 << 59..=1 << 60).contains(&bytes)), SeqCst);
            0
        }
    }

    #[test]
    fn a_collection_asks_its_generation_and_the_younger_ones() {
        let _turn = turn();
        let generations = [Generation::Step, Generation::Caches, Generation::Cold];
        let holders = generations.map(|generation| Arc::new(Endless(generation, AtomicU64::new(0))));
        let _registered = holders.each_ref().map(|holder| register(holder.clone()));
        for (oldest, n_asked) in generations.into_iter().zip([[1, 0, 0], [2, 1, 0], [3, 2, 1]]) {
            collect(oldest, 1 << 60).unwrap();
            assert_eq!(holders.each_ref().map(|holder| holder.1.load(SeqCst)), n_asked, "{oldest}");
        }
    }
}
