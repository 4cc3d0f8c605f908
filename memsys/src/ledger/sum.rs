//! A check that the ledger adds up.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::ledger::{
    BLOCK_BYTES, COUNTERS, Counters, DECLARED_BYTES, HEAP_RESERVED_BYTES, KEPT_BYTES, TENSOR_BYTES, heap,
};

/// How often a sum is looked at before it is wrong: another thread may be between two halves of a change.
const N_LOOKS: u32 = 1000;

/// Counters that do not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongSum {
    /// The whole that does not hold its parts.
    pub whole: &'static str,
    /// The bytes of the whole.
    pub whole_bytes: i64,
    /// The bytes of its parts together.
    pub parts_bytes: i64,
}

impl fmt::Display for WrongSum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { whole, whole_bytes, parts_bytes } = self;
        write!(formatter, "{whole} are {whole_bytes} bytes, and their parts {parts_bytes}")
    }
}

/// Checks that the owners add up to the counted bytes: the tensors and the reservations of all owners are those counted as a
/// whole, reservations claim no more of Rust's heap than it holds, and blocks hold the tensors in them. For a moment at
/// which other threads allocate little.
///
/// # Errors
/// The first sum that is wrong.
pub fn verify_sum() -> Result<(), WrongSum> {
    let mut found = Ok(());
    for _ in 0..N_LOOKS {
        found = look();
        if found.is_ok() {
            break;
        }
        std::thread::yield_now();
    }
    found
}

fn look() -> Result<(), WrongSum> {
    let of_owners = |bytes: fn(&Counters) -> &AtomicI64| -> i64 {
        COUNTERS.iter().map(|counters| bytes(counters).load(Relaxed)).sum()
    };
    let tensors = TENSOR_BYTES.load(Relaxed);
    let in_heap = HEAP_RESERVED_BYTES.load(Relaxed);
    equal("tensors", tensors, of_owners(|counters| &counters.tensor_bytes))?;
    let reserved = DECLARED_BYTES.load(Relaxed) + in_heap;
    equal("reservations", reserved, of_owners(|counters| &counters.reserved_bytes))?;
    holds("Rust's heap", heap() + in_heap, in_heap)?;
    holds("blocks of tensors", BLOCK_BYTES.load(Relaxed), tensors + KEPT_BYTES.load(Relaxed))
}

fn equal(whole: &'static str, whole_bytes: i64, parts_bytes: i64) -> Result<(), WrongSum> {
    if whole_bytes == parts_bytes { Ok(()) } else { Err(WrongSum { whole, whole_bytes, parts_bytes }) }
}

/// The whole may hold more than its parts.
fn holds(whole: &'static str, whole_bytes: i64, parts_bytes: i64) -> Result<(), WrongSum> {
    if whole_bytes >= parts_bytes { Ok(()) } else { Err(WrongSum { whole, whole_bytes, parts_bytes }) }
}
