//! A cache of decompressed chunks for the next windows over them.
//!
//! The cache evicts the chunk with the largest `age × bytes / max(frequency, 1)` first. Age counts the reads of the cache
//! since the last read of the chunk, so that the same reads evict the same chunks. One cache may serve many streams and
//! threads. Chunks are decoded without its lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use memsys::ledger::Owner;
use memsys::ledger::reclaimable::{self, Generation, Reclaimable, Registration};
use memsys::ledger::reservation::Reservation;

use crate::error::Result;

/// The number of least recently read chunks that an eviction compares.
const COMPARED: usize = 32;

/// The heap is trimmed when the memory limit takes back at least this many bytes.
const TRIM_BYTES: u64 = 1 << 20;

/// The member whose chunk it is, and the chunk's number.
type Key = (u64, u64);

#[derive(Debug)]
struct Kept {
    rows: Arc<Vec<u8>>,
    frequency: u64,
    read_at: u64,
}

#[derive(Debug)]
struct Held {
    chunks: LruCache<Key, Kept>,
    bytes: u64,
    n_reads: u64,
    n_hits: u64,
    n_members: u64,
    /// Collections of the process before the last read.
    last_used: u64,
    reservation: Reservation,
}

/// A bounded cache of decompressed chunks. It reserves before it keeps, and gives back what the memory limit asks for.
#[derive(Debug)]
pub struct ChunkCache {
    limit_bytes: u64,
    held: Arc<Shared>,
    _registration: Registration,
}

#[derive(Debug)]
struct Shared(Mutex<Held>);

impl Reclaimable for Shared {
    fn name(&self) -> &'static str {
        "decompressed chunks"
    }

    fn generation(&self) -> Generation {
        Generation::Caches
    }

    fn bytes(&self) -> u64 {
        self.0.try_lock().map_or(0, |held| held.bytes)
    }

    fn restore_nanos_per_byte(&self) -> f64 {
        1.0
    }

    fn last_used(&self) -> u64 {
        self.0.try_lock().map_or(u64::MAX, |held| held.last_used)
    }

    fn give_back(&self, bytes: u64) -> u64 {
        let Ok(mut held) = self.0.try_lock() else { return 0 };
        let before = held.bytes;
        while before - held.bytes < bytes && held.bytes > 0 {
            let victim = held.victim();
            held.remove(victim);
        }
        let given = before - held.bytes;
        if given >= TRIM_BYTES {
            // The chunks stay resident in freed blocks of the heap until it is trimmed.
            memsys::os::trim_heap();
        }
        given
    }
}

