//! The allocator of CPU tensors: counts every block and asks the budget before it takes memory.
//!
//! ```text
//! < 64 KiB   the C library's heap
//! >= 64 KiB  a separate mapping; after a free it is kept for the next tensor of about the same size
//! ```
//!
//! The kernel takes a mapping back at once and whole, so resident bytes equal counted bytes; the C library's heap would
//! keep freed blocks, or fragments of them. Kept mappings spare a learner step the first touch of fresh pages, which
//! runs at a fifth of the memory's speed. They count as [`ledger::CACHE`](crate::ledger::CACHE). The allocator gives them
//! back, the longest unused first, when the memory limit needs the room, and when live and kept mappings together would
//! exceed the most that ever lived at once. What is kept therefore adds nothing to the peak.
//!
//! A header of 64 bytes before each tensor's bytes holds its size, its owner and the size of its mapping.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Once};

use crate::ledger::budget;
use crate::ledger::reclaimable::{self, Generation, Reclaimable};
use crate::ledger::refusal::{Refusal, RefusedBy};
use crate::ledger::{self, CACHE, Owner, Part};
use crate::libtorch::{block_map, threads};

/// As in `csrc/allocator.cpp`.
const _: () = assert!(size_of::<Refusal>() == 32);

const HEADER_BYTES: usize = 64;
const PAGE_BYTES: usize = 4096;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Tensors of at least this size get a separate mapping.
const MAPPED_FROM_BYTES: usize = 64 << 10;

struct Header {
    tensor_bytes: usize,
    /// 0 if the block is from the C library's heap.
    mapped_bytes: usize,
    owner: u16,
}

/// A mapping that is kept and holds no tensor.
#[derive(Debug, Clone, Copy)]
struct Kept {
    address: usize,
    freed_at: u64,
}

#[derive(Debug)]
struct Pool {
    /// By size; mappings of one size are in the order in which they were freed.
    kept: BTreeMap<usize, Vec<Kept>>,
    clock: u64,
    live_bytes: usize,
    kept_bytes: usize,
    peak_live_bytes: usize,
}

static POOL: Mutex<Pool> =
    Mutex::new(Pool { kept: BTreeMap::new(), clock: 0, live_bytes: 0, kept_bytes: 0, peak_live_bytes: 0 });

fn pool() -> std::sync::MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Pool {
    /// Takes the smallest kept mapping of at least `bytes` that is at most an eighth larger: its address and its size.
    fn take(&mut self, bytes: usize) -> Option<(usize, usize)> {
        let (&size, kept) = self.kept.range_mut(bytes..=bytes + bytes / 8).next()?;
        let block = kept.pop()?;
        if kept.is_empty() {
            self.kept.remove(&size);
        }
        self.let_go(size);
        self.add_live(size);
        Some((block.address, size))
    }

    fn add_live(&mut self, bytes: usize) {
        self.live_bytes += bytes;
        self.peak_live_bytes = self.peak_live_bytes.max(self.live_bytes);
    }

    /// The kept bytes to give back before a new mapping of `bytes`, so that the peak does not rise.
    fn surplus(&self, bytes: usize) -> usize {
        let most = self.peak_live_bytes.max(self.live_bytes + bytes);
        (self.live_bytes + self.kept_bytes + bytes).saturating_sub(most + most / 64)
    }

    fn keep(&mut self, address: usize, bytes: usize) {
        self.live_bytes -= bytes;
        self.kept_bytes += bytes;
        ledger::count_kept(bytes as i64);
        self.clock += 1;
        let freed_at = self.clock;
        self.kept.entry(bytes).or_default().push(Kept { address, freed_at });
    }

    /// Takes the mapping that has been unused for longest: its address and its size.
    fn take_oldest(&mut self) -> Option<(usize, usize)> {
        let oldest = |(size, kept): (&usize, &Vec<Kept>)| kept.first().map(|first| (first.freed_at, *size));
        let (_, size) = self.kept.iter().filter_map(oldest).min()?;
        let kept = self.kept.get_mut(&size)?;
        let block = kept.remove(0);
        if kept.is_empty() {
            self.kept.remove(&size);
        }
        self.let_go(size);
        Some((block.address, size))
    }

    fn let_go(&mut self, bytes: usize) {
        self.kept_bytes -= bytes;
        ledger::count_kept(-(bytes as i64));
    }
}

