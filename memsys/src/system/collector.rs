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

    use super::*;
    use crate::ledger::reclaimable::{Reclaimable, register, tests::turn};

    struct Endless(Generation);

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

        /// No other test asks for this many bytes, and the tensors of other tests are far smaller.
        fn give_back(&self, bytes: u64) -> u64 {
            if (1 << 59..=1 << 60).contains(&bytes) { 5000 } else { 0 }
        }
    }

    #[test]
    fn a_collection_asks_its_generation_and_the_younger_ones() {
        let _turn = turn();
        let generations = [Generation::Step, Generation::Caches, Generation::Cold];
        let _registered = generations.map(|generation| register(Arc::new(Endless(generation))));
        for (oldest, least) in generations.into_iter().zip([5000, 10_000, 15_000]) {
            let given = collect(oldest, 1 << 60).unwrap();
            assert!(
                given >= least && (given < least + 5000 || oldest == Generation::Cold),
                "{oldest}: {given}"
            );
        }
    }
}