impl ChunkCache {
    /// An empty cache of at most `limit_bytes`. With 0 it keeps nothing.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        let reservation = Reservation::of_heap(Owner::named("run/replay/cache"));
        let held = Held {
            chunks: LruCache::unbounded(),
            bytes: 0,
            n_reads: 0,
            n_hits: 0,
            n_members: 0,
            last_used: 0,
            reservation,
        };
        let held = Arc::new(Shared(Mutex::new(held)));
        Self { limit_bytes, _registration: reclaimable::register(held.clone()), held }
    }

    /// Bytes of the cached chunks.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.held().bytes
    }

    /// Number of reads, and of reads that found their chunk cached.
    #[must_use]
    pub fn reads_and_hits(&self) -> (u64, u64) {
        let held = self.held();
        (held.n_reads, held.n_hits)
    }

    /// A number for a stream, which distinguishes its chunks from those of other streams.
    pub(crate) fn join(&self) -> u64 {
        let mut held = self.held();
        held.n_members += 1;
        held.n_members
    }

    /// The rows of a chunk, from the cache or from `decode`.
    pub(crate) fn rows(
        &self,
        key: (u64, u64),
        decode: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Arc<Vec<u8>>> {
        if self.limit_bytes == 0 {
            return decode().map(Arc::new);
        }
        {
            let mut held = self.held();
            held.n_reads += 1;
            held.last_used = reclaimable::n_collections();
            let read_at = held.n_reads;
            if let Some(kept) = held.chunks.get_mut(&key) {
                kept.frequency += 1;
                kept.read_at = read_at;
                let rows = Arc::clone(&kept.rows);
                held.n_hits += 1;
                return Ok(rows);
            }
        }
        let rows = Arc::new(decode()?);
        let bytes = rows.len() as u64;
        if bytes <= self.limit_bytes {
            let mut held = self.held();
            held.remove(key);
            while held.bytes + bytes > self.limit_bytes {
                let victim = held.victim();
                held.remove(victim);
            }
            let held_then = held.bytes + bytes;
            if !held.reservation.set_if_room(held_then) {
                // The memory limit has no room for the chunk, so it is read and not kept.
                return Ok(rows);
            }
            held.reservation.set(held_then);
            let read_at = held.n_reads;
            held.bytes += bytes;
            held.chunks.put(key, Kept { rows: Arc::clone(&rows), frequency: 1, read_at });
        }
        Ok(rows)
    }

    /// Frees a chunk that will not be read again.
    pub(crate) fn forget(&self, key: (u64, u64)) {
        if self.limit_bytes > 0 {
            self.held().remove(key);
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A panic leaves no half-made change behind, because the count of bytes changes together with the chunks.
        self.held.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn remove(&mut self, key: Key) {
        if let Some(kept) = self.chunks.pop(&key) {
            self.bytes -= kept.rows.len() as u64;
            self.reservation.set(self.bytes);
        }
    }

    fn victim(&self) -> Key {
        let worth = |kept: &Kept| {
            let age = self.n_reads - kept.read_at;
            age.saturating_mul(kept.rows.len() as u64) / kept.frequency.max(1)
        };
        let mut oldest = self.chunks.iter().rev().take(COMPARED).map(|(key, kept)| (*key, worth(kept)));
        let first = oldest.next().expect("bytes are held, so a chunk is");
        // Among equals the first one is the least recently read.
        oldest.fold(first, |most, one| if one.1 > most.1 { one } else { most }).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn read(cache: &ChunkCache, number: u64, bytes: usize) -> bool {
        let mut decoded = false;
        let rows = cache.rows((1, number), || {
            decoded = true;
            Ok(vec![number as u8; bytes])
        });
        assert_eq!(*rows.unwrap(), vec![number as u8; bytes]);
        !decoded
    }

    proptest! {
        #[test]
        fn the_cache_evicts_what_the_formula_says_and_keeps_its_bound(
            reads in proptest::collection::vec(0u64..20, 1..300), limit in 1u64..400,
        ) {
            let bytes_of = |number: u64| 5 + number * 7 % 60;
            let cache = ChunkCache::new(limit);
            // number -> (last read, frequency)
            let mut model: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            for (i, number) in (1u64..).zip(reads) {
                let hit = read(&cache, number, bytes_of(number) as usize);
                prop_assert_eq!(hit, model.contains_key(&number));
                if let Some((read_at, frequency)) = model.get_mut(&number) {
                    (*read_at, *frequency) = (i, *frequency + 1);
                } else if bytes_of(number) <= limit {
                    let held = |model: &BTreeMap<u64, (u64, u64)>| model.keys().map(|n| bytes_of(*n)).sum::<u64>();
                    while held(&model) + bytes_of(number) > limit {
                        let worth = |(n, (read_at, frequency)): &(&u64, &(u64, u64))| {
                            ((i - read_at) * bytes_of(**n) / frequency, i - read_at)
                        };
                        let victim = *model.iter().max_by_key(worth).unwrap().0;
                        model.remove(&victim);
                    }
                    model.insert(number, (i, 1));
                }
                prop_assert_eq!(cache.bytes(), model.keys().map(|n| bytes_of(*n)).sum::<u64>());
                prop_assert!(cache.bytes() <= limit);
            }
        }
    }

    #[test]
    fn a_cache_that_is_asked_gives_chunks_back_until_it_gave_enough() {
        let cache = ChunkCache::new(1000);
        assert!((0..10).all(|number| !read(&cache, number, 100)));
        assert_eq!(Reclaimable::bytes(&*cache.held), 1000);
        assert_eq!((cache.held.give_back(250), cache.bytes()), (300, 700));
        assert!(!read(&cache, 0, 100) && read(&cache, 9, 100), "the oldest went");
        let reading = cache.held();
        assert_eq!(cache.held.give_back(1), 0, "the thread that asks may hold the lock itself");
        drop(reading);
        assert_eq!((cache.held.give_back(u64::MAX), cache.bytes()), (800, 0));
        assert_eq!(cache.held().reservation.bytes(), 0);
    }

    #[test]
    fn a_forgotten_chunk_is_decoded_again() {
        let cache = ChunkCache::new(1000);
        assert!(!read(&cache, 3, 10) && read(&cache, 3, 10));
        cache.forget((1, 3));
        assert!(!read(&cache, 3, 10));
        assert_eq!(cache.reads_and_hits(), (3, 1));
    }
}
