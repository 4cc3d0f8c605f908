//! Moves a replay's chunks down the tiers to keep its budget and the memory limit.
//!
//! ```text
//! Hot ──copy──> encoder's thread ──next enforcement of the budget──> Compressed ──past the budget──> Mapped
//! ```
//!
//! The streams are those of the environments' local rows and that of the transitions. The oldest chunk of the stream with
//! the most full hot chunks goes first. All streams are read by single rows, so chunks are packed and any row is read
//! without the others. A window reads the same in every tier, so that the time at which a chunk moves has no effect on
//! the result of a run. `compaction` writes a file that is mostly garbage anew.

mod compaction;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use memsys::ledger::Owner;
use memsys::ledger::reclaimable::{self, Generation, Reclaimable, Registration};
use memsys::ledger::reservation::Reservation;

use crate::error::{Error, Result};
use crate::frames::{FrameStream, TierBytes};
use crate::replay::Transition;
use crate::replay::n_step::MOST_N_STEP;
use crate::replay::sampler::Sampler;
use crate::replay::tiers::compaction::Compaction;
use crate::replay::transitions::transition_stream;
use crate::store::file::writer::Opened;
use crate::store::{ChunkFile, ChunkWriter, CommitId, Durability, Encoder, RowKind, StoreOptions, Tier};

/// Bytes of memory that a mapped chunk still takes: its entries in the stream and in the file's index, and its columns.
const MAPPED_CHUNK_BYTES: u64 = 512;
/// The number of the transitions' stream. The local rows of environment `i` are stream `i + 1`.
const TRANSITIONS: u32 = 0;
/// Local rows in the unfinished chunks of all environments, about.
const UNFINISHED_ROWS: usize = 16_384;
/// Rows per chunk. Smaller chunks have more overhead, larger ones have columns of wider ranges.
const CHUNK_ROWS: std::ops::RangeInclusive<usize> = 64..=1024;
/// Rows per chunk that stays hot, at least: a chunk has some 50 bytes besides its rows.
const FEWEST_HOT_ROWS: usize = 32;
/// The most bytes of a chunk.
const CHUNK_BYTES: usize = 512 << 10;
/// A chunk has `1 << TRANSITIONS_SHIFT` transitions.
const TRANSITIONS_SHIFT: u32 = 10;
/// The heap is trimmed after this many bytes of hot rows have left it.
const TRIM_BYTES: u64 = 16 << 20;
/// Bytes of rows in the file per byte that they take in memory: 512 bytes for a chunk of at least 12 KiB.
pub(super) const ROW_BYTES_PER_MAPPED_BYTE: u64 = 24;

/// Bytes of unfinished chunks and of chunks in the encoder.
pub(super) fn overhead_bytes(n_environments: usize, local_width: usize) -> u64 {
    let unfinished = UNFINISHED_ROWS.max(64 * n_environments) as u64 * (local_width as u64 * 4);
    2 * unfinished + (64 << 10)
}

/// Rows per chunk of the local rows that stay hot. Each of many environments has an unfinished chunk, so that theirs are
/// small.
pub(super) fn hot_chunk_rows(kind: RowKind, width: usize, n_environments: usize) -> usize {
    let usual = FrameStream::typed(kind, width).chunk_rows();
    usual.min((UNFINISHED_ROWS / n_environments.max(1)).max(FEWEST_HOT_ROWS))
}

/// Moves a replay's chunks and holds the reservations of their bytes.
#[derive(Debug)]
pub(super) struct Tiers {
    options: StoreOptions,
    /// The most local rows that one observation can show.
    local_reach: usize,
    encoder: Option<Encoder>,
    /// Per stream, the first chunk that was not given to the encoder.
    n_given: Vec<usize>,
    writer: Option<ChunkWriter>,
    /// Per stream, the first chunk that the last saved state needs.
    n_saved_from: Vec<u64>,
    hot: Reservation,
    /// The largest value of `hot` since the heap was trimmed.
    most_hot: u64,
    compressed: Reservation,
    mapped: Reservation,
    buffer: Arc<ReplayBuffer>,
    _registration: Registration,
    compaction: Compaction,
}

/// What a commit of a replay's file did.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// The commit, for the state that is saved next; `None` without a file.
    pub(super) commit: Option<CommitId>,
    /// Why the file could not be compacted, told once until it is.
    pub(super) not_compacted: Option<Error>,
}

