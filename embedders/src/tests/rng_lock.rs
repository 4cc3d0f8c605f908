//! Tests that draw from libtorch's generator, which is the process's, take turns.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Seeds the generator and holds it for one test.
pub(crate) fn seeded(seed: i64) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Busy threads of several tests on few cores wait for one another.
    tch::set_num_threads(1);
    tch::manual_seed(seed);
    turn
}
