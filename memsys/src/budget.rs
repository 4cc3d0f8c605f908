//! The budget: the line as the allocators know it, and what happens to an allocation that would pass it.
//!
//! ```text
//! counted + residual + wanted <= limit ?  ── yes ──> granted
//!          no ──> give back cached blocks ──> wake the collectors ──> asked again ──> granted, or refused
//! ```
//!
//! `residual` is what is resident and not counted, at its highest so far ([`allow_residual`]): code that was touched
//! since the start, a library's own scratch memory, what the C library's heap holds in fragments. Collectors run on
//! the thread that asks and must allocate no tensors; a refused allocation throws in libtorch and comes back as an
//! error, and [`take_refusal`] tells it from other errors.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, RwLock};

use crate::ledger::{self, Owner, OwnerBytes};
use crate::libtorch;

static LIMIT_BYTES: AtomicU64 = AtomicU64::new(u64::MAX);
static RESIDUAL_BYTES: AtomicU64 = AtomicU64::new(0);
static N_DENIED: AtomicU64 = AtomicU64::new(0);
static N_COLLECTIONS: AtomicU64 = AtomicU64::new(0);
static LAST_REFUSAL: Mutex<Option<Refusal>> = Mutex::new(None);
static REFUSE_EVERY: AtomicU64 = AtomicU64::new(0);

/// Gives back up to so many bytes and says how many it gave.
pub type Collect = dyn Fn(u64) -> u64 + Send + Sync;

static COLLECTORS: RwLock<Vec<Box<Collect>>> = RwLock::new(Vec::new());

thread_local! {
    static REFUSED: Cell<Option<Refusal>> = const { Cell::new(None) };
    static COLLECTING: Cell<bool> = const { Cell::new(false) };
    static IN_COMMIT: Cell<bool> = const { Cell::new(false) };
    static REHEARSED: Cell<Option<Rehearsal>> = const { Cell::new(None) };
}

/// An allocation that the line had no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Who asked.
    pub owner: Owner,
    /// For how much.
    pub wanted_bytes: u64,
    /// What was left under the line, after caches were collected.
    pub left_bytes: u64,
    /// The line.
    pub limit_bytes: u64,
}

impl Refusal {
    pub(crate) fn of(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, wanted_bytes, left_bytes, limit_bytes } = self;
        write!(
            formatter,
            "{} asked for {} and the line of {} has {} left; the largest owners are",
            owner.path(),
            Readable(*wanted_bytes),
            Readable(*limit_bytes),
            Readable(*left_bytes)
        )?;
        for (rank, OwnerBytes { path, bytes, .. }) in largest_owners(5).iter().enumerate() {
            write!(formatter, "{} {path} {}", if rank == 0 { "" } else { "," }, Readable(*bytes))?;
        }
        Ok(())
    }
}

/// Bytes as a person reads them: whole numbers where they are few, KiB, MiB or GiB with decimals else.
pub(crate) struct Readable(pub(crate) u64);

impl fmt::Display for Readable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..10_000 => write!(formatter, "{} B", self.0),
            10_000..1_048_576 => write!(formatter, "{:.1} KiB", bytes / 1024.0),
            1_048_576..1_073_741_824 => write!(formatter, "{:.1} MiB", bytes / 1_048_576.0),
            _ => write!(formatter, "{:.2} GiB", bytes / 1_073_741_824.0),
        }
    }
}

/// The `n` owners that hold most, largest first.
#[must_use]
pub fn largest_owners(n: usize) -> Vec<OwnerBytes> {
    let mut owners = Vec::new();
    ledger::read_owners(&mut owners);
    owners.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.path.cmp(b.path)));
    owners.truncate(n);
    owners
}

/// Draws the line at so many bytes of the whole process.
pub fn set_limit(bytes: u64) {
    LIMIT_BYTES.store(bytes, Relaxed);
}

/// The line; `u64::MAX` where none was drawn.
#[must_use]
pub fn limit_bytes() -> u64 {
    LIMIT_BYTES.load(Relaxed)
}

/// Sets so many bytes under the line aside for what is resident and not counted.
pub fn allow_residual(bytes: u64) {
    RESIDUAL_BYTES.store(bytes, Relaxed);
}

/// The bytes set aside for what is resident and not counted.
#[must_use]
pub fn residual_allowance_bytes() -> u64 {
    RESIDUAL_BYTES.load(Relaxed)
}

