//! The ledger: how many bytes each owner holds, exactly.
//!
//! ```text
//! allocator of tensors ──┐                     run/learner/activations      61 MiB
//! Rust's heap ───────────┼──> counters of  ──> run/replay/hot               12 MiB      counted
//! reservations ──────────┤     owners          runtime/base                140 MiB
//! pool, base ────────────┘                     runtime/cache                 8 MiB
//! ```
//!
//! **One atomic holds the sum**, and a request that the [`budget`] grants is in it from the moment at which it was checked:
//! check and count are one compare-and-swap (`try_count`), taken back where the system then gives no memory. Rust's heap
//! cannot be refused, but it is counted in the same atomic, so the next request sees it. What has an owner of its own is
//! counted a second time, by owner; [`HEAP`] is the sum less all of that, so the owners add up to the counted bytes.
//!
//! Owners form a tree by their paths. When a tensor is allocated, it belongs to the owner that its thread has entered,
//! and it stays with that owner for as long as it lives. Rust's heap is counted as a whole under [`HEAP`]. A
//! [`Reservation`](crate::ledger::reservation::Reservation) moves the heap bytes of one large structure from [`HEAP`] to
//! that structure's owner. Reservations also declare what no allocator here sees, such as mapped files and buffers
//! inside a library, and what is about to be allocated. The counted bytes are the sum over all owners; the residual is
//! the resident bytes less the counted ones.
//!
//! Counters are plain atomics: counting takes a few nanoseconds, allocates nothing and takes no lock, so the allocators
//! themselves can count. The ledger decides nothing: [`budget`] enforces the memory limit.

pub mod budget;
pub mod injection;
pub mod reclaimable;
pub mod refusal;
pub mod reservation;
mod sum;

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

pub use sum::{WrongSum, verify_sum};

/// The largest number of owners.
const MOST_OWNERS: usize = 256;

/// Tensors of threads that have not entered an owner.
pub const OTHER: Owner = Owner(0);
/// Rust's heap, less what reservations have moved to other owners.
pub const HEAP: Owner = Owner(1);
/// Freed blocks of tensors that are kept for reuse. A collection can give back all of it.
pub const CACHE: Owner = Owner(2);
/// What the runtime holds before any work: code, static data and the structures inside libtorch. See [`set_base`].
pub const BASE: Owner = Owner(3);
/// The bytes of live blocks beyond those of their tensors: headers, and what the blocks were rounded up by. They are held
/// for as long as the tensors live.
pub const ROUNDING: Owner = Owner(4);

const FIRST_NAMES: [&str; 5] = ["run/other", "run/heap", "runtime/cache", "runtime/base", "runtime/rounding"];

/// A part of the program that holds bytes: an index whose name is a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Owner(u16);

#[derive(Debug)]
struct Counters {
    tensor_bytes: AtomicI64,
    reserved_bytes: AtomicI64,
    peak_bytes: AtomicI64,
}

static COUNTERS: [Counters; MOST_OWNERS] = [const {
    Counters {
        tensor_bytes: AtomicI64::new(0),
        reserved_bytes: AtomicI64::new(0),
        peak_bytes: AtomicI64::new(0),
    }
}; MOST_OWNERS];
static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

/// The counted bytes, on a cache line of their own.
#[repr(align(64))]
struct Counted {
    /// Base, heap, blocks and declared bytes; granted requests that wait for their memory included.
    bytes: AtomicI64,
    /// Whether the program's global allocator counts here. The runtime allocates before `main`, so it is true from there.
    has_heap: AtomicBool,
}

static COUNTED: Counted = Counted { bytes: AtomicI64::new(0), has_heap: AtomicBool::new(false) };
/// The part of Rust's heap that reservations have moved to other owners.
static HEAP_RESERVED_BYTES: AtomicI64 = AtomicI64::new(0);
/// Bytes of live tensors, as libtorch asked for them.
static TENSOR_BYTES: AtomicI64 = AtomicI64::new(0);
/// Bytes of the blocks that hold tensors, kept blocks included.
static BLOCK_BYTES: AtomicI64 = AtomicI64::new(0);
/// The part of [`BLOCK_BYTES`] that holds no tensor.
static KEPT_BYTES: AtomicI64 = AtomicI64::new(0);
/// Bytes that reservations declare outside of Rust's heap.
static DECLARED_BYTES: AtomicI64 = AtomicI64::new(0);
static BASE_BYTES: AtomicI64 = AtomicI64::new(0);
static PEAK_COUNTED_BYTES: AtomicI64 = AtomicI64::new(0);
static PEAK_TENSOR_BYTES: AtomicI64 = AtomicI64::new(0);
static N_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static ENTERED: Cell<u16> = const { Cell::new(0) };
}

