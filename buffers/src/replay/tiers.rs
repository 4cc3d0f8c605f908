//! Moves a replay's chunks down the tiers as its options and the line say.
//!
//! ```text
//! Compressed   own rows: oldest full hot chunk ──copy──> encoder's thread ──> put in its place when next settled
//! Mapped       own rows and transitions: oldest full hot chunk ──as it is──> file, from which single rows are read
//! ```
//!
//! A window reads the same in every tier, so when a chunk moves has no effect on a run's result.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use memsys::buffer::Buffer;
use memsys::ledger::Owner;
use memsys::reservation::Reservation;

use super::Transition;
use super::sampler::Sampler;
use crate::error::{Error, Result};
use crate::frames::{FrameStream, TierBytes};
use crate::store::writer::Opened;
use crate::store::{ChunkCache, ChunkWriter, Durability, Encoder, RowKind, StoreOptions, Tier};

/// Bytes of decompressed chunks of own rows that are kept: single rows of very many chunks are read, so that hardly any
/// is read again soon.
const CACHE_BYTES: u64 = 0;
/// Bytes that a mapped chunk leaves in memory: its place in the stream and in the file's index.
const MAPPED_CHUNK_BYTES: u64 = 320;
/// The transitions' number in the file; own rows of environment `i` are stream `i + 1`.
const TRANSITIONS: u32 = 0;
/// Own rows of all environments that are unfinished chunks in the mapped tier, about.
const UNFINISHED_ROWS: usize = 16_384;
/// Bytes of a compressed chunk of own rows: single rows are read, and the others are decoded for nothing.
const COMPRESSED_CHUNK_BYTES: usize = 1024;

/// Of rows of so many bytes in the file a byte is in memory: 320 of a chunk of at least 8 KiB.
pub(super) const ROWS_BYTES_A_MAPPED_BYTE: u64 = 25;

/// Bytes of unfinished chunks, of those on their way to the encoder, and of the cache.
pub(super) fn overhead_bytes(n_environments: usize, own_width: usize) -> u64 {
    let unfinished = UNFINISHED_ROWS.max(64 * n_environments) as u64 * (own_width as u64 * 4);
    CACHE_BYTES + 2 * unfinished + (64 << 10)
}

/// What moves a replay's chunks.
#[derive(Debug)]
pub(super) struct Tiers {
    options: StoreOptions,
    /// Own rows that an observation shows, counted back from its own.
    own_reach: usize,
    encoder: Option<Encoder>,
    /// Of each own stream, the first chunk that was not given to the encoder.
    n_given: Vec<usize>,
    writer: Option<ChunkWriter>,
    cache: Arc<ChunkCache>,
    hot: Reservation,
    compressed: Reservation,
    mapped: Reservation,
    buffer: Arc<ReplayBuffer>,
}

/// Asks a replay for bytes from another thread. It gives its cache at once; for more than that it notes the wish, which
/// the replay grants as far as its tier allows when it is next settled. Those bytes are seen then, and not in the answer.
#[derive(Debug)]
pub struct ReplayBuffer {
    wanted_bytes: AtomicU64,
    movable_bytes: AtomicU64,
    cache: Arc<ChunkCache>,
}

impl Buffer for ReplayBuffer {
    fn name(&self) -> &'static str {
        "replay"
    }

    /// The cache's bytes, and what moving every full chunk down would give back, as of when the replay was last
    /// settled; for chunks that are still to be compressed it is an estimate by those that are.
    fn bytes(&self) -> u64 {
        self.movable_bytes.load(Relaxed) + self.cache.bytes()
    }

    fn give_back(&self, bytes: u64) -> u64 {
        let given = self.cache.clear();
        self.wanted_bytes.fetch_max(bytes.saturating_sub(given), Relaxed);
        given
    }
}

impl Default for Tiers {
    fn default() -> Self {
        Self::new(StoreOptions::default(), 0, 0)
    }
}

