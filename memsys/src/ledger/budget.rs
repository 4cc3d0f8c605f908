//! The budget: enforces the memory limit on every counted allocation.
//!
//! ```text
//! counted + residual + wanted <= limit ?  ── yes ──> granted
//!                    │ no
//!                    └──> the collectors give back caches ──> checked again ──> granted, or refused
//! ```
//!
//! `residual` is an allowance for bytes that are resident and not counted ([`allow_residual`]): code pages touched since
//! the start, scratch memory inside libraries, fragments of the C library's heap. A refused allocation of a tensor
//! throws in libtorch and reaches Rust as an error; [`take_refusal`] tells it from other errors.
//!
//! The budget knows no cache by name: whoever caches something registers it with [`add_collector`]. Collectors run on
//! the thread that asks for memory. The limit holds for the whole process, at every allocation, whether or not a
//! [`MemoryOptimizationSystem`](crate::system::MemoryOptimizationSystem) runs.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, RwLock};

use crate::ledger::refusal::Refusal;
use crate::ledger::{self, Owner};

static LIMIT_BYTES: AtomicU64 = AtomicU64::new(u64::MAX);
static RESIDUAL_BYTES: AtomicU64 = AtomicU64::new(0);
static N_DENIED: AtomicU64 = AtomicU64::new(0);
static N_COLLECTIONS: AtomicU64 = AtomicU64::new(0);
static LAST_REFUSAL: Mutex<Option<Refusal>> = Mutex::new(None);
static REFUSE_EVERY: AtomicU64 = AtomicU64::new(0);
static REFUSE_IN_ATTEMPTS_ALONE: AtomicBool = AtomicBool::new(false);

/// Gives back up to the given number of bytes and returns how many bytes of the process it gave. Asked for 0 bytes, it
/// gives back nothing of the process.
pub type Collect = dyn Fn(u64) -> u64 + Send + Sync;

/// Forgets the peaks of the work so far.
pub type ForgetPeaks = dyn Fn() + Send + Sync;

/// The order in which a collection asks the collectors: what is cheapest to fill again comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CollectOrder {
    /// Freed blocks of tensors.
    TensorBlocks,
    /// The caches of devices.
    DeviceCaches,
    /// Every other cache.
    OtherCaches,
}

static COLLECTORS: RwLock<Vec<(CollectOrder, Box<Collect>)>> = RwLock::new(Vec::new());
static PEAKS: RwLock<Vec<Box<ForgetPeaks>>> = RwLock::new(Vec::new());

thread_local! {
    static REFUSED: Cell<Option<Refusal>> = const { Cell::new(None) };
    static COLLECTING: Cell<bool> = const { Cell::new(false) };
    static IN_COMMIT: Cell<bool> = const { Cell::new(false) };
    static INJECTION: Cell<Injection> = const { Cell::new(Injection { n_requests: 0, n_before: None, every: 0 }) };
}

/// Sets the memory limit of the whole process, in bytes.
pub fn set_limit(bytes: u64) {
    LIMIT_BYTES.store(bytes, Relaxed);
}

/// The memory limit in bytes; `u64::MAX` if none is set.
#[must_use]
pub fn limit_bytes() -> u64 {
    LIMIT_BYTES.load(Relaxed)
}

/// Sets `bytes` under the memory limit aside for what is resident and not counted.
pub fn allow_residual(bytes: u64) {
    RESIDUAL_BYTES.store(bytes, Relaxed);
}

/// The bytes set aside for what is resident and not counted.
#[must_use]
pub fn residual_allowance_bytes() -> u64 {
    RESIDUAL_BYTES.load(Relaxed)
}

/// Bytes that can be allocated before a collection is needed.
#[must_use]
pub fn headroom_bytes() -> u64 {
    limit_bytes().saturating_sub(RESIDUAL_BYTES.load(Relaxed)).saturating_sub(ledger::counted_bytes())
}

/// Number of allocations refused so far.
#[must_use]
pub fn n_denied() -> u64 {
    N_DENIED.load(Relaxed)
}

/// Number of collections so far.
#[must_use]
pub fn n_collections() -> u64 {
    N_COLLECTIONS.load(Relaxed)
}

/// Adds a cache that can give bytes back. Collectors of the same order are asked in the order in which they were added.
///
/// `collect` runs on whatever thread asks for memory, possibly while that thread holds locks: it must only try its own
/// locks, and must not allocate a tensor.
pub fn add_collector(order: CollectOrder, collect: Box<Collect>) {
    let mut collectors = COLLECTORS.write().unwrap_or_else(PoisonError::into_inner);
    let position = collectors.partition_point(|(other, _)| *other <= order);
    collectors.insert(position, (order, collect));
}

/// Adds what [`begin_anew`] calls after its collection, for caches that size themselves by a peak.
pub fn add_peaks(forget: Box<ForgetPeaks>) {
    PEAKS.write().unwrap_or_else(PoisonError::into_inner).push(forget);
}

/// Gives back up to `bytes` of what is only cached and returns how many bytes it gave. Every collector is asked, in
/// order, for the bytes that are still missing; once nothing is missing, it is asked for 0.
///
/// A collection that runs within another one on the same thread gives nothing.
pub fn collect(bytes: u64) -> u64 {
    if COLLECTING.replace(true) {
        return 0;
    }
    N_COLLECTIONS.fetch_add(1, Relaxed);
    let mut given = 0;
    if let Ok(collectors) = COLLECTORS.try_read() {
        for (_, collect) in collectors.iter() {
            // This runs within libtorch, through which no panic may unwind. The panic's hook has told of it.
            let wanted = bytes.saturating_sub(given);
            given += catch_unwind(AssertUnwindSafe(|| collect(wanted))).unwrap_or(0);
        }
    }
    COLLECTING.set(false);
    given
}

