//! Tests that draw from libtorch's generator, which is the process's, take turns. Every test here computes on one thread,
//! which has to be said before the first tensor: those that take no turn say it themselves.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Seeds the generator and holds it for one test.
pub(crate) fn seeded(seed: i64) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Busy threads of several tests on few cores wait for one another.
    memsys::libtorch::set_threads_once(1).unwrap();
    tch::manual_seed(seed);
    turn
}
