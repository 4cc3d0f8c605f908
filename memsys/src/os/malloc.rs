//! Settings of the C library's `malloc` that make it give freed memory back.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static N_TRIMS: AtomicU64 = AtomicU64::new(0);

/// Makes glibc's `malloc` give freed memory back to the kernel. Each block of 1 MiB or more gets a separate mapping, the
/// top of the heap is returned beyond 16 MiB, and all threads share two arenas instead of fragmenting one each. Without
/// these settings glibc moves its thresholds with the sizes that the program frees. Returns `false` if glibc refuses a
/// setting.
pub fn tune_malloc() -> bool {
    mallopt(libc::M_MMAP_THRESHOLD, 1 << 20)
        && mallopt(libc::M_TRIM_THRESHOLD, 16 << 20)
        && mallopt(libc::M_ARENA_MAX, 2)
}

fn mallopt(parameter: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: `mallopt` takes plain numbers and may be called at any time.
    unsafe { libc::mallopt(parameter, value) == 1 }
}

/// Gives the free pages within glibc's heap back to the kernel and returns whether there were any. It walks the whole
/// heap, which takes milliseconds.
pub fn trim_heap() -> bool {
    N_TRIMS.fetch_add(1, Relaxed);
    // SAFETY: `malloc_trim` may be called at any time.
    unsafe { libc::malloc_trim(0) == 1 }
}

/// Number of calls of [`trim_heap`] so far.
#[must_use]
pub fn n_heap_trims() -> u64 {
    N_TRIMS.load(Relaxed)
}