/// The replay as a holder that the memory limit asks for bytes, on any thread. A request frees the mapped pages of the
/// file at once and records the rest. The replay frees that, as far as its tier allows, when it next enforces its budget;
/// the answer to the request does not include those bytes.
#[derive(Debug, Default)]
pub(super) struct ReplayBuffer {
    requested_bytes: AtomicU64,
    movable_bytes: AtomicU64,
    file: Mutex<Option<Arc<ChunkFile>>>,
}

impl Reclaimable for ReplayBuffer {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn generation(&self) -> Generation {
        Generation::Cold
    }

    /// A row that was packed is unpacked in a few nanoseconds per byte at each read.
    fn restore_nanos_per_byte(&self) -> f64 {
        2.0
    }

    /// The bytes of the file's window, plus the bytes that moving every full chunk down would free, as of the last
    /// enforcement of the budget. For hot chunks it is an estimate from the chunks that are already compressed.
    fn bytes(&self) -> u64 {
        self.movable_bytes.load(Relaxed) + self.file().map_or(0, |file| file.window_bytes())
    }

    fn give_back(&self, bytes: u64) -> u64 {
        let given = self.file().map_or(0, |file| file.try_clear_window());
        self.requested_bytes.fetch_max(bytes.saturating_sub(given), Relaxed);
        given
    }
}

impl ReplayBuffer {
    /// None while another thread looks at it.
    fn file(&self) -> Option<Arc<ChunkFile>> {
        self.file.try_lock().ok()?.clone()
    }

    fn of(&self, file: &Arc<ChunkFile>) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(file));
    }
}

impl Default for Tiers {
    fn default() -> Self {
        Self::new(StoreOptions::default(), 0, 0)
    }
}

