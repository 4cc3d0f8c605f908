//! Tests that draw from libtorch's generator take turns: the process has one generator.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Seeds the generator and holds it until the guard is dropped.
pub(crate) fn seeded(seed: i64) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Several tests run at once: on few cores their threads would wait for one another.
    memsys::libtorch::set_threads_once(1).expect("every test of this crate computes on one thread");
    tch::manual_seed(seed);
    guard
}
