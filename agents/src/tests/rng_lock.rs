//! Tests that draw from libtorch's generator take turns: the process has one generator.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Holds the generator for one test.
pub(crate) fn lock() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