impl Tiers {
    pub(super) fn new(options: StoreOptions, n_environments: usize, local_reach: usize) -> Self {
        let buffer = Arc::<ReplayBuffer>::default();
        Self {
            _registration: reclaimable::register(buffer.clone()),
            buffer,
            options,
            local_reach,
            encoder: None,
            n_given: vec![0; n_environments + 1],
            writer: None,
            n_saved_from: vec![0; n_environments + 1],
            hot: Reservation::of_heap(Owner::named("run/replay/hot")),
            most_hot: 0,
            compressed: Reservation::of_heap(Owner::named("run/replay/compressed")),
            mapped: Reservation::of_heap(Owner::named("run/replay/mapped")),
            compaction: Compaction::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn keep_no_garbage(&mut self) {
        self.options.garbage_bytes = 0;
    }

    pub(super) fn tier(&self) -> Tier {
        self.options.tier
    }

    /// The environment whose local rows a stream of the file holds, or `None` for the transitions.
    pub(super) fn environment(&self, stream: u32) -> Option<usize> {
        stream.checked_sub(TRANSITIONS + 1).map(|environment| environment as usize)
    }

    #[cfg(test)]
    pub(super) fn buffer(&self) -> Arc<ReplayBuffer> {
        Arc::clone(&self.buffer)
    }

    /// An empty stream for the local rows of one environment.
    pub(super) fn local_stream(&self, width: usize) -> FrameStream {
        let kind = self.options.local_kind;
        let n_environments = self.n_given.len() - 1;
        if self.options.tier == Tier::Hot {
            return FrameStream::by_row(kind, width, hot_chunk_rows(kind, width, n_environments).ilog2());
        }
        let rows = (UNFINISHED_ROWS / n_environments.max(1)).clamp(*CHUNK_ROWS.start(), *CHUNK_ROWS.end());
        let rows = rows.min(CHUNK_BYTES / (width * kind.number_bytes()).max(1)).max(2);
        self.kept(FrameStream::by_row(kind, width, rows.ilog2()))
    }

    /// An empty stream for the transitions.
    pub(super) fn transition_stream(&self) -> FrameStream {
        self.kept(transition_stream(TRANSITIONS_SHIFT))
    }

    fn kept(&self, stream: FrameStream) -> FrameStream {
        if self.options.tier == Tier::Mapped { stream.filed() } else { stream }
    }

    /// Adopts the streams of a replay that was read back. Filed streams take their rows from the file, whose commit the
    /// replay was saved with.
    pub(super) fn adopt(
        &mut self,
        sampler: &mut Sampler,
        local: &mut [FrameStream],
        commit: Option<CommitId>,
    ) -> Result<Opened> {
        let is_filed = streams(sampler, local).iter().any(|(_, rows)| rows.is_filed());
        if is_filed != (self.options.tier == Tier::Mapped) {
            let of = usize::from;
            return Err(Error::Mismatch { what: "files", found: of(is_filed), wanted: of(!is_filed) });
        }
        let mut opened = Opened::default();
        if let Some(commit) = commit.filter(|_| is_filed) {
            let (mut writer, found) = ChunkWriter::open_saved(file(&self.options)?, commit)?;
            opened = found;
            compaction::remove_left(writer.file().path());
            for (number, rows) in streams(sampler, local) {
                rows.refill(&writer, number)?;
                self.n_saved_from[number as usize] = first_chunk(rows);
                writer.forget_before(number, first_chunk(rows));
            }
            self.keep(writer);
        }
        for (number, rows) in streams(sampler, local) {
            self.n_given[number as usize] = rows.full_hot().start;
        }
        // These bytes are in memory already, so the reservations cannot be refused.
        let [hot, compressed, mapped] = self.held(sampler, local);
        self.hot.set(hot);
        self.compressed.set(compressed);
        self.mapped.set(mapped);
        Ok(opened)
    }

    /// See [`Replay::enforce_budget`](crate::replay::Replay::enforce_budget).
    pub(super) fn enforce_budget(&mut self, sampler: &mut Sampler, local: &mut [FrameStream]) -> Result<u64> {
        self.evict(sampler, local)?;
        let before = budgeted(sampler, local);
        let wanted = self.buffer.requested_bytes.swap(0, Relaxed);
        let most = match wanted {
            0 => self.options.budget_bytes,
            _ => self.options.budget_bytes.min(before.saturating_sub(wanted)),
        };
        self.move_down(sampler, local, self.options.begin_bytes().min(most), most)?;
        if let Err(refused) = self.hold(sampler, local) {
            self.buffer.give_back(0);
            self.move_down(sampler, local, 0, 0)?;
            self.encoder.iter_mut().for_each(Encoder::free_spare);
            streams(sampler, local).into_iter().for_each(|(_, rows)| rows.free_spare());
            if self.options.tier == Tier::Hot {
                return Err(refused);
            }
            self.hold(sampler, local)?;
        }
        let hot = self.hot.bytes();
        self.most_hot = self.most_hot.max(hot);
        if hot + TRIM_BYTES <= self.most_hot {
            // The allocator keeps the freed chunks until the heap is trimmed.
            memsys::os::trim_heap();
            self.most_hot = hot;
        }
        self.buffer.movable_bytes.store(self.movable(sampler, local), Relaxed);
        Ok(before.saturating_sub(budgeted(sampler, local)))
    }

    /// Appends all new rows to the file of the mapped tier and commits it. Compacts the file when chunks that neither this
    /// state nor the one saved before needs are most of it.
    pub(super) fn commit(&mut self, sampler: &mut Sampler, local: &mut [FrameStream]) -> Result<Committed> {
        if self.options.tier != Tier::Mapped {
            return Ok(Committed::default());
        }
        self.evict(sampler, local)?;
        let stamp = now_millis();
        let mut writer = self.writer_taken()?;
        let filed = streams(sampler, local).into_iter().try_for_each(|(number, rows)| {
            writer.forget_before(number, self.n_saved_from[number as usize]);
            rows.file_all(&mut writer, number, stamp)
        });
        let committed = filed.and_then(|()| writer.commit(Durability::Power));
        self.keep(writer);
        committed?;
        let not_compacted = self.compact(sampler, local)?;
        for (number, rows) in streams(sampler, local) {
            self.n_saved_from[number as usize] = first_chunk(rows);
        }
        Ok(Committed { commit: self.writer.as_ref().map(ChunkWriter::commit_id), not_compacted })
    }

    /// Compacts a file that is mostly garbage, and returns the first error of several in a row.
    ///
    /// # Errors
    /// [`Error::Io`] if the new file is in place and the disk does not confirm its name.
    fn compact(&mut self, sampler: &mut Sampler, local: &mut [FrameStream]) -> Result<Option<Error>> {
        let Some(old) = &self.writer else { return Ok(None) };
        let mut writer = match self.compaction.attempt(old, self.options.garbage_bytes) {
            Ok(Some(writer)) => writer,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(self.compaction.is_first_failure().then_some(error)),
        };
        for (number, rows) in streams(sampler, local) {
            rows.point_to(&writer, number);
        }
        let synced = writer.sync_name();
        self.keep(writer);
        synced.map(|()| None)
    }

    /// Whether a path is that of the replay's own file.
    pub(super) fn owns(&self, path: &Path) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.file().path() == path)
    }

