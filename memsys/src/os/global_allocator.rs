//! The global allocator that counts Rust's heap.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::ledger;

/// Rust's default allocator with every byte counted in the ledger under [`ledger::HEAP`]. It counts only: it never
/// refuses an allocation. A program makes it its global allocator:
///
/// ```
/// #[global_allocator]
/// static HEAP: memsys::os::CountedHeap = memsys::os::CountedHeap;
/// let before = memsys::ledger::HEAP.bytes();
/// let numbers = vec![0u8; 100_000];
/// assert!(memsys::ledger::HEAP.bytes() >= before + 100_000);
/// # drop(numbers);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct CountedHeap;

// SAFETY: every call goes to `System` unchanged and its result is returned unchanged; counting only changes atomics, so
// it neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            ledger::count_heap(layout.size() as i64);
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            ledger::count_heap(layout.size() as i64);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(block, layout) };
        ledger::count_heap(-(layout.size() as i64));
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps `realloc`'s contract.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        if !moved.is_null() {
            ledger::count_heap(new_size as i64 - layout.size() as i64);
        }
        moved
    }
}
