//! The shared core and its stress.

#[path = "../../src/replay/shared/core.rs"]
mod core;
#[path = "../../src/replay/shared/stress.rs"]
mod stress;

use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use self::core::{Lock, Locks, StdLocks};

/// Locks that are tried again and again. A thread that finds one of the standard library's taken waits inside that
/// library: where it was built without ThreadSanitizer, which then does not see that the waiting ended after the
/// other's writes, every wait would look like a race. The first try is generic, and is built here.
struct TriedLocks;

impl Locks for TriedLocks {
    type Of<T> = Tried<T>;
}

struct Tried<T>(Mutex<T>);

impl<T> Lock<T> for Tried<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        loop {
            match self.0.try_lock() {
                Ok(mut value) => return work(&mut value),
                Err(TryLockError::Poisoned(poisoned)) => return work(&mut poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }
}

/// Eight writers, a sampler, a learner and a compressor for so long; `tried` says by which locks.
pub fn stress(time: Duration, tried: bool) {
    if tried { stress::run::<TriedLocks>(time) } else { stress::run::<StdLocks>(time) }
}
