//! Collections of what is only cached, by generation.
//!
//! A program without a tracing collector still has generations: what a step leaves, what caches hold, and what lies
//! cold. Who caches something says so with [`budget::add_collector`].

use std::fmt;

use crate::error::Result;
use crate::ledger::budget;
use crate::os::probe;

/// How deep a collection reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// 0: what a step leaves behind.
    Step,
    /// 1: caches.
    Caches,
    /// 2: caches, and the free pages within the C library's heap.
    Cold,
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "generation {}", *self as u8)
    }
}

/// Collects up to `bytes` and returns how many were given back. The two young generations share the budget's
/// collectors; [`Generation::Cold`] also trims the C library's heap, which takes milliseconds.
///
/// # Errors
/// As [`trim`]'s, for [`Generation::Cold`].
pub fn collect(generation: Generation, bytes: u64) -> Result<u64> {
    let given = budget::collect(bytes);
    if generation < Generation::Cold {
        return Ok(given);
    }
    Ok(given + trim()?)
}

/// Gives the free pages within the C library's heap back to the system and returns by how much less is resident. It
/// walks the whole heap: milliseconds.
///
/// # Errors
/// Where the kernel does not say what is resident.
pub fn trim() -> Result<u64> {
    let before = probe::resident_bytes()?;
    crate::os::trim_heap();
    Ok(before.saturating_sub(probe::resident_bytes()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generation_collects_and_counts() {
        for generation in [Generation::Step, Generation::Caches, Generation::Cold] {
            let n_before = budget::n_collections();
            assert!(collect(generation, 0).is_ok());
            assert!(budget::n_collections() > n_before);
        }
        assert_eq!(Generation::Cold.to_string(), "generation 2");
    }
}