    fn keep(&mut self, writer: ChunkWriter) {
        writer.file().limit_window(self.options.window_bytes);
        self.buffer.of(writer.file());
        self.writer = Some(writer);
    }

    /// Takes the writer of the replay's file, or creates the file in place of one of an earlier replay. The caller gives the
    /// writer back with [`Self::keep`].
    fn writer_taken(&mut self) -> Result<ChunkWriter> {
        match self.writer.take() {
            Some(writer) => Ok(writer),
            None => ChunkWriter::create(file(&self.options)?),
        }
    }

    fn evict(&mut self, sampler: &mut Sampler, local: &mut [FrameStream]) -> Result<()> {
        let reach = self.local_reach;
        sampler.transitions_mut().evict(|old| evict_local(local, reach, old))
    }

    /// Encodes chunks until at most `begin` bytes are hot or all chunks are in the encoder, waits for the encoder while more
    /// than `most` bytes are held, and then maps what still exceeds `most`.
    fn move_down(
        &mut self,
        sampler: &mut Sampler,
        local: &mut [FrameStream],
        begin: u64,
        most: u64,
    ) -> Result<()> {
        if self.options.tier == Tier::Hot {
            return Ok(());
        }
        self.compress(sampler, local, begin, most)?;
        if self.options.tier == Tier::Mapped { self.map(sampler, local, most) } else { Ok(()) }
    }

    fn compress(
        &mut self,
        sampler: &mut Sampler,
        local: &mut [FrameStream],
        begin: u64,
        most: u64,
    ) -> Result<()> {
        let mut held = budgeted(sampler, local);
        if held <= begin && self.encoder.is_none() {
            return Ok(());
        }
        if self.encoder.is_none() {
            self.encoder = Some(Encoder::start()?);
        }
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        let mut streams = streams(sampler, local);
        let first = streams.first().map_or(0, |(number, _)| *number as usize);
        loop {
            while let Some(done) = encoder.take(false) {
                held -=
                    streams[done.stream - first].1.put_encoded(done.number as usize, done.bytes).min(held);
            }
            // Chunks in the encoder shrink to about half.
            let freed_soon = encoder.waiting_bytes() / 2;
            let next =
                (held > begin.saturating_add(freed_soon)).then(|| oldest_ungiven(&streams, &self.n_given));
            match next.flatten() {
                Some((at, number)) if encoder.has_room() => {
                    let (stream, rows) = &streams[at];
                    let hot = rows.hot_rows(number).expect("a full hot chunk");
                    encoder.give(*stream as usize, number as u64, rows.shape(), hot);
                    self.n_given[*stream as usize] = number + 1;
                }
                _ if held <= most || encoder.n_waiting() == 0 => return Ok(()),
                _ => {
                    if let Some(done) = encoder.take(true) {
                        let rows = &mut streams[done.stream - first].1;
                        held -= rows.put_encoded(done.number as usize, done.bytes).min(held);
                    }
                }
            }
        }
    }

    /// Moves full chunks to the file, by [`FrameStream::oldest_worth`], until at most `most` bytes or no chunks are left.
    fn map(&mut self, sampler: &mut Sampler, local: &mut [FrameStream], most: u64) -> Result<()> {
        let mut held = budgeted(sampler, local);
        if held <= most {
            return Ok(());
        }
        let mut streams = streams(sampler, local);
        if streams.iter().all(|(_, rows)| rows.full_in_memory().is_empty()) {
            // Creating the file replaces that of an older replay, so it waits for the first chunk.
            return Ok(());
        }
        let stamp = now_millis();
        let mut writer = self.writer_taken()?;
        let mut mapped = Ok(());
        while held > most && mapped.is_ok() {
            let oldest =
                streams.iter_mut().max_by(|(_, a), (_, b)| a.oldest_worth().total_cmp(&b.oldest_worth()));
            let oldest = oldest.filter(|(_, rows)| !rows.full_in_memory().is_empty());
            let Some((number, rows)) = oldest else { break };
            let position = (rows.full_in_memory().start + 1) * rows.chunk_rows();
            mapped = rows
                .map_before(position, &mut writer, *number, stamp)
                .map(|given_back| held = held.saturating_sub(given_back));
        }
        self.keep(writer);
        mapped
    }

    /// Bytes of hot, compressed and mapped chunks in memory.
    fn held(&self, sampler: &mut Sampler, local: &mut [FrameStream]) -> [u64; 3] {
        let waiting = self.encoder.as_ref().map_or(0, Encoder::waiting_bytes);
        let mut held = [sampler.fixed_bytes() + waiting, 0, 0];
        for (_, rows) in streams(sampler, local) {
            let bytes = rows.quick_bytes();
            held[0] += bytes.hot;
            held[1] += bytes.compressed;
            held[2] += rows.n_mapped() as u64 * MAPPED_CHUNK_BYTES;
        }
        held
    }