/// The kept mappings, to be collected. First to give: a page that was touched before costs a third of a nanosecond per byte.
struct KeptMappings;

impl Reclaimable for KeptMappings {
    fn name(&self) -> &'static str {
        "freed blocks of tensors"
    }

    fn generation(&self) -> Generation {
        Generation::Step
    }

    fn bytes(&self) -> u64 {
        CACHE.bytes()
    }

    fn restore_nanos_per_byte(&self) -> f64 {
        0.3
    }

    fn give_back(&self, bytes: u64) -> u64 {
        release(bytes)
    }

    fn begin_anew(&self) {
        let mut pool = pool();
        pool.peak_live_bytes = pool.live_bytes;
    }
}

/// Registers the kept mappings with the budget, to be collected. Later calls do nothing.
pub(crate) fn register_cache() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| reclaimable::register(Arc::new(KeptMappings)).for_good());
}

/// Gives kept mappings back to the kernel until it has given `bytes` or none is left. Returns how many bytes it gave.
fn release(bytes: u64) -> u64 {
    let mut given = 0;
    while given < bytes {
        let Some((address, size)) = pool().take_oldest() else { break };
        unmap(address, size);
        ledger::count(Part::Blocks, -(size as i64));
        given += size as u64;
    }
    given
}

/// Bytes of kept mappings that are counted and not resident, because no tensor ever wrote to them: libtorch asks for
/// workspaces of which its kernels use only a part. This asks the kernel about every page, which takes a millisecond for
/// one or two GiB.
#[must_use]
pub fn untouched() -> u64 {
    let pool = pool();
    let blocks = pool.kept.iter().flat_map(|(size, kept)| kept.iter().map(|kept| (kept.address, *size)));
    let mut pages = Vec::new();
    let mut untouched_pages = 0;
    for (address, bytes) in blocks {
        pages.clear();
        pages.resize(bytes / PAGE_BYTES, 1u8);
        // SAFETY: the range is a mapping of ours, which nobody gives back while the pool is locked; the vector has a byte
        // for each of its pages.
        let status = unsafe { libc::mincore(address as *mut c_void, bytes, pages.as_mut_ptr()) };
        if status == 0 {
            untouched_pages += pages.iter().filter(|page| **page & 1 == 0).count();
        }
    }
    (untouched_pages * PAGE_BYTES) as u64
}

static COUNTS: AtomicBool = AtomicBool::new(false);

/// Counts the tensors that are made from now on.
pub(super) fn count_from_now_on() {
    COUNTS.store(true, Relaxed);
}

/// Whether the tensor that is about to be made is counted. It is asked before each: the first decides how many threads
/// compute.
#[unsafe(no_mangle)]
extern "C" fn memsys_tensors_are_counted() -> bool {
    threads::decide();
    COUNTS.load(Relaxed)
}

/// Returns a block for a tensor of `bytes`, aligned to 64 bytes; or writes a refusal and returns null.
#[unsafe(no_mangle)]
extern "C" fn memsys_tensor_allocate(bytes: usize, refusal: &mut MaybeUninit<Refusal>) -> *mut c_void {
    allocate(bytes).unwrap_or_else(|by| {
        refusal.write(budget::refuse(by, bytes as u64));
        std::ptr::null_mut()
    })
}

/// Notes a refusal that `memsys_tensor_allocate` has written: libtorch has handed its exception to a call of this thread.
#[unsafe(no_mangle)]
extern "C" fn memsys_refusal_reached(refusal: &Refusal) {
    refusal.reaches_this_thread();
}

fn allocate(bytes: usize) -> Result<*mut c_void, RefusedBy> {
    let owner = Owner::entered();
    let whole = bytes.checked_add(HEADER_BYTES).ok_or(RefusedBy::Limit)?;
    if budget::injection_refuses() {
        return Err(RefusedBy::Limit);
    }
    let (address, mapped_bytes) =
        if bytes < MAPPED_FROM_BYTES { heap_block(whole)? } else { mapped_block(whole)? };
    if !block_map::insert(address + HEADER_BYTES) {
        give_back(address, mapped_bytes, bytes);
        return Err(RefusedBy::System);
    }
    ledger::count_tensor(owner, bytes as u64);
    let header = Header { tensor_bytes: bytes, mapped_bytes, owner: owner.index() };
    // SAFETY: the block is ours alone, aligned to 64 and at least `HEADER_BYTES` + `bytes` long, and a header is
    // smaller than that.
    unsafe {
        (address as *mut Header).write(header);
        Ok((address as *mut u8).add(HEADER_BYTES).cast())
    }
}

