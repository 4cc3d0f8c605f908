//! Counts the resident bytes of thread stacks.

use crate::ledger::Owner;
use crate::ledger::reservation::Reservation;

const PAGE_BYTES: usize = 4096;

/// Counts what is resident of this thread's stack now, under `runtime/threads`, for as long as the reservation lives.
/// Hold the reservation until the thread ends. The stacks of threads that libraries start are part of the residual.
#[must_use]
pub fn count_stack() -> Reservation {
    let mut reservation = Reservation::declared(Owner::named("runtime/threads"));
    reservation.set(resident_stack_bytes());
    reservation
}

fn resident_stack_bytes() -> u64 {
    let (mut address, mut bytes) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes are initialised by `pthread_getattr_np` before they are read and destroyed once;
    // `address` and `bytes` are room for what is written.
    let found = unsafe {
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return 0;
        }
        let status = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut address, &raw mut bytes);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        status == 0
    };
    let start = (address as usize).next_multiple_of(PAGE_BYTES);
    let n_pages = (address as usize + bytes).saturating_sub(start) / PAGE_BYTES;
    let mut resident = vec![0u8; n_pages];
    // SAFETY: the range is this thread's own stack; the vector has a byte for each of its pages.
    let read = found
        && unsafe { libc::mincore(start as *mut libc::c_void, n_pages * PAGE_BYTES, resident.as_mut_ptr()) }
            == 0;
    if !read {
        return 0;
    }
    resident.iter().filter(|page| **page & 1 == 1).count() as u64 * PAGE_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_used_its_stack_is_counted_with_it() {
        let used = |n: usize| {
            std::thread::spawn(move || {
                let room = [1u8; 512 << 10];
                let touched: u64 = room[..n].iter().map(|byte| u64::from(std::hint::black_box(*byte))).sum();
                (touched, count_stack().bytes())
            })
            .join()
            .unwrap()
        };
        let (_, bytes) = used(512 << 10);
        assert!((512 << 10..4 << 20).contains(&bytes), "{bytes}");
    }
}