    /// Reserves the bytes in memory, and those of what may be inserted until the next enforcement of the budget: a chunk of
    /// each stream, and the transitions of one step of each environment with their priorities, for which it makes room.
    pub(super) fn hold(&mut self, sampler: &mut Sampler, local: &mut [FrameStream]) -> Result<()> {
        let n_ahead = MOST_N_STEP * local.len();
        let [hot, compressed, mapped] = self.held(sampler, local);
        let chunks_ahead: u64 = streams(sampler, local).iter().map(|(_, rows)| rows.chunk_bytes()).sum();
        let grown = sampler.fixed_bytes_with_room(n_ahead) - sampler.fixed_bytes();
        self.compressed.try_set(compressed)?;
        self.mapped.try_set(mapped)?;
        self.hot.try_set(hot + grown + chunks_ahead)?;
        let made = sampler.reserve(n_ahead);
        // All but the chunks ahead is in the heap, which counts it.
        let [hot, ..] = self.held(sampler, local);
        self.compressed.set(compressed);
        self.mapped.set(mapped);
        self.hot.set_with_ahead(hot, chunks_ahead);
        made
    }

    /// Bytes of memory that moving every full chunk down would free.
    fn movable(&self, sampler: &mut Sampler, local: &mut [FrameStream]) -> u64 {
        let (mut hot, mut compressed, mut were) = (0, 0, 0);
        for (_, rows) in streams(sampler, local) {
            hot += rows.full_hot().len() as u64 * rows.chunk_bytes();
            compressed += rows.quick_bytes().compressed;
            were += (rows.n_cold() - rows.n_mapped()) as u64 * rows.chunk_bytes();
        }
        match self.options.tier {
            Tier::Hot => 0,
            Tier::Mapped => hot + compressed,
            Tier::Compressed => {
                let share = if were > 0 { compressed as f64 / were as f64 } else { 0.5 };
                (hot as f64 * (1.0 - share).max(0.0)) as u64
            }
        }
    }
}

/// Evicts the local rows that only an overwritten transition showed. The windows of the next transition reach `reach` rows
/// back, its own local row included.
pub(super) fn evict_local(local: &mut [FrameStream], reach: usize, old: &Transition) {
    let rows = &mut local[usize::from(old.from.environment)];
    rows.evict_before((rows.position(old.from.local) + 1).saturating_sub(reach));
}

/// The streams of a replay with their numbers.
fn streams<'a>(sampler: &'a mut Sampler, local: &'a mut [FrameStream]) -> Vec<(u32, &'a mut FrameStream)> {
    let transitions = sampler.transitions_mut().stream_mut().map(|rows| (TRANSITIONS, rows));
    transitions.into_iter().chain((TRANSITIONS + 1..).zip(local)).collect()
}

/// The bytes that the budget limits: transitions and local rows in memory.
fn budgeted(sampler: &Sampler, local: &[FrameStream]) -> u64 {
    let stream = sampler.transitions().stream();
    let ring = if stream.is_some() { 0 } else { sampler.transitions().bytes() };
    let in_memory = |rows: TierBytes| rows.hot + rows.compressed;
    ring + local.iter().chain(stream).map(|rows| in_memory(rows.quick_bytes())).sum::<u64>()
}

/// The index of the stream with the most full hot rows that the encoder was not given, and the number of its
/// oldest such chunk.
fn oldest_ungiven(streams: &[(u32, &mut FrameStream)], n_given: &[usize]) -> Option<(usize, usize)> {
    let left = |(number, rows): &(u32, &mut FrameStream)| {
        let full = rows.full_hot();
        let first = full.start.max(n_given[*number as usize]);
        (first, full.end.saturating_sub(first) * rows.chunk_rows())
    };
    let most = streams.iter().map(left).enumerate().max_by_key(|(at, (_, n))| (*n, usize::MAX - at));
    most.and_then(|(at, (first, n))| (n > 0).then_some((at, first)))
}

fn first_chunk(rows: &FrameStream) -> u64 {
    (rows.first_row() / rows.chunk_rows()) as u64
}

fn file(options: &StoreOptions) -> Result<&Path> {
    options.file.as_deref().ok_or(Error::NoFile)
}

fn now_millis() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
