//! Bringing memory near before it is read.

/// Bytes of a cache line.
const LIMIT_BYTES: usize = 64;

/// Asks the processor to bring `bytes` into its cache, and does not wait: waits for scattered memory overlap where all
/// of it is asked for before any is read. Elsewhere than on x86-64 nothing is done.
#[inline]
pub fn prefetch(bytes: &[u8]) {
    for line in bytes.chunks(LIMIT_BYTES).chain([&bytes[bytes.len().saturating_sub(1)..]]) {
        hint(line.as_ptr());
    }
}

/// As [`prefetch`], of what a value begins with.
#[inline]
pub fn prefetch_value<T>(value: &T) {
    hint(std::ptr::from_ref(value).cast());
}

#[inline]
fn hint(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing and faults at no address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