/// While this guard lives, tensors that its thread allocates belong to the entered owner.
#[derive(Debug)]
pub struct Entered {
    before: u16,
    /// Makes the guard neither `Send` nor `Sync`: it belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        ENTERED.set(self.before);
    }
}

impl Owner {
    /// The owner with this path, which the first call creates. A path is `/`-separated, such as
    /// `run/learner/activations`.
    ///
    /// # Panics
    /// If there are 256 owners already: owners name parts of a program, not its data.
    #[must_use]
    pub fn named(path: &'static str) -> Self {
        let mut names = names();
        if let Some(index) = names.iter().position(|name| *name == path) {
            return Self(index as u16);
        }
        assert!(names.len() < MOST_OWNERS, "more than {MOST_OWNERS} owners");
        names.push(path);
        Self(names.len() as u16 - 1)
    }

    /// The owner's path.
    #[must_use]
    pub fn path(self) -> &'static str {
        names()[usize::from(self.0)]
    }

    /// Gives this owner every tensor that the thread allocates while the returned guard lives. Guards nest.
    #[must_use]
    pub fn enter(self) -> Entered {
        Entered { before: ENTERED.replace(self.0), _thread: PhantomData }
    }

    /// The owner that this thread has entered; [`OTHER`] if none.
    #[must_use]
    pub fn entered() -> Self {
        Self(ENTERED.get())
    }

    /// Bytes that the owner holds now.
    #[must_use]
    pub fn bytes(self) -> u64 {
        unsigned(match self {
            HEAP => heap(),
            CACHE => KEPT_BYTES.load(Relaxed),
            BASE => BASE_BYTES.load(Relaxed),
            ROUNDING => rounding(),
            Self(index) => COUNTERS[usize::from(index)].bytes(),
        })
    }

    /// Bytes of live tensors that the owner holds.
    #[must_use]
    pub fn tensor_bytes(self) -> u64 {
        unsigned(COUNTERS[usize::from(self.0)].tensor_bytes.load(Relaxed))
    }

    /// The most bytes of tensors and reservations that the owner ever held at once.
    #[must_use]
    pub fn peak_bytes(self) -> u64 {
        let counters = &COUNTERS[usize::from(self.0)];
        unsigned(counters.peak_bytes.load(Relaxed)).max(self.bytes())
    }

    pub(crate) fn index(self) -> u16 {
        self.0
    }

    pub(crate) fn of_index(index: u16) -> Self {
        Self(index)
    }
}

impl Counters {
    fn bytes(&self) -> i64 {
        self.tensor_bytes.load(Relaxed) + self.reserved_bytes.load(Relaxed)
    }

    fn raise_peak(&self) {
        self.peak_bytes.fetch_max(self.bytes(), Relaxed);
    }
}

/// What an owner held at one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerBytes {
    /// The owner's path.
    pub path: &'static str,
    /// Bytes that the owner holds.
    pub bytes: u64,
    /// The part of `bytes` that is live tensors.
    pub tensor_bytes: u64,
    /// The most bytes that the owner ever held at once.
    pub peak_bytes: u64,
}

/// Writes every owner that holds or held bytes into `out` (cleared first), in the order in which they were first named.
pub fn read_owners(out: &mut Vec<OwnerBytes>) {
    out.clear();
    let names = names();
    for (index, path) in names.iter().enumerate() {
        let owner = Owner(index as u16);
        let (bytes, peak_bytes) = (owner.bytes(), owner.peak_bytes());
        if peak_bytes > 0 {
            out.push(OwnerBytes { path, bytes, tensor_bytes: owner.tensor_bytes(), peak_bytes });
        }
    }
}

