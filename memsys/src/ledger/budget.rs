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
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, RwLock};

use crate::ledger::refusal::Refusal;
use crate::ledger::{self, Owner};

static LIMIT_BYTES: AtomicU64 = AtomicU64::new(u64::MAX);
static RESIDUAL_BYTES: AtomicU64 = AtomicU64::new(0);
static N_DENIED: AtomicU64 = AtomicU64::new(0);
static N_COLLECTIONS: AtomicU64 = AtomicU64::new(0);
static LAST_REFUSAL: Mutex<Option<Refusal>> = Mutex::new(None);
static REFUSE_EVERY: AtomicU64 = AtomicU64::new(0);

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
    /// Every other cache.
    OtherCaches,
}

static COLLECTORS: RwLock<Vec<(CollectOrder, Box<Collect>)>> = RwLock::new(Vec::new());
static PEAKS: RwLock<Vec<Box<ForgetPeaks>>> = RwLock::new(Vec::new());

thread_local! {
    static REFUSED: Cell<Option<Refusal>> = const { Cell::new(None) };
    static COLLECTING: Cell<bool> = const { Cell::new(false) };
    static IN_COMMIT: Cell<bool> = const { Cell::new(false) };
    static INJECTION: Cell<Option<Injection>> = const { Cell::new(None) };
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
    collect(bytes - headroom_bytes().min(bytes));
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

/// Counts a thread's allocations towards the next injected refusal.
#[derive(Debug, Clone, Copy)]
struct Injection {
    n_allocations: u64,
    /// How often the step was tried before; `u32::MAX` outside of a step.
    attempt: u32,
}

/// Refuses every `every`-th allocation within a step, as if the memory limit had no room, so that tests can exercise
/// refusals; 0 refuses none. Each retry of a step gets four times as many allocations before the next refusal, so that
/// every step ends.
pub fn inject_refusals(every: u64) {
    REFUSE_EVERY.store(every, Relaxed);
}

/// Runs one attempt at a piece of work and counts this thread's allocations for [`inject_refusals`]. `attempt` is how
/// often the work was tried before. Work within other work has attempts of its own.
pub(crate) fn with_injected_refusals<T>(attempt: u32, work: impl FnOnce() -> T) -> T {
    struct Ends(u32);
    impl Drop for Ends {
        fn drop(&mut self) {
            INJECTION.set(INJECTION.get().map(|injection| Injection { attempt: self.0, ..injection }));
        }
    }
    let outer = INJECTION.get().unwrap_or(Injection { n_allocations: 0, attempt: u32::MAX });
    INJECTION.set(Some(Injection { attempt, ..outer }));
    let _ends = Ends(outer.attempt);
    work()
}

/// Refuses every `every`-th allocation in `work`. Tests that inject refusals take turns, because the distance belongs to
/// the process.
#[cfg(test)]
pub(crate) fn while_injecting<T>(every: u64, work: impl FnOnce() -> T) -> T {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    inject_refusals(every);
    let done = work();
    inject_refusals(0);
    done
}

/// Whether [`inject_refusals`] refuses this allocation of `bytes`.
pub(crate) fn injected_refusal(bytes: u64) -> bool {
    let every = REFUSE_EVERY.load(Relaxed);
    if every == 0 || IN_COMMIT.get() {
        return false;
    }
    let Some(mut injection) = INJECTION.get().filter(|injection| injection.attempt < u32::MAX) else {
        return false;
    };
    injection.n_allocations += 1;
    let distance = every.saturating_mul(4u64.saturating_pow(injection.attempt));
    let refuses = injection.n_allocations >= distance;
    if refuses {
        injection.n_allocations = 0;
    }
    INJECTION.set(Some(injection));
    if refuses {
        let _ = refuse(bytes);
    }
    refuses
}
