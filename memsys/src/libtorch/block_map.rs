//! Which addresses are blocks of ours: a foreign one must not be read as one of them.
//!
//! ```text
//! bits of an address   47 .. 36    35 .. 24      23 .. 12     11 .. 6
//!                      root ─────> middle ─────> leaf ──────> bit of its word
//! ```
//!
//! Blocks begin at multiples of 64 bytes, of which a page has 64: one word of a leaf. Reading takes no lock, and a block
//! costs two atomic operations in its life. Tables come to be where blocks lie and are never given back: a leaf is 32 KiB
//! for 16 MiB of addresses. They are not counted; what is touched of them is in the residual.

use std::ptr::null_mut;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicPtr, AtomicU64};

const N_ENTRIES: usize = 1 << 12;
const ADDRESS_BITS: u32 = 48;

type Leaf = [AtomicU64; N_ENTRIES];
type Middle = [AtomicPtr<Leaf>; N_ENTRIES];

static ROOT: [AtomicPtr<Middle>; N_ENTRIES] = [const { AtomicPtr::new(null_mut()) }; N_ENTRIES];

/// Enters the block at `address`, a multiple of 64. False where the system has no room for a table.
pub(super) fn insert(address: usize) -> bool {
    if address >> ADDRESS_BITS != 0 {
        return false;
    }
    let Some(middle) = table_or_new(&ROOT[entry(address, 36)]) else { return false };
    let Some(leaf) = table_or_new(&middle[entry(address, 24)]) else { return false };
    leaf[entry(address, 12)].fetch_or(bit(address), Relaxed);
    true
}

/// Takes the block at `address` out. False where none of ours is there.
pub(super) fn remove(address: usize) -> bool {
    if address >> ADDRESS_BITS != 0 || !address.is_multiple_of(64) {
        return false;
    }
    let Some(middle) = table(&ROOT[entry(address, 36)]) else { return false };
    let Some(leaf) = table(&middle[entry(address, 24)]) else { return false };
    let word = &leaf[entry(address, 12)];
    // A foreign block costs no write.
    word.load(Relaxed) & bit(address) != 0 && word.fetch_and(!bit(address), Relaxed) & bit(address) != 0
}

fn entry(address: usize, shift: u32) -> usize {
    (address >> shift) % N_ENTRIES
}

fn bit(address: usize) -> u64 {
    1 << (address / 64 % 64)
}

fn table<T>(place: &AtomicPtr<T>) -> Option<&'static T> {
    // SAFETY: a place is null or holds a table of `table_or_new`, whole before it is published and never given back.
    unsafe { place.load(Acquire).as_ref() }
}

fn table_or_new<T>(place: &AtomicPtr<T>) -> Option<&'static T> {
    if let Some(found) = table(place) {
        return Some(found);
    }
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let made = unsafe { libc::mmap(null_mut(), size_of::<T>(), protection, flags, -1, 0) };
    if made == libc::MAP_FAILED {
        return None;
    }
    // A mapping is zeros: a table of nulls or of empty words.
    if place.compare_exchange(null_mut(), made.cast(), AcqRel, Acquire).is_err() {
        // Another thread was faster.
        // SAFETY: nobody else has seen the mapping just made.
        unsafe { libc::munmap(made, size_of::<T>()) };
    }
    table(place)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Addresses that no block lies at: near the end of what a process may have, in a few pages of a few leaves.
    fn address() -> impl Strategy<Value = usize> {
        let start = (1usize << ADDRESS_BITS) - (1 << 30);
        (0..3usize, 0..3usize, 0..64usize)
            .prop_map(move |(leaf, page, place)| start + (leaf << 24) + (page << 12) + place * 64)
    }

    proptest! {
        #[test]
        fn the_map_is_a_set(operations in prop::collection::vec((any::<bool>(), address()), 0..200)) {
            let mut set = BTreeSet::new();
            for (enters, address) in operations {
                if enters {
                    prop_assert!(insert(address));
                    set.insert(address);
                } else {
                    prop_assert_eq!(remove(address), set.remove(&address));
                }
            }
            for address in set {
                prop_assert!(remove(address));
            }
        }
    }

    #[test]
    fn what_cannot_be_a_block_of_ours_is_not_in_the_map() {
        let start = (1 << ADDRESS_BITS) - (1 << 31);
        assert!(insert(start + 64));
        for foreign in [0, 64, start, start + 72, start + 128, start + (1 << 24), usize::MAX - 63] {
            assert!(!remove(foreign), "{foreign:x}");
        }
        assert!(!insert(1 << ADDRESS_BITS));
        assert!(remove(start + 64) && !remove(start + 64));
    }
}