/// The `n` owners that hold the most bytes now, the largest first.
#[must_use]
pub fn largest_owners(n: usize) -> Vec<OwnerBytes> {
    let mut owners = Vec::new();
    read_owners(&mut owners);
    owners.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.path.cmp(b.path)));
    owners.truncate(n);
    owners
}

/// Bytes that have an owner: the sum over all owners.
#[must_use]
pub fn counted_bytes() -> u64 {
    unsigned(COUNTED.bytes.load(Relaxed))
}

/// The most bytes that were counted at once since the start or since [`restart_peak`].
#[must_use]
pub fn peak_counted_bytes() -> u64 {
    unsigned(PEAK_COUNTED_BYTES.load(Relaxed))
}

/// Starts [`peak_counted_bytes`] again at what is counted now and returns the peak before.
pub fn restart_peak() -> u64 {
    unsigned(PEAK_COUNTED_BYTES.swap(COUNTED.bytes.load(Relaxed), Relaxed))
}

/// Raises the peak to `bytes` if it is lower. Give it what [`restart_peak`] returned to restore the peak.
pub fn raise_peak_to(bytes: u64) {
    PEAK_COUNTED_BYTES.fetch_max(signed(bytes), Relaxed);
}

/// Bytes of live tensors, as libtorch asked for them: without headers and rounding.
#[must_use]
pub fn tensor_bytes() -> u64 {
    unsigned(TENSOR_BYTES.load(Relaxed))
}

/// The most bytes of tensors that lived at once since the start or since [`restart_tensor_peak`].
#[must_use]
pub fn peak_tensor_bytes() -> u64 {
    unsigned(PEAK_TENSOR_BYTES.load(Relaxed))
}

/// Starts [`peak_tensor_bytes`] again at what lives now and returns the peak before.
pub fn restart_tensor_peak() -> u64 {
    unsigned(PEAK_TENSOR_BYTES.swap(TENSOR_BYTES.load(Relaxed), Relaxed))
}

/// Raises the peak of tensors to `bytes` if it is lower. Give it the greatest of what [`restart_tensor_peak`] returned to
/// restore the peak.
pub fn raise_tensor_peak_to(bytes: u64) {
    PEAK_TENSOR_BYTES.fetch_max(signed(bytes), Relaxed);
}

/// Number of tensors allocated so far.
#[must_use]
pub fn n_allocations() -> u64 {
    N_ALLOCATIONS.load(Relaxed)
}

/// Declares how many bytes the runtime holds before any work, for [`BASE`].
pub fn set_base(bytes: u64) {
    let more = signed(bytes) - BASE_BYTES.swap(signed(bytes), Relaxed);
    PEAK_COUNTED_BYTES.fetch_max(COUNTED.bytes.fetch_add(more, Relaxed) + more, Relaxed);
}

pub(crate) fn count_tensor(owner: Owner, bytes: u64) {
    let counters = &COUNTERS[usize::from(owner.0)];
    counters.tensor_bytes.fetch_add(signed(bytes), Relaxed);
    let live = TENSOR_BYTES.fetch_add(signed(bytes), Relaxed) + signed(bytes);
    PEAK_TENSOR_BYTES.fetch_max(live, Relaxed);
    N_ALLOCATIONS.fetch_add(1, Relaxed);
    counters.raise_peak();
}

pub(crate) fn forget_tensor(owner: Owner, bytes: u64) {
    COUNTERS[usize::from(owner.0)].tensor_bytes.fetch_sub(signed(bytes), Relaxed);
    TENSOR_BYTES.fetch_sub(signed(bytes), Relaxed);
}

/// What requests for bytes are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Blocks for tensors.
    Blocks,
    /// What reservations declare.
    Declared,
}

impl Part {
    fn bytes(self) -> &'static AtomicI64 {
        match self {
            Self::Blocks => &BLOCK_BYTES,
            Self::Declared => &DECLARED_BYTES,
        }
    }
}

