//! Collections of caches, by generation.
//!
//! As in a garbage collector, an older generation takes longer to collect: what a step leaves behind, what caches hold,
//! and free pages within the C library's heap. A cache registers itself with [`budget::add_collector`]. Live data is not
//! collected here: that is [`Reclaimable`](crate::system::reclaimable::Reclaimable)'s part.

use std::fmt;

use crate::error::Result;
use crate::ledger::budget;
use crate::os::probe;

/// How much a collection covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// 0: what a step leaves behind.
    Step,
    /// 1: caches.
    Caches,
    /// 2: caches and the free pages within the C library's heap.
    Cold,
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "generation {}", *self as u8)
    }
}

/// Collects up to `bytes` and returns how many bytes were given back. The two young generations both ask the budget's
/// collectors; [`Generation::Cold`] also trims the C library's heap, which takes milliseconds.
///
/// # Errors
/// The error of [`trim`], for [`Generation::Cold`] only.
pub fn collect(generation: Generation, bytes: u64) -> Result<u64> {
    let given = budget::collect(bytes);
    if generation < Generation::Cold {
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
    use super::*;
    use crate::ledger::budget::CollectOrder;

    #[test]
    fn every_generation_asks_the_collectors() {
        // Registers the tensors' cache now: a registration beside the collections below would make them skip.
        #[cfg(feature = "libtorch")]
        crate::libtorch::count_tensors().unwrap();
        // No other test asks for this many bytes, and the tensors of other tests are far smaller.
        const WANTED_BYTES: u64 = 1 << 60;
        let gives = |wanted| if (WANTED_BYTES / 2..=WANTED_BYTES).contains(&wanted) { 5000 } else { 0 };
        budget::add_collector(CollectOrder::OtherCaches, Box::new(gives));
        for generation in [Generation::Step, Generation::Caches, Generation::Cold] {
            assert!(collect(generation, WANTED_BYTES).unwrap() >= 5000, "{generation}");
        }
    }

    #[test]
    fn generations_are_numbered_from_the_youngest() {
        assert_eq!(Generation::Step.to_string(), "generation 0");
        assert_eq!(Generation::Cold.to_string(), "generation 2");
    }
}
