//! How many threads an operation of libtorch computes with. It is decided once: by the program before the first tensor,
//! or by that tensor, for libtorch's own number.
//!
//! libtorch holds one number for the process, and each thread that computes takes it over at its first operation that
//! libtorch itself divides. Kernels of oneDNN and MKL ask OpenMP instead, which has a number for each thread: until that
//! first operation it is OpenMP's own. Kernels also size their scratch memory by the number before they run, so it must
//! not change meanwhile.

use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::libtorch::raw;
use crate::libtorch::status::{checked, count_tensors_can_begin};

/// The number that the program has set, or none where a tensor came first.
static DECIDED: OnceLock<Option<i32>> = OnceLock::new();

/// Sets how many threads each operation computes with, on every thread of the program. Call it before the first tensor
/// is made; later it changes nothing, and is an error unless operations compute with `n_threads` already.
///
/// # Errors
/// [`Error::ThreadsAreSet`] where operations compute with another number; where libtorch refuses this one, as it does
/// below 1.
pub fn set_threads_once(n_threads: i32) -> Result<()> {
    // The allocator tells of the first tensor.
    count_tensors_can_begin()?;
    let mut outcome = Ok(());
    let decided = *DECIDED.get_or_init(|| {
        outcome = set(n_threads);
        outcome.is_ok().then_some(n_threads)
    });
    outcome?;
    adopt_threads()?;
    let set = decided.map_or_else(threads, Ok)?;
    if set == n_threads { Ok(()) } else { Err(Error::ThreadsAreSet { set, wanted: n_threads }) }
}

/// Makes every operation of this thread compute with the number that was set, the kernels that ask OpenMP included. Call
/// it at the start of a thread that computes.
///
/// # Errors
/// Where libtorch refuses the call.
pub fn adopt_threads() -> Result<()> {
    let n_threads = threads()?;
    match DECIDED.get().copied().flatten() {
        Some(set) if set != n_threads => self::set(set),
        _ => Ok(()),
    }
}

/// Leaves libtorch's own number, where none was set: a tensor is about to be made.
pub(super) fn decide() {
    DECIDED.get_or_init(|| None);
}

fn set(n_threads: i32) -> Result<()> {
    // SAFETY: takes no pointers. This thread computes nothing meanwhile, and other threads' numbers are their own.
    checked("set the number of threads", unsafe { raw::memsys_set_threads(n_threads) })
}

/// This thread's number.
fn threads() -> Result<i32> {
    let mut n_threads = 0;
    // SAFETY: `n_threads` is room for the number that is written, and outlives the call.
    checked("read the number of threads", unsafe { raw::memsys_threads(&raw mut n_threads) })?;
    Ok(n_threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Busy threads of several tests on few cores wait for one another, so each test of this crate computes on its own
    /// alone. Any of them may make the first tensor: the number is set while the program is loaded.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static WHEN_LOADED: extern "C" fn() = one_thread;

    extern "C" fn one_thread() {
        set_threads_once(1).unwrap();
    }

    /// What OpenMP would give a kernel that asks from this thread.
    fn openmp_threads() -> i32 {
        // SAFETY: the name is NUL-terminated, and OpenMP's function of that name takes nothing and gives an `int`.
        unsafe {
            let function = libc::dlsym(libc::RTLD_DEFAULT, c"omp_get_max_threads".as_ptr());
            assert!(!function.is_null());
            std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> i32>(function)()
        }
    }

    #[test]
    fn a_number_that_was_set_stays_and_is_every_threads() {
        set_threads_once(1).unwrap();
        assert!(matches!(set_threads_once(2), Err(Error::ThreadsAreSet { set: 1, wanted: 2 })));
        assert!(set_threads_once(0).is_err());
        assert_eq!(threads().unwrap(), 1);
        std::thread::spawn(|| {
            adopt_threads().unwrap();
            assert_eq!(openmp_threads(), 1);
        })
        .join()
        .unwrap();
    }
}
