//! The blocks that tensors live in.
//!
//! ```text
//! < 64 KiB   the C library's heap
//! >= 64 KiB  a mapping of its own; freed, it is kept for the next tensor of about its size
//! ```
//!
//! A mapping that is given back is given back at once and whole, so that what is resident is what is counted: the C
//! library's heap would keep it, or keep it in fragments. Kept mappings spare a learner step the first touch of fresh
//! pages, which runs at a fifth of the memory's speed. They count as [`ledger::CACHE`](crate::ledger::CACHE) and go,
//! longest unused first, as soon as the memory limit needs the room, or as live and kept mappings together would exceed the most
//! that was ever live at once: what is kept adds nothing to the peak.
//!
//! In front of each tensor's bytes stands a header of 64 bytes with its size, its owner and its mapping.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, Once};

use crate::ledger::budget::{self, CollectOrder};
use crate::ledger::{self, Owner};
use crate::libtorch::{block_map, threads};

const HEADER_BYTES: usize = 64;
const PAGE_BYTES: usize = 4096;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Tensors from this size on have a mapping of their own.
const MAPPED_FROM_BYTES: usize = 64 << 10;

struct Header {
    tensor_bytes: usize,
    /// 0 where the block is of the C library's heap.
    mapped_bytes: usize,
    owner: u16,
}

/// A mapping without a tensor.
#[derive(Debug, Clone, Copy)]
struct Kept {
    address: usize,
    freed_at: u64,
}

#[derive(Debug)]
struct Pool {
    /// By size; those of one size in the order in which they were freed.
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
    /// The kept mapping that fits best: at least `bytes`, at most an eighth larger.
    fn take(&mut self, bytes: usize) -> Option<(usize, usize)> {
        let (&size, kept) = self.kept.range_mut(bytes..=bytes + bytes / 8).next()?;
        let block = kept.pop()?;
        if kept.is_empty() {
            self.kept.remove(&size);
        }
        self.kept_bytes -= size;
        self.add_live(size);
        Some((block.address, size))
    }

    fn add_live(&mut self, bytes: usize) {
        self.live_bytes += bytes;
        self.peak_live_bytes = self.peak_live_bytes.max(self.live_bytes);
    }

    /// Kept bytes that are too many beside a new mapping of `bytes`.
    fn surplus(&self, bytes: usize) -> usize {
        let most = self.peak_live_bytes.max(self.live_bytes + bytes);
        (self.live_bytes + self.kept_bytes + bytes).saturating_sub(most + most / 64)
    }

    fn keep(&mut self, address: usize, bytes: usize) {
        self.live_bytes -= bytes;
        self.kept_bytes += bytes;
        self.clock += 1;
        let freed_at = self.clock;
        self.kept.entry(bytes).or_default().push(Kept { address, freed_at });
    }

    /// Takes out the mapping that has been unused for longest.
    fn take_oldest(&mut self) -> Option<(usize, usize)> {
        let oldest = |(size, kept): (&usize, &Vec<Kept>)| kept.first().map(|first| (first.freed_at, *size));
        let (_, size) = self.kept.iter().filter_map(oldest).min()?;
        let kept = self.kept.get_mut(&size)?;
        let block = kept.remove(0);
        if kept.is_empty() {
            self.kept.remove(&size);
        }
        self.kept_bytes -= size;
        Some((block.address, size))
    }
}

/// Lets the budget collect the kept mappings. Only the first call does something.
pub(crate) fn register_cache() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        budget::add_collector(CollectOrder::TensorBlocks, Box::new(release));
        budget::add_peaks(Box::new(forget_peak));
    });
}

/// Gives kept mappings back to the system until `bytes` are given or none is left; returns how many bytes were.
fn release(bytes: u64) -> u64 {
    let mut given = 0;
    while given < bytes {
        let Some((address, size)) = pool().take_oldest() else { break };
        unmap(address, size);
        ledger::count_blocks(-(size as i64));
        given += size as u64;
    }
    given
}

/// Bytes of kept mappings that no tensor ever wrote to, and which are therefore counted and not resident: libtorch asks
/// for workspaces of which its kernels use a part. It asks the kernel about every page: a millisecond a GiB or two.
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

/// Forgets how much was live at once so far: what follows is of another size.
fn forget_peak() {
    let mut pool = pool();
    pool.peak_live_bytes = pool.live_bytes;
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

/// A block for a tensor of `bytes`, aligned to 64, or null where the budget refuses it.
#[unsafe(no_mangle)]
extern "C" fn memsys_tensor_allocate(bytes: usize) -> *mut c_void {
    let owner = Owner::entered();
    let Some(whole) = bytes.checked_add(HEADER_BYTES) else { return std::ptr::null_mut() };
    if budget::injected_refusal(bytes as u64) {
        return std::ptr::null_mut();
    }
    let block = if bytes < MAPPED_FROM_BYTES { heap_block(whole) } else { mapped_block(whole) };
    let Some((address, mapped_bytes)) = block else { return std::ptr::null_mut() };
    if !block_map::insert(address + HEADER_BYTES) {
        give_back(address, mapped_bytes, bytes);
        return std::ptr::null_mut();
    }
    ledger::count_tensor(owner, bytes as u64);
    let header = Header { tensor_bytes: bytes, mapped_bytes, owner: owner.index() };
    // SAFETY: the block is ours alone, aligned to 64 and at least `HEADER_BYTES` + `bytes` long, and a header is
    // smaller than that.
    unsafe {
        (address as *mut Header).write(header);
        (address as *mut u8).add(HEADER_BYTES).cast()
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
        ledger::count_blocks(-((tensor_bytes + HEADER_BYTES) as i64));
        // SAFETY: a block without a mapping came from `posix_memalign`, and nobody has it any more.
        unsafe { libc::free(address as *mut c_void) };
    }
}

fn heap_block(bytes: usize) -> Option<(usize, usize)> {
    budget::make_room(bytes as u64).ok()?;
    let mut block = std::ptr::null_mut();
    // SAFETY: `block` is room for a pointer; 64 is a power of two and a multiple of a pointer's size.
    let status = unsafe { libc::posix_memalign(&raw mut block, 64, bytes) };
    if status != 0 {
        return None;
    }
    ledger::count_blocks(bytes as i64);
    Some((block as usize, 0))
}

fn mapped_block(bytes: usize) -> Option<(usize, usize)> {
    let bytes = bytes.next_multiple_of(PAGE_BYTES);
    // The guard ends with the statement: mappings are made and given back without the lock.
    let kept = pool().take(bytes);
    if kept.is_some() {
        return kept;
    }
    let surplus = pool().surplus(bytes);
    release(surplus as u64);
    budget::make_room(bytes as u64).ok()?;
    let address = map(bytes)?;
    pool().add_live(bytes);
    ledger::count_blocks(bytes as i64);
    Some((address, bytes))
}

fn map(bytes: usize) -> Option<usize> {
    // Blocks of two huge pages and more begin at one.
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
