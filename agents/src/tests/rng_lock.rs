//! Tests take turns: the process has one random generator of libtorch and one thread count, which the first tensor
//! decides. Every test that makes a tensor holds this lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Holds the generator for one test.
pub(crate) fn lock() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // Several tests run at once: on few cores their threads would wait for one another.
    memsys::libtorch::set_threads_once(1).expect("every test of this crate computes on one thread");
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