impl Tiers {
    pub(super) fn new(options: StoreOptions, n_environments: usize, own_reach: usize) -> Self {
        let cache = Arc::new(ChunkCache::new(CACHE_BYTES));
        let buffer = ReplayBuffer {
            wanted_bytes: AtomicU64::new(0),
            movable_bytes: AtomicU64::new(0),
            cache: Arc::clone(&cache),
        };
        Self {
            options,
            own_reach,
            encoder: None,
            n_given: vec![0; n_environments],
            writer: None,
            cache,
            hot: Reservation::of_heap(Owner::named("run/replay/hot")),
            compressed: Reservation::of_heap(Owner::named("run/replay/compressed")),
            mapped: Reservation::of_heap(Owner::named("run/replay/mapped")),
            buffer: Arc::new(buffer),
        }
    }

    pub(super) fn tier(&self) -> Tier {
        self.options.tier
    }

    pub(super) fn buffer(&self) -> Arc<ReplayBuffer> {
        Arc::clone(&self.buffer)
    }

    /// Holds the bytes that a replay begins with.
    pub(super) fn begin(&mut self, bytes: u64) -> Result<()> {
        if self.options.tier == Tier::Mapped && self.options.file.is_none() {
            return Err(Error::NoFile);
        }
        Ok(self.hot.try_set(bytes)?)
    }

    /// An environment's stream, without rows yet.
    pub(super) fn own_stream(&self, width: usize) -> FrameStream {
        let stream = match self.options.tier {
            Tier::Hot => FrameStream::new(width),
            Tier::Compressed => {
                let rows = (COMPRESSED_CHUNK_BYTES / (width * 4).max(1)).clamp(2, 256);
                FrameStream::chunked(RowKind::F32, width, rows.ilog2())
            }
            Tier::Mapped => {
                let rows = (UNFINISHED_ROWS / self.n_given.len().max(1)).clamp(64, 1024);
                let rows = rows.min((128 << 10) / (width * 4).max(1)).max(2);
                FrameStream::chunked(RowKind::F32, width, rows.ilog2()).filed()
            }
        };
        stream.with_cache(Arc::clone(&self.cache))
    }

    /// Takes over the streams of a replay that was read back; those that are kept in a file get their rows from it.
    pub(super) fn take_over(&mut self, sampler: &mut Sampler, own: &mut [FrameStream]) -> Result<Opened> {
        own.iter_mut().for_each(|stream| stream.share_cache(Arc::clone(&self.cache)));
        self.n_given = own.iter().map(|stream| stream.full_hot().start).collect();
        let is_filed = own.iter().any(FrameStream::is_filed) || sampler.transitions().stream().is_some();
        if is_filed != (self.options.tier == Tier::Mapped) {
            let of = usize::from;
            return Err(Error::Mismatch { what: "files", found: of(is_filed), wanted: of(!is_filed) });
        }
        if !is_filed {
            return Ok(Opened::default());
        }
        let (writer, opened) = ChunkWriter::open(file(&self.options)?)?;
        for (stream, rows) in streams(sampler, own) {
            rows.refill(&writer, stream)?;
        }
        self.writer = Some(writer);
        Ok(opened)
    }

    /// Moves chunks down as far as the options, the line and wishes for bytes say, and holds what the next rows take.
    pub(super) fn settle(&mut self, sampler: &mut Sampler, own: &mut [FrameStream]) -> Result<u64> {
        self.evict(sampler, own)?;
        let before = memory(sampler, own);
        let wanted = self.buffer.wanted_bytes.swap(0, Relaxed);
        let begin = self.options.begin_bytes().min(match wanted {
            0 => u64::MAX,
            _ => self.budgeted(sampler, own).saturating_sub(wanted),
        });
        let most = if wanted > 0 { begin } else { self.options.budget_bytes.max(begin) };
        self.move_down(sampler, own, begin, most)?;
        if let Err(refused) = self.hold(sampler, own) {
            self.cache.clear();
            self.move_down(sampler, own, 0, 0)?;
            if self.options.tier == Tier::Hot {
                return Err(refused);
            }
            self.hold(sampler, own)?;
        }
        self.buffer.movable_bytes.store(self.movable(sampler, own), Relaxed);
        Ok(before.saturating_sub(memory(sampler, own)))
    }

