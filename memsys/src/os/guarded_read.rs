//! Reads of mapped files that another program may cut off meanwhile.
//!
//! The system raises SIGBUS where a page of a mapping is read that the file does not have any more, or that the disk cannot
//! give, and SIGBUS ends the process. So a read of a mapping is announced. The handler of the signal finds the mapping
//! among those that its thread has announced, marks it as lost, puts zeros in the place of its pages, and lets the read go
//! on. Whoever reads looks at the mark after the read and throws away what was read:
//!
//! ```text
//! announce ──> read ──> [SIGBUS: mark the mapping, put zeros there] ──> read ends ──> is it marked? an error
//! ```
//!
//! The mark is set before the zeros are there, so that another thread that reads the same pages sees it too. A mapping that
//! is lost stays lost. Every other SIGBUS goes to the handler that was there before.

use std::cell::Cell;
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst, compiler_fence};

/// A read that a thread has announced. It lies on the thread's stack.
struct Announced<'a> {
    addresses: Range<usize>,
    is_lost: &'a AtomicBool,
    outer: *const Announced<'a>,
}

thread_local! {
    /// The innermost announced read of this thread. It has no destructor and no lazy beginning, so that the handler may read it.
    static INNERMOST: Cell<*const Announced<'static>> = const { Cell::new(null()) };
}

/// What the handler needs.
struct Known {
    /// The action for SIGBUS before ours.
    before: libc::sigaction,
    page_bytes: usize,
}

static KNOWN: OnceLock<Known> = OnceLock::new();
static IS_INSTALLED: OnceLock<bool> = OnceLock::new();

/// Calls `read`, which may read `mapped`, a mapping of a file. `is_lost` is its mark.
///
/// # Errors
/// If some of the bytes are not in the file any more or cannot be read, now or at an earlier time.
pub(super) fn read_guarded<T>(mapped: &[u8], is_lost: &AtomicBool, read: impl FnOnce() -> T) -> Result<T> {
    struct Ends(*const Announced<'static>);
    impl Drop for Ends {
        fn drop(&mut self) {
            compiler_fence(SeqCst);
            INNERMOST.set(self.0);
        }
    }
    if !*IS_INSTALLED.get_or_init(install) {
        return Err(Error::last_os_error());
    }
    let start = mapped.as_ptr() as usize;
    let announced =
        Announced { addresses: start..start + mapped.len(), is_lost, outer: INNERMOST.get().cast() };
    let ends = Ends(INNERMOST.get());
    INNERMOST.set((&raw const announced).cast());
    compiler_fence(SeqCst);
    let found = read();
    drop(ends);
    if is_lost.load(SeqCst) {
        return Err(Error::new(ErrorKind::UnexpectedEof, "a part of it is gone or cannot be read"));
    }
    Ok(found)
}

/// Installs the handler, and says whether the system let it.
fn install() -> bool {
    // SAFETY: `sigaction` is plain numbers, for which zeros are valid; both pointers are to such values, and the handler
    // keeps to what a handler may do.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, null(), &raw mut before) != 0 {
            return false;
        }
        let page_bytes = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        // It is there before the handler is, which needs it.
        let _ = KNOWN.set(Known { before, page_bytes });
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = handle as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut ours.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const ours, null_mut()) == 0
    }
}

extern "C" fn handle(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the system gives a valid `info` for a handler with `SA_SIGINFO`, and a SIGBUS has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let Some(known) = KNOWN.get() else { return };
    if !replaced_by_zeros(address, known.page_bytes) {
        // The instruction is made again, now under the action that was there before.
        // SAFETY: the action was given by the system.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const known.before, null_mut()) };
    }
}

/// Puts zeros in the place of an announced mapping from the page of `address` on, and marks it. It calls what a handler may
/// call alone, and leaves `errno` as it was.
fn replaced_by_zeros(address: usize, page_bytes: usize) -> bool {
    let mut at = INNERMOST.get();
    while !at.is_null() {
        // SAFETY: an announced read lies on this thread's stack until it is taken from the list, and the thread stands in
        // the read.
        let announced = unsafe { &*at };
        if announced.addresses.contains(&address) {
            announced.is_lost.store(true, SeqCst);
            let page = address - address % page_bytes;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let n_bytes = announced.addresses.end - page;
            // SAFETY: the pages belong to a read-only mapping that is announced, and so alive. They are replaced by pages
            // of the same protection, which the mapping's end unmaps as well.
            // The location of `errno` is the thread's own.
            let zeros = unsafe {
                let errno = libc::__errno_location();
                let before = *errno;
                let zeros = libc::mmap(page as *mut libc::c_void, n_bytes, libc::PROT_READ, flags, -1, 0);
                *errno = before;
                zeros
            };
            return zeros != libc::MAP_FAILED;
        }
        at = announced.outer;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use crate::os::Map;

    const PAGE: usize = 4096;

    fn file_of(n_pages: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7u8; n_pages * PAGE]).unwrap();
        file
    }

    fn sum(map: &Map) -> std::io::Result<usize> {
        map.guarded(|| map.bytes().iter().map(|byte| usize::from(*byte)).sum())
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_mapped_is_an_error_and_not_the_end_of_the_process() {
        let file = file_of(40);
        let (map, other) = (Map::of(&file, 0, 40 * PAGE).unwrap(), Map::of(&file, 0, 10 * PAGE).unwrap());
        assert_eq!(sum(&map).unwrap(), 7 * 40 * PAGE);
        // One read within another, of another mapping, as a window's reader may do.
        file.set_len(20 * PAGE as u64).unwrap();
        assert!(other.guarded(|| sum(&map).is_err() && sum(&other).is_ok()).unwrap());
        assert!(sum(&map).is_err(), "what is lost stays lost");
        assert_eq!(sum(&Map::of(&file, 0, 20 * PAGE).unwrap()).unwrap(), 7 * 20 * PAGE);
    }

    #[test]
    fn every_thread_that_reads_a_lost_page_is_told() {
        for _ in 0..30 {
            let file = file_of(64);
            let map = Map::of(&file, 0, 64 * PAGE).unwrap();
            let wrong = std::thread::scope(|scope| {
                let readers: Vec<_> = (0..3)
                    .map(|_| {
                        let map = &map;
                        scope.spawn(move || {
                            loop {
                                match sum(map) {
                                    Ok(found) if found != 7 * 64 * PAGE => return true,
                                    Ok(_) => {}
                                    Err(_) => return false,
                                }
                            }
                        })
                    })
                    .collect();
                file.set_len(PAGE as u64).unwrap();
                readers.into_iter().any(|reader| reader.join().unwrap())
            });
            assert!(!wrong, "zeros were taken for what the file holds");
        }
    }
}