/// Counts `bytes` more, unless more than `most()` bytes would then be counted. Between the check and the count nothing else
/// is counted.
pub(crate) fn try_count(part: Part, bytes: u64, most: impl Fn() -> u64) -> bool {
    let Ok(bytes) = i64::try_from(bytes) else { return false };
    let mut counted = COUNTED.bytes.load(Relaxed);
    loop {
        let Some(then) = counted.checked_add(bytes).filter(|then| *then <= signed(most())) else {
            return false;
        };
        match COUNTED.bytes.compare_exchange_weak(counted, then, Relaxed, Relaxed) {
            Ok(_) => {
                part.bytes().fetch_add(bytes, Relaxed);
                PEAK_COUNTED_BYTES.fetch_max(then, Relaxed);
                return true;
            }
            Err(now) => counted = now,
        }
    }
}

/// Counts a change that nobody checks: what is given back, where `bytes` is negative, or is in use already.
pub(crate) fn count(part: Part, bytes: i64) {
    part.bytes().fetch_add(bytes, Relaxed);
    let counted = COUNTED.bytes.fetch_add(bytes, Relaxed) + bytes;
    if bytes > 0 {
        PEAK_COUNTED_BYTES.fetch_max(counted, Relaxed);
    }
}

/// Counts blocks that no longer hold a tensor and are kept, or hold one again where `bytes` is negative.
pub(crate) fn count_kept(bytes: i64) {
    KEPT_BYTES.fetch_add(bytes, Relaxed);
}

/// Counts a change of Rust's heap; `bytes` is negative where it shrank.
pub(crate) fn count_heap(bytes: i64) {
    let counted = COUNTED.bytes.fetch_add(bytes, Relaxed) + bytes;
    if !COUNTED.has_heap.load(Relaxed) {
        COUNTED.has_heap.store(true, Relaxed);
    }
    // Looking for the peak at every small block costs too much: the next tensor or reservation sees those.
    if bytes > 1 << 16 {
        PEAK_COUNTED_BYTES.fetch_max(counted, Relaxed);
    }
}

/// Whether the program's global allocator counts Rust's heap here, as [`CountedHeap`](crate::os::CountedHeap) does.
#[must_use]
pub fn counts_heap() -> bool {
    COUNTED.has_heap.load(Relaxed)
}

/// Gives bytes that are counted already to an owner, or takes them back where `bytes` is negative.
pub(crate) fn reserve(owner: Owner, bytes: i64) {
    let counters = &COUNTERS[usize::from(owner.0)];
    counters.reserved_bytes.fetch_add(bytes, Relaxed);
    counters.raise_peak();
}

/// Moves bytes of Rust's heap from [`HEAP`] to other owners, or back where `bytes` is negative.
pub(crate) fn move_heap(bytes: i64) {
    HEAP_RESERVED_BYTES.fetch_add(bytes, Relaxed);
}

fn heap() -> i64 {
    let elsewhere = BASE_BYTES.load(Relaxed) + BLOCK_BYTES.load(Relaxed) + DECLARED_BYTES.load(Relaxed);
    COUNTED.bytes.load(Relaxed) - elsewhere - HEAP_RESERVED_BYTES.load(Relaxed)
}

fn rounding() -> i64 {
    BLOCK_BYTES.load(Relaxed) - KEPT_BYTES.load(Relaxed) - TENSOR_BYTES.load(Relaxed)
}

fn names() -> std::sync::MutexGuard<'static, Vec<&'static str>> {
    let mut names = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if names.is_empty() {
        names.extend(FIRST_NAMES);
    }
    names
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A reading may fall between the two halves of another thread's change. The difference is then briefly negative, and
/// counts as 0.
fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_ends_with_the_owner_before() {
        let (outer, inner) = (Owner::named("test/outer"), Owner::named("test/inner"));
        assert_eq!(Owner::named("test/outer"), outer);
        let _outer = outer.enter();
        {
            let _inner = inner.enter();
            assert_eq!(Owner::entered(), inner);
        }
        assert_eq!(Owner::entered(), outer);
        assert_eq!(std::thread::spawn(Owner::entered).join().ok(), Some(OTHER));
    }

    #[test]
    fn owners_are_told_by_path() {
        assert_eq!(HEAP.path(), "run/heap");
        assert_eq!(Owner::named("runtime/base"), BASE);
    }
}