    /// Brings all rows to the file and commits it; nothing where no file is kept.
    pub(super) fn commit(&mut self, sampler: &mut Sampler, own: &mut [FrameStream]) -> Result<()> {
        if self.options.tier != Tier::Mapped {
            return Ok(());
        }
        self.evict(sampler, own)?;
        let stamp = now_millis();
        let writer = opened(&mut self.writer, &self.options)?;
        for (stream, rows) in streams(sampler, own) {
            rows.file_all(writer, stream, stamp)?;
        }
        writer.commit(Durability::Power)
    }

    fn evict(&mut self, sampler: &mut Sampler, own: &mut [FrameStream]) -> Result<()> {
        let Some(before) = sampler.transitions().stream().map(FrameStream::first_row) else { return Ok(()) };
        let reach = self.own_reach;
        sampler.transitions_mut().evict(|old| {
            evict_own(own, reach, old);
        })?;
        let is_same = sampler.transitions().stream().is_none_or(|stream| stream.first_row() == before);
        if let Some(writer) = self.writer.as_mut().filter(|_| !is_same) {
            for (stream, rows) in streams(sampler, own) {
                writer.forget_before(stream, (rows.first_row() / rows.chunk_rows()) as u64);
            }
        }
        Ok(())
    }

    fn move_down(
        &mut self,
        sampler: &mut Sampler,
        own: &mut [FrameStream],
        begin: u64,
        most: u64,
    ) -> Result<()> {
        match self.options.tier {
            Tier::Hot => Ok(()),
            Tier::Compressed => self.compress(sampler.bytes(), own, begin, most),
            Tier::Mapped => self.map(sampler, own, begin),
        }
    }

    /// Has the oldest chunks encoded until `begin` bytes are left or all are on their way; waits for them where more
    /// than `most` are held.
    fn compress(&mut self, fixed: u64, own: &mut [FrameStream], begin: u64, most: u64) -> Result<()> {
        let of = |own: &[FrameStream]| fixed + own.iter().map(in_memory).sum::<u64>();
        let mut held = of(own);
        if held <= begin && self.encoder.is_none() {
            return Ok(());
        }
        if self.encoder.is_none() {
            self.encoder = Some(Encoder::start()?);
        }
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        loop {
            while let Some(done) = encoder.take(false) {
                held -= own[done.stream].put_encoded(done.number as usize, done.bytes).min(held);
            }
            // What is on its way will take half as much, about.
            let on_its_way = encoder.n_waiting() as u64 * own.first().map_or(0, FrameStream::chunk_bytes) / 2;
            let next = (held > begin.saturating_add(on_its_way)).then(|| oldest_ungiven(own, &self.n_given));
            match next.flatten() {
                Some((stream, number)) if encoder.has_room() => {
                    let rows = own[stream].hot_rows(number).expect("a full hot chunk");
                    encoder.give(stream, number as u64, own[stream].shape(), rows);
                    self.n_given[stream] = number + 1;
                }
                _ if held <= most || encoder.n_waiting() == 0 => return Ok(()),
                _ => {
                    if let Some(done) = encoder.take(true) {
                        held -= own[done.stream].put_encoded(done.number as usize, done.bytes).min(held);
                    }
                }
            }
        }
    }

    fn map(&mut self, sampler: &mut Sampler, own: &mut [FrameStream], begin: u64) -> Result<()> {
        let mut held = self.budgeted(sampler, own);
        if held <= begin {
            return Ok(());
        }
        let stamp = now_millis();
        while held > begin {
            let full = |rows: &FrameStream| rows.full_hot().len() as u64 * rows.chunk_bytes();
            let Some((stream, rows)) =
                streams(sampler, own).filter(|(_, rows)| full(rows) > 0).max_by_key(|(_, rows)| full(rows))
            else {
                return Ok(());
            };
            rows.file_oldest(opened(&mut self.writer, &self.options)?, stream, stamp)?;
            held = held.saturating_sub(rows.chunk_bytes());
        }
        Ok(())
    }

    /// The bytes that the options' budget is for.
    fn budgeted(&self, sampler: &Sampler, own: &[FrameStream]) -> u64 {
        let rows: u64 = own.iter().map(in_memory).sum();
        match self.options.tier {
            Tier::Hot | Tier::Compressed => sampler.bytes() + rows,
            Tier::Mapped => sampler.transitions().stream().map_or(0, in_memory) + rows,
        }
    }

