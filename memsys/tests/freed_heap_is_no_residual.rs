//! In a process of its own, whose resident bytes only this test changes.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use std::time::Duration;

use memsys::ledger::{self, budget};
use memsys::os::{CountedHeap, probe};
use memsys::system::MemoryOptimizationSystem;

#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

const MIB: u64 = 1 << 20;

#[test]
fn memory_that_was_freed_and_not_trimmed_takes_no_room_under_the_limit() {
    let resident = || probe::resident_bytes().unwrap();
    ledger::set_base(resident().saturating_sub(ledger::counted_bytes()));
    budget::allow_residual(8 * MIB);
    let system = MemoryOptimizationSystem::builder().interval(Duration::from_secs(1 << 20)).start().unwrap();
    system.turn("before");
    let before = resident();
    let mut blocks: Vec<_> = (0..100_000).map(|i| vec![i as u8; 1000]).collect();
    // The last block lies on top of the others, whose pages the C library therefore keeps.
    let last = blocks.pop();
    drop(blocks);
    let kept = resident() - before;
    assert!(kept > 80 * MIB, "{kept}");
    system.turn("after");
    let aside = budget::residual_allowance_bytes();
    assert!(aside < 40 * MIB, "{aside}");
    drop(last);
}