/// Gives back all caches and forgets their peaks. Call it between two phases whose tensors differ in size, such as the
/// memory profile and the run.
pub fn begin_anew() {
    collect(u64::MAX);
    for forget in PEAKS.read().unwrap_or_else(PoisonError::into_inner).iter() {
        forget();
    }
}

/// Checks that `bytes` more fit under the memory limit, and collects caches if they do not.
pub(crate) fn make_room(bytes: u64) -> Result<(), Refusal> {
    if bytes <= headroom_bytes() || IN_COMMIT.get() {
        return Ok(());
    }
    // Rust's heap grows without asking, so more than the limit may be counted already.
    let wanted = (ledger::counted_bytes() + RESIDUAL_BYTES.load(Relaxed) + bytes).saturating_sub(limit_bytes());
    collect(wanted);
    if bytes <= headroom_bytes() { Ok(()) } else { Err(refuse(bytes)) }
}

fn refuse(wanted_bytes: u64) -> Refusal {
    N_DENIED.fetch_add(1, Relaxed);
    let refusal = Refusal {
        owner: Owner::entered(),
        wanted_bytes,
        left_bytes: headroom_bytes(),
        limit_bytes: limit_bytes(),
    };
    REFUSED.set(Some(refusal));
    if std::env::var_os("DEBUG_REFUSE").is_some() { eprintln!("REFUSED {refusal} residual {} base {} cache {}", residual_allowance_bytes(), ledger::BASE.bytes(), ledger::CACHE.bytes()); }
    if let Ok(mut last) = LAST_REFUSAL.try_lock() {
        *last = Some(refusal);
    }
    refusal
}

/// The latest refusal on any thread.
pub(crate) fn last_refusal() -> Option<Refusal> {
    LAST_REFUSAL.lock().map_or(None, |last| *last)
}

/// Takes the latest refusal on this thread. After an error, `Some` means that the cause was a refused allocation.
#[must_use]
pub fn take_refusal() -> Option<Refusal> {
    REFUSED.take()
}

/// Runs the part of a step that must not fail: the budget refuses nothing within `work`. `work` may allocate a few
/// small tensors, for which the memory limit keeps room.
pub fn commit<T>(work: impl FnOnce() -> T) -> T {
    struct Ends(bool);
    impl Drop for Ends {
        fn drop(&mut self) {
            IN_COMMIT.set(self.0);
        }
    }
    let _ends = Ends(IN_COMMIT.replace(true));
    work()
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

/// Refuses every `every`-th request of each thread as if the memory limit had no room, in every phase of a run, so that
/// tests can exercise refusals; 0 refuses none. A request is a counted tensor or the growth of a reservation
/// ([`Reservation::try_set`](crate::ledger::reservation::Reservation::try_set)). Nothing is refused within [`commit`].
/// Each repetition of an [`attempt`] gets four times as many requests before the next refusal, so that all work ends.
pub fn inject_refusals(every: u64) {
    REFUSE_IN_ATTEMPTS_ALONE.store(false, Relaxed);
    REFUSE_EVERY.store(every, Relaxed);
}

/// As [`inject_refusals`], but only of requests within an [`attempt`].
pub fn inject_refusals_in_attempts(every: u64) {
    REFUSE_IN_ATTEMPTS_ALONE.store(true, Relaxed);
    REFUSE_EVERY.store(every, Relaxed);
}

/// As [`inject_refusals`], for the calling thread alone: tests share a process.
#[cfg(test)]
pub(crate) fn inject_refusals_here(every: u64) {
    INJECTION.set(Injection { every, ..INJECTION.get() });
}

/// Runs one attempt at work that is tried again where the budget refuses it. `n_before` is how often it was tried before:
/// each repetition makes the requests between two refusals of [`inject_refusals`] four times as many.
pub fn attempt<T>(n_before: u32, work: impl FnOnce() -> T) -> T {
    struct Ends(Option<u32>);
    impl Drop for Ends {
        fn drop(&mut self) {
            INJECTION.set(Injection { n_before: self.0, ..INJECTION.get() });
        }
    }
    let injection = INJECTION.get();
    INJECTION.set(Injection { n_before: Some(n_before), ..injection });
    let _ends = Ends(injection.n_before);
    work()
}

/// The refusal of this request for `bytes` where [`inject_refusals`] refuses it.
pub(crate) fn injected_refusal(bytes: u64) -> Option<Refusal> {
    let mut injection = INJECTION.get();
    let every = injection.every.max(REFUSE_EVERY.load(Relaxed));
    let is_exempt = REFUSE_IN_ATTEMPTS_ALONE.load(Relaxed) && injection.n_before.is_none();
    if every == 0 || is_exempt || IN_COMMIT.get() {
        return None;
    }
    injection.n_requests += 1;
    let distance = every.saturating_mul(4u64.saturating_pow(injection.n_before.unwrap_or(0)));
    let refuses = injection.n_requests >= distance;
    if refuses {
        injection.n_requests = 0;
    }
    INJECTION.set(injection);
    refuses.then(|| refuse(bytes))
}