    /// Holds what is in memory, and what one more chunk of each stream will take.
    fn hold(&mut self, sampler: &Sampler, own: &[FrameStream]) -> Result<()> {
        let filed = sampler.transitions().stream();
        let all = || own.iter().chain(filed);
        let sum = |of: fn(&TierBytes) -> u64| all().map(|rows| of(&rows.quick_bytes())).sum::<u64>();
        let ring = if filed.is_some() { sampler.priorities_bytes() } else { sampler.bytes() };
        let ahead: u64 = all().map(FrameStream::chunk_bytes).sum();
        let n_cold: u64 = all().map(|rows| rows.n_cold() as u64).sum();
        self.compressed.try_set(sum(|bytes| bytes.compressed))?;
        self.mapped.try_set(if self.writer.is_some() { n_cold * MAPPED_CHUNK_BYTES } else { 0 })?;
        Ok(self.hot.try_set(ring + sum(|bytes| bytes.hot) + ahead)?)
    }

    /// Bytes that moving every full chunk down would give back.
    fn movable(&self, sampler: &Sampler, own: &[FrameStream]) -> u64 {
        let full = |rows: &FrameStream| rows.full_hot().len() as u64 * rows.chunk_bytes();
        let hot: u64 = own.iter().chain(sampler.transitions().stream()).map(full).sum();
        match self.options.tier {
            Tier::Hot => 0,
            Tier::Mapped => hot,
            Tier::Compressed => {
                let compressed: u64 = own.iter().map(|rows| rows.quick_bytes().compressed).sum();
                let were: u64 = own.iter().map(|rows| rows.n_cold() as u64 * rows.chunk_bytes()).sum();
                let share = if were > 0 { compressed as f64 / were as f64 } else { 0.5 };
                (hot as f64 * (1.0 - share).max(0.0)) as u64
            }
        }
    }
}

/// Gives back the own rows that only an overwritten transition pointed to; the next one's windows reach `reach` rows
/// back, its own row included.
pub(super) fn evict_own(own: &mut [FrameStream], reach: usize, old: &Transition) {
    own[usize::from(old.from.environment)].evict_before((old.from.own as usize + 1).saturating_sub(reach));
}

/// The streams that a file keeps, with their numbers there.
fn streams<'a>(
    sampler: &'a mut Sampler,
    own: &'a mut [FrameStream],
) -> impl Iterator<Item = (u32, &'a mut FrameStream)> {
    let transitions = sampler.transitions_mut().stream_mut().map(|rows| (TRANSITIONS, rows));
    transitions.into_iter().chain((TRANSITIONS + 1..).zip(own))
}

fn in_memory(rows: &FrameStream) -> u64 {
    let bytes = rows.quick_bytes();
    bytes.hot + bytes.compressed
}

fn memory(sampler: &Sampler, own: &[FrameStream]) -> u64 {
    let filed = sampler.transitions().stream();
    let ring = if filed.is_some() { 0 } else { sampler.transitions().bytes() };
    ring + own.iter().chain(filed).map(in_memory).sum::<u64>()
}

/// The oldest full hot chunk that the encoder was not given, of the stream that has most of them.
fn oldest_ungiven(own: &[FrameStream], n_given: &[usize]) -> Option<(usize, usize)> {
    let left = |(rows, given): (&FrameStream, &usize)| {
        let full = rows.full_hot();
        let first = full.start.max(*given);
        (first, full.end.saturating_sub(first))
    };
    let all = own.iter().zip(n_given).map(left).enumerate();
    let most = all.max_by_key(|(stream, (_, n))| (*n, usize::MAX - stream));
    most.and_then(|(stream, (first, n))| (n > 0).then_some((stream, first)))
}

fn file(options: &StoreOptions) -> Result<&Path> {
    options.file.as_deref().ok_or(Error::NoFile)
}

/// The writer of the replay's file; a file of an earlier replay gives way to a new one.
fn opened<'a>(writer: &'a mut Option<ChunkWriter>, options: &StoreOptions) -> Result<&'a mut ChunkWriter> {
    if writer.is_none() {
        *writer = Some(ChunkWriter::create(file(options)?)?);
    }
    writer.as_mut().ok_or(Error::NoFile)
}

fn now_millis() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
