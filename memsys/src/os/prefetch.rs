//! Hints to the processor to load memory into its cache before the program reads it.

/// Size of the processor's cache lines.
const CACHE_LINE_BYTES: usize = 64;

/// Asks the processor to load `bytes` into its cache, and does not wait. Ask for all of several scattered ranges before
/// you read the first one, so that their waits overlap. Does nothing on processors other than x86-64.
#[inline]
pub fn prefetch(bytes: &[u8]) {
    for line in bytes.chunks(CACHE_LINE_BYTES).chain([&bytes[bytes.len().saturating_sub(1)..]]) {
        hint(line.as_ptr());
    }
}

/// As [`prefetch`], for the first cache line of a value.
#[inline]
pub fn prefetch_value<T>(value: &T) {
    hint(std::ptr::from_ref(value).cast());
}

#[inline]
fn hint(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction is a hint that cannot fault at any address; every x86-64 processor has SSE.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
