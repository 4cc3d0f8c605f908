//! Tests that draw from libtorch's generator take turns: the process has one generator.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Seeds the generator and holds it until the guard is dropped.
pub(crate) fn seeded(seed: i64) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Several tests run at once: on few cores their threads would wait for one another.
    tch::set_num_threads(1);
    tch::manual_seed(seed);
    guard
}