/// Takes a tensor's block back. False, and nothing done, where it is none of ours: oneDNN frees through the allocator that
/// libtorch has then, which before the count began gave other allocators' blocks.
#[unsafe(no_mangle)]
extern "C" fn memsys_tensor_free(data: *mut c_void) -> bool {
    if !block_map::remove(data as usize) {
        return false;
    }
    let address = data as usize - HEADER_BYTES;
    // SAFETY: the map had the block, so `memsys_tensor_allocate` gave it and nobody has handed it back; the header before
    // it is as written there.
    let Header { tensor_bytes, mapped_bytes, owner } = unsafe { (address as *mut Header).read() };
    ledger::forget_tensor(Owner::of_index(owner), tensor_bytes as u64);
    give_back(address, mapped_bytes, tensor_bytes);
    true
}

fn give_back(address: usize, mapped_bytes: usize, tensor_bytes: usize) {
    if mapped_bytes > 0 {
        pool().keep(address, mapped_bytes);
    } else {
        ledger::count(Part::Blocks, -((tensor_bytes + HEADER_BYTES) as i64));
        // SAFETY: a block without a mapping came from `posix_memalign`, and nobody has it any more.
        unsafe { libc::free(address as *mut c_void) };
    }
}

fn heap_block(bytes: usize) -> Result<(usize, usize), RefusedBy> {
    let take = || {
        let mut block = std::ptr::null_mut();
        // SAFETY: `block` is room for a pointer; 64 is a power of two and a multiple of a pointer's size.
        let status = unsafe { libc::posix_memalign(&raw mut block, 64, bytes) };
        (status == 0).then_some((block as usize, 0))
    };
    granted(bytes, take)
}

fn mapped_block(bytes: usize) -> Result<(usize, usize), RefusedBy> {
    let bytes = bytes.checked_next_multiple_of(PAGE_BYTES).ok_or(RefusedBy::Limit)?;
    // The lock's guard ends with this statement: no lock is held while mappings are made and given back.
    let kept = pool().take(bytes);
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let surplus = pool().surplus(bytes);
    release(surplus as u64);
    let address = granted(bytes, || map(bytes))?;
    pool().add_live(bytes);
    Ok((address, bytes))
}

/// Counts `bytes` and takes them from the system. What the system does not give is counted no more.
fn granted<T>(bytes: usize, take: impl FnOnce() -> Option<T>) -> Result<T, RefusedBy> {
    if !budget::grant(Part::Blocks, bytes as u64, Generation::Cold) {
        return Err(RefusedBy::Limit);
    }
    take().ok_or_else(|| {
        ledger::count(Part::Blocks, -(bytes as i64));
        RefusedBy::System
    })
}

fn map(bytes: usize) -> Option<usize> {
    // Blocks of two huge pages or more begin at a huge page.
    let slack = if bytes >= 2 * HUGE_PAGE_BYTES { HUGE_PAGE_BYTES } else { 0 };
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes + slack, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    let start = start as usize;
    if slack == 0 {
        return Some(start);
    }
    let aligned = start.next_multiple_of(HUGE_PAGE_BYTES);
    for (from, to) in [(start, aligned), (aligned + bytes, start + bytes + slack)] {
        if to > from {
            unmap(from, to - from);
        }
    }
    // SAFETY: the range is the mapping just made; the advice changes no contents. Where huge pages cannot be had the
    // kernel refuses, which costs speed alone.
    unsafe { libc::madvise(aligned as *mut c_void, bytes, libc::MADV_HUGEPAGE) };
    Some(aligned)
}

fn unmap(address: usize, bytes: usize) {
    // SAFETY: the range is of a mapping of ours that no tensor lives in.
    let status = unsafe { libc::munmap(address as *mut c_void, bytes) };
    debug_assert_eq!(status, 0, "a mapping of ours can be given back");
}