/// Bytes that can still be had without collecting anything.
#[must_use]
pub fn headroom_bytes() -> u64 {
    limit_bytes().saturating_sub(RESIDUAL_BYTES.load(Relaxed)).saturating_sub(ledger::counted_bytes())
}

/// Allocations refused so far.
#[must_use]
pub fn n_denied() -> u64 {
    N_DENIED.load(Relaxed)
}

/// Collections so far, of whatever kind.
#[must_use]
pub fn n_collections() -> u64 {
    N_COLLECTIONS.load(Relaxed)
}

/// Adds someone who can give bytes back. It runs on whatever thread asks for memory, maybe while that thread holds
/// locks: it must take its own locks by trying, and allocate no tensor. One that panics has given nothing.
pub fn add_collector(collect: Box<Collect>) {
    COLLECTORS.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(collect);
}

/// Gives back what is only cached, up to `bytes`: freed blocks of tensors first, then what collectors hold. Returns
/// how many bytes it gave.
pub fn collect(bytes: u64) -> u64 {
    if COLLECTING.replace(true) {
        return 0;
    }
    N_COLLECTIONS.fetch_add(1, Relaxed);
    let mut given = libtorch::release_cached_blocks(bytes);
    // A device's bytes are not the process's: they do not count as given.
    libtorch::empty_device_caches();
    if let Ok(collectors) = COLLECTORS.try_read() {
        for collector in collectors.iter() {
            if given >= bytes {
                break;
            }
            // This runs within libtorch, through which no panic may unwind. The panic's hook has told of it.
            let wanted = bytes - given;
            given += catch_unwind(AssertUnwindSafe(|| collector(wanted))).unwrap_or(0);
        }
    }
    COLLECTING.set(false);
    given
}

/// Gives back all that is cached and forgets how much was: what follows is of another size.
pub fn begin_anew() {
    collect(u64::MAX);
    libtorch::forget_peak_of_blocks();
}

/// Sees that `bytes` more fit under the line, collecting what is cached where they do not.
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

/// The last refusal on any thread.
pub(crate) fn last_refusal() -> Option<Refusal> {
    LAST_REFUSAL.lock().map_or(None, |last| *last)
}

/// The last refusal on this thread since it was last asked: what tells a refused allocation from other errors.
#[must_use]
pub fn take_refusal() -> Option<Refusal> {
    REFUSED.take()
}

/// Runs the part of a step that must not fail: nothing in it is refused. It may allocate a few small tensors, for
/// which the line keeps room.
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

/// The count of a thread's allocations towards the next one to be refused on purpose.
#[derive(Debug, Clone, Copy)]
struct Rehearsal {
    n_allocations: u64,
    /// Each attempt at one and the same step is let go four times as far as the one before.
    attempt: u32,
}

/// Refuses every `every`-th allocation made in a rehearsed step, as though the line had no room; 0: none. A step that
/// is tried again is let go four times as far before the next refusal, so that it ends.
pub fn rehearse_refusals(every: u64) {
    REFUSE_EVERY.store(every, Relaxed);
}

/// Runs an attempt at a step, counting this thread's allocations for [`rehearse_refusals`]; `attempt` is how often the
/// step has been tried before.
pub(crate) fn rehearsed<T>(attempt: u32, work: impl FnOnce() -> T) -> T {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            REHEARSED.set(REHEARSED.get().map(|rehearsal| Rehearsal { attempt: u32::MAX, ..rehearsal }));
        }
    }
    let n_allocations = REHEARSED.get().map_or(0, |rehearsal| rehearsal.n_allocations);
    REHEARSED.set(Some(Rehearsal { n_allocations, attempt }));
    let _ends = Ends;
    work()
}

/// Whether this allocation of `bytes` is one to be refused on purpose.
pub(crate) fn rehearsal_refuses(bytes: u64) -> bool {
    let every = REFUSE_EVERY.load(Relaxed);
    if every == 0 || IN_COMMIT.get() {
        return false;
    }
    let Some(mut rehearsal) = REHEARSED.get().filter(|rehearsal| rehearsal.attempt < u32::MAX) else {
        return false;
    };
    rehearsal.n_allocations += 1;
    let distance = every.saturating_mul(4u64.saturating_pow(rehearsal.attempt));
    let refuses = rehearsal.n_allocations >= distance;
    if refuses {
        rehearsal.n_allocations = 0;
    }
    REHEARSED.set(Some(rehearsal));
    if refuses {
        let _ = refuse(bytes);
    }
    refuses
}
