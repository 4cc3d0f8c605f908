//! The budget: enforces the memory limit on every counted allocation.
//!
//! ```text
//! counted + wanted <= limit - residual - room for commits ?  ── yes ──> counted: granted
//!                    │ no
//!                    └──> holders give back bytes, the youngest generation first ──> checked again ──> granted, or refused
//! ```
//!
//! Check and count are one compare-and-swap on one atomic ([`ledger`]), so requests of several threads never get through
//! together. Two things are counted and not checked, since they cannot be refused: Rust's heap, whose large holders
//! reserve before they grow, and what is allocated within [`commit`], for which [`COMMIT_ROOM_BYTES`] are kept free.
//!
//! `residual` is an allowance for bytes that are resident and not counted: code pages touched since the start, scratch
//! memory inside libraries, fragments of the C library's heap. It is the larger of what is planned ([`allow_residual`])
//! and what the memory system observes (`observe_residual`). A refused allocation of a tensor throws in libtorch and
//! reaches Rust as an error; [`take_refusal`] tells it from other errors.
//!
//! The budget knows no cache by name: whoever holds bytes that it can give back registers as
//! [`Reclaimable`](crate::ledger::reclaimable::Reclaimable), and is asked on the thread that needs memory. The limit holds
//! for the whole process, at every allocation, whether or not a
//! [`MemoryOptimizationSystem`](crate::system::MemoryOptimizationSystem) runs.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ledger::injection;
use crate::ledger::reclaimable::{self, Generation};
use crate::ledger::refusal::{Refusal, RefusedBy};
use crate::ledger::{self, Owner, Part};

pub use crate::ledger::injection::{attempt, inject_refusals};
pub use crate::ledger::reclaimable::n_collections;
pub use crate::ledger::refusal::{n_denied, take_refusal};

/// Bytes under the memory limit that only requests within [`commit`] may take.
pub const COMMIT_ROOM_BYTES: u64 = 64 << 10;

/// The most collections for one request.
const N_COLLECTIONS: u32 = 3;

static LIMIT_BYTES: AtomicU64 = AtomicU64::new(u64::MAX);
static PLANNED_RESIDUAL_BYTES: AtomicU64 = AtomicU64::new(0);
static OBSERVED_RESIDUAL_BYTES: AtomicU64 = AtomicU64::new(0);
static MOST_IN_COMMIT_BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IN_COMMIT: Cell<bool> = const { Cell::new(false) };
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

/// Sets `bytes` under the memory limit aside for what is resident and not counted, whatever is observed.
pub fn allow_residual(bytes: u64) {
    PLANNED_RESIDUAL_BYTES.store(bytes, Relaxed);
}

/// Says how many bytes were observed to be resident and not counted. They are set aside where they are more than planned.
pub(crate) fn observe_residual(bytes: u64) {
    OBSERVED_RESIDUAL_BYTES.store(bytes, Relaxed);
}

/// The bytes set aside for what is resident and not counted.
#[must_use]
pub fn residual_allowance_bytes() -> u64 {
    PLANNED_RESIDUAL_BYTES.load(Relaxed).max(OBSERVED_RESIDUAL_BYTES.load(Relaxed))
}

/// The most bytes that may be counted outside of [`commit`].
fn most_bytes() -> u64 {
    match limit_bytes() {
        u64::MAX => u64::MAX,
        limit => limit.saturating_sub(residual_allowance_bytes()).saturating_sub(COMMIT_ROOM_BYTES),
    }
}

/// Bytes that can be allocated before a collection is needed.
#[must_use]
pub fn headroom_bytes() -> u64 {
    most_bytes().saturating_sub(ledger::counted_bytes())
}

/// Bytes that a request gets at the cost of time alone: those that caches, and the blocks of freed tensors, give back.
#[must_use]
pub fn collectable_bytes() -> u64 {
    reclaimable::reclaimable_bytes(Generation::Step, Generation::Caches)
}

/// Gives back up to `bytes` of what is only cached, and returns how many bytes it gave: the generations that cost time
/// alone. Data is left as it is.
pub fn collect(bytes: u64) -> u64 {
    reclaimable::collect(Generation::Step, Generation::Caches, bytes)
}

/// Gives back all caches and makes holders forget what the work so far has taught. Call it between two phases whose
/// tensors differ in size, such as the memory profile and the run.
pub fn begin_anew() {
    collect(u64::MAX);
    reclaimable::begin_anew();
    debug_assert_eq!(ledger::verify_sum(), Ok(()));
}

/// Whether [`inject_refusals`] refuses the request that this thread makes now.
pub(crate) fn injection_refuses() -> bool {
    !IN_COMMIT.get() && injection::refuses()
}

/// Counts `bytes` more if the memory limit has room, if need be after holders of the generations up to `oldest` gave bytes
/// back. False where it has none.
pub(crate) fn grant(part: Part, bytes: u64, oldest: Generation) -> bool {
    // A cache goes without where there is no room, so it takes nothing of the room of a commit.
    if IN_COMMIT.get() && oldest != Generation::Step {
        MOST_IN_COMMIT_BYTES.fetch_max(bytes, Relaxed);
        ledger::count(part, i64::try_from(bytes).unwrap_or(i64::MAX));
        return true;
    }
    let fits = || ledger::try_count(part, bytes, most_bytes);
    if fits() {
        return true;
    }
    // Another thread may take what was given, or give what this one could not.
    (0..N_COLLECTIONS).any(|_| {
        // Rust's heap grows without asking, so more than the limit may be counted already.
        let missing_bytes = ledger::counted_bytes().saturating_add(bytes).saturating_sub(most_bytes());
        reclaimable::collect(Generation::Step, oldest, missing_bytes);
        fits()
    })
}

/// Refuses a request of this thread for `bytes`.
pub(crate) fn refuse(by: RefusedBy, bytes: u64) -> Refusal {
    Refusal {
        owner: Owner::entered(),
        by,
        wanted_bytes: bytes,
        left_bytes: headroom_bytes(),
        limit_bytes: limit_bytes(),
    }
    .counted()
}

/// The largest request within a [`commit`] so far. More than [`COMMIT_ROOM_BYTES`] is a mistake of whoever commits: the
/// memory limit may not hold within it.
#[must_use]
pub fn most_in_commit_bytes() -> u64 {
    MOST_IN_COMMIT_BYTES.load(Relaxed)
}

/// Runs the part of a step that must not fail: the budget refuses nothing within `work`. `work` may allocate a few
/// small tensors, [`COMMIT_ROOM_BYTES`] at a time, which no other request can take: so the memory limit holds within it
/// too.
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
