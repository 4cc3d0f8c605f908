//! Refusals on purpose, so that tests can exercise what a run does when the memory limit has no room.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

static EVERY: AtomicU64 = AtomicU64::new(0);
/// The most repetitions of an attempt that is under way, and how many such attempts there are.
static MOST_BEFORE: AtomicU32 = AtomicU32::new(0);
static N_REPEATED: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static INJECTION: Cell<Injection> = const { Cell::new(Injection { n_requests: 0, n_before: None, every: 0 }) };
}

/// Counts a thread's requests towards the next injected refusal.
#[derive(Debug, Clone, Copy)]
struct Injection {
    n_requests: u64,
    /// How often the work of this thread was tried before; none outside of [`attempt`].
    n_before: Option<u32>,
    /// For this thread alone: as [`inject_refusals`] for all.
    every: u64,
}

/// Refuses every `every`-th request of each thread as if the memory limit had no room, in every phase of a run; 0 refuses
/// none. A request is a counted tensor or the growth of a reservation
/// ([`Reservation::try_set`](crate::ledger::reservation::Reservation::try_set)). Nothing is refused within
/// [`commit`](crate::ledger::budget::commit). Each repetition of an [`attempt`] gets four times as many requests before the
/// next refusal, so that all work ends.
pub fn inject_refusals(every: u64) {
    EVERY.store(every, Relaxed);
}

/// As [`inject_refusals`], for the calling thread alone: tests share a process.
#[cfg(test)]
pub(crate) fn inject_refusals_here(every: u64) {
    INJECTION.set(Injection { every, ..INJECTION.get() });
}

/// Runs one attempt at work that is tried again where the budget refuses it. `n_before` is how often it was tried before:
/// each repetition makes the requests between two refusals of [`inject_refusals`] four times as many, on this thread and
/// on threads without an attempt of their own.
pub fn attempt<T>(n_before: u32, work: impl FnOnce() -> T) -> T {
    struct Ends {
        before: Option<u32>,
        is_repeated: bool,
    }
    impl Drop for Ends {
        fn drop(&mut self) {
            INJECTION.set(Injection { n_before: self.before, ..INJECTION.get() });
            if self.is_repeated && N_REPEATED.fetch_sub(1, Relaxed) == 1 {
                MOST_BEFORE.store(0, Relaxed);
            }
        }
    }
    let is_repeated = n_before > 0;
    if is_repeated {
        N_REPEATED.fetch_add(1, Relaxed);
        MOST_BEFORE.fetch_max(n_before, Relaxed);
    }
    let injection = INJECTION.get();
    INJECTION.set(Injection { n_before: Some(n_before), ..injection });
    let _ends = Ends { before: injection.n_before, is_repeated };
    work()
}

/// Whether [`inject_refusals`] refuses the request that this thread makes now.
pub(crate) fn refuses() -> bool {
    let every_of_all = EVERY.load(Relaxed);
    let mut injection = INJECTION.get();
    let every = injection.every.max(every_of_all);
    if every == 0 {
        return false;
    }
    injection.n_requests += 1;
    let n_before = injection.n_before.unwrap_or_else(|| MOST_BEFORE.load(Relaxed));
    let refuses = injection.n_requests >= every.saturating_mul(4u64.saturating_pow(n_before));
    if refuses {
        injection.n_requests = 0;
    }
    INJECTION.set(injection);
    refuses
}
