//! Moves a replay's chunks down the tiers as its options and the memory limit say.
//!
//! ```text
//! Hot ──copy──> encoder's thread ──put in its place when next settled──> Compressed ──past the budget──> Mapped
//! ```
//!
//! The streams are those of the environments' local rows and that of the transitions; the oldest chunks go first, of the
//! stream that has most. All are read by single rows, so chunks are packed and any row is read without the others. A
//! window reads the same in every tier, so when a chunk moves has no effect on a run's result.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use memsys::ledger::Owner;
use memsys::ledger::reservation::Reservation;
use memsys::system::reclaimable::Reclaimable;

use crate::error::{Error, Result};
use crate::frames::{FrameStream, TierBytes};
use crate::replay::Transition;
use crate::replay::sampler::Sampler;
use crate::replay::transitions::transition_stream;
use crate::store::file::writer::Opened;
use crate::store::{ChunkFile, ChunkWriter, Durability, Encoder, StoreOptions, Tier, copy_readable};

/// Bytes that a mapped chunk leaves in memory: its place in the stream, its columns, and its place in the file's index.
const MAPPED_CHUNK_BYTES: u64 = 512;
/// The transitions' number among the streams and in the file; local rows of environment `i` are stream `i + 1`.
const TRANSITIONS: u32 = 0;
/// Local rows of all environments in unfinished chunks, about.
const UNFINISHED_ROWS: usize = 16_384;
/// Rows of a chunk at least and at most: fewer leave much to say of each chunk, more have columns of wider ranges.
const CHUNK_ROWS: std::ops::RangeInclusive<usize> = 64..=1024;
/// The most bytes of a chunk.
const CHUNK_BYTES: usize = 512 << 10;
/// Transitions of a chunk are 2 to the power of this.
const TRANSITIONS_SHIFT: u32 = 10;
/// The heap is trimmed when so many bytes of hot rows have left it.
const TRIM_BYTES: u64 = 16 << 20;
/// A file of which more bytes than these, and than the chunks in use take, are of no use is written anew.
const LEAST_WASTE_BYTES: u64 = 64 << 20;

/// Of rows of so many bytes in the file a byte is in memory: 512 of a chunk of at least 12 KiB.
pub(super) const ROWS_BYTES_A_MAPPED_BYTE: u64 = 24;

/// Bytes of unfinished chunks and of those on their way to the encoder.
pub(super) fn overhead_bytes(n_environments: usize, local_width: usize) -> u64 {
    let unfinished = UNFINISHED_ROWS.max(64 * n_environments) as u64 * (local_width as u64 * 4);
    2 * unfinished + (64 << 10)
}

/// What moves a replay's chunks.
#[derive(Debug)]
pub(super) struct Tiers {
    options: StoreOptions,
    /// Local rows that an observation shows, counted back from its own.
    local_reach: usize,
    encoder: Option<Encoder>,
    /// Of each stream, the first chunk that was not given to the encoder.
    n_given: Vec<usize>,
    writer: Option<ChunkWriter>,
    /// Of each stream, the first chunk that the last saved state needs.
    n_saved_from: Vec<u64>,
    hot: Reservation,
    /// The most that it has been since the heap was trimmed.
    most_hot: u64,
    compressed: Reservation,
    mapped: Reservation,
    buffer: Arc<ReplayBuffer>,
    /// Of so many bytes of no use the file is not written anew.
    least_waste_bytes: u64,
}

/// Asks a replay for bytes from another thread. It gives the pages of its file that it has mapped at once; for more than
/// that it notes the wish, which the replay grants as far as its tier allows when it is next settled. Those bytes are
/// seen then, and not in the answer.
#[derive(Debug, Default)]
pub struct ReplayBuffer {
    wanted_bytes: AtomicU64,
    movable_bytes: AtomicU64,
    file: Mutex<Option<Arc<ChunkFile>>>,
}

impl Reclaimable for ReplayBuffer {
    fn name(&self) -> &'static str {
        "replay"
    }

    /// The window's bytes, and what moving every full chunk down would give back, as of when the replay was last
    /// settled; for chunks that are still to be compressed it is an estimate by those that are.
    fn bytes(&self) -> u64 {
        self.movable_bytes.load(Relaxed) + self.file().map_or(0, |file| file.window_bytes())
    }

    fn give_back(&self, bytes: u64) -> u64 {
        let given = self.file().map_or(0, |file| file.clear_window());
        self.wanted_bytes.fetch_max(bytes.saturating_sub(given), Relaxed);
        given
    }
}

impl ReplayBuffer {
    fn file(&self) -> Option<Arc<ChunkFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        Self {
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
            buffer: Arc::default(),
            least_waste_bytes: LEAST_WASTE_BYTES,
        }
    }

    #[cfg(test)]
    pub(super) fn waste_nothing(&mut self) {
        self.least_waste_bytes = 0;
    }

    pub(super) fn tier(&self) -> Tier {
        self.options.tier
    }

    /// The environment whose local rows a stream of the file holds; none for the transitions'.
    pub(super) fn environment(&self, stream: u32) -> Option<usize> {
        stream.checked_sub(TRANSITIONS + 1).map(|environment| environment as usize)
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
    pub(super) fn local_stream(&self, width: usize) -> FrameStream {
        let kind = self.options.local_kind;
        if self.options.tier == Tier::Hot {
            return FrameStream::typed(kind, width);
        }
        let n_environments = self.n_given.len() - 1;
        let rows = (UNFINISHED_ROWS / n_environments.max(1)).clamp(*CHUNK_ROWS.start(), *CHUNK_ROWS.end());
        let rows = rows.min(CHUNK_BYTES / (width * kind.number_bytes()).max(1)).max(2);
        self.kept(FrameStream::by_row(kind, width, rows.ilog2()))
    }

    /// The stream that transitions lie in, where they can leave memory as they are.
    pub(super) fn transition_stream(&self) -> FrameStream {
        self.kept(transition_stream(TRANSITIONS_SHIFT))
    }

    fn kept(&self, stream: FrameStream) -> FrameStream {
        if self.options.tier == Tier::Mapped { stream.filed() } else { stream }
    }

    /// Takes over the streams of a replay that was read back; those that are kept in a file get their rows from it.
    pub(super) fn take_over(&mut self, sampler: &mut Sampler, local: &mut [FrameStream]) -> Result<Opened> {
        let is_filed = streams(sampler, local).iter().any(|(_, rows)| rows.is_filed());
        if is_filed != (self.options.tier == Tier::Mapped) {
            let of = usize::from;
            return Err(Error::Mismatch { what: "files", found: of(is_filed), wanted: of(!is_filed) });
        }
        let mut opened = Opened::default();
        if is_filed {
            let (mut writer, found) = ChunkWriter::open(file(&self.options)?)?;
            opened = found;
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
        // What was read back is there already.
        let [hot, compressed, mapped] = self.held(sampler, local, 0);
        self.hot.set(hot);
        self.compressed.set(compressed);
        self.mapped.set(mapped);
        Ok(opened)
    }

    /// Moves chunks down as far as the options, the memory limit and wishes for bytes say, and holds what the next rows take.
    pub(super) fn enforce_budget(&mut self, sampler: &mut Sampler, local: &mut [FrameStream]) -> Result<u64> {
        self.evict(sampler, local)?;
        let before = budgeted(sampler, local);
        let wanted = self.buffer.wanted_bytes.swap(0, Relaxed);
        let most = match wanted {
            0 => self.options.budget_bytes,
            _ => self.options.budget_bytes.min(before.saturating_sub(wanted)),
        };
        self.move_down(sampler, local, self.options.begin_bytes().min(most), most)?;
        if let Err(refused) = self.hold(sampler, local) {
            self.buffer.give_back(0);
            self.move_down(sampler, local, 0, 0)?;
            self.encoder.iter_mut().for_each(Encoder::give_rooms_back);
            streams(sampler, local).into_iter().for_each(|(_, rows)| rows.give_room_back());
            if self.options.tier == Tier::Hot {
                return Err(refused);
            }
            self.hold(sampler, local)?;
        }
        let hot = self.hot.bytes();
        self.most_hot = self.most_hot.max(hot);
        if hot + TRIM_BYTES <= self.most_hot {
            // Freed rooms of chunks lie in the heap until it is trimmed.
            memsys::os::trim_heap();
            self.most_hot = hot;
        }
        self.buffer.movable_bytes.store(self.movable(sampler, local), Relaxed);
        Ok(before.saturating_sub(budgeted(sampler, local)))
    }

    /// Brings all rows to the file and commits it; nothing where no file is kept. Chunks that neither this state nor the
    /// one saved before needs are left behind when they come to be most of the file.
    pub(super) fn commit(&mut self, sampler: &mut Sampler, local: &mut [FrameStream]) -> Result<()> {
        if self.options.tier != Tier::Mapped {
            return Ok(());
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
        self.write_anew(sampler, local)?;
        for (number, rows) in streams(sampler, local) {
            self.n_saved_from[number as usize] = first_chunk(rows);
        }
        Ok(())
    }

    /// Writes a file that is mostly chunks of no use anew, aside, and puts it in the old one's place.
    fn write_anew(&mut self, sampler: &mut Sampler, local: &mut [FrameStream]) -> Result<()> {
        let Some(old) = &self.writer else { return Ok(()) };
        let used_bytes: u64 = old.index().entries().map(|entry| entry.end() - entry.offset).sum();
        if old.committed_bytes() < used_bytes.max(self.least_waste_bytes) + used_bytes {
            return Ok(());
        }
        let path = file(&self.options)?;
        let aside = path.with_extension("new");
        let mut writer = ChunkWriter::create(&aside)?;
        copy_readable(old.file(), old.index(), &mut writer, Durability::Power)?;
        writer.rename(path)?;
        for (number, rows) in streams(sampler, local) {
            rows.point_to(&writer, number);
        }
        self.keep(writer);
        Ok(())
    }

    fn keep(&mut self, writer: ChunkWriter) {
        writer.file().limit_window(self.options.window_bytes);
        self.buffer.of(writer.file());
        self.writer = Some(writer);
    }

    /// The writer of the replay's file; a file of an earlier replay gives way to a new one. To be kept again.
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

    /// Encodes until `begin` bytes are left or all are on their way, waits for them where more than `most` are held, and
    /// maps what passes `most` then.
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
            // What is on its way will take half as much, about.
            let on_its_way = encoder.waiting_bytes() / 2;
            let next =
                (held > begin.saturating_add(on_its_way)).then(|| oldest_ungiven(&streams, &self.n_given));
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

    /// Moves the full chunks that are worth least in memory to the file until at most `most` bytes are left or none is.
    fn map(&mut self, sampler: &mut Sampler, local: &mut [FrameStream], most: u64) -> Result<()> {
        let mut held = budgeted(sampler, local);
        if held <= most {
            return Ok(());
        }
        let mut streams = streams(sampler, local);
        if streams.iter().all(|(_, rows)| rows.full_in_memory().is_empty()) {
            // A file is made when there is something for it: it takes the place of an older replay's.
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

    /// Bytes that are hot, compressed, and left in memory of what is mapped; with room for `n_ahead` chunks more of each
    /// stream.
    fn held(&self, sampler: &mut Sampler, local: &mut [FrameStream], n_ahead: u64) -> [u64; 3] {
        let fixed = match sampler.transitions().stream() {
            Some(_) => sampler.priorities_bytes(),
            None => sampler.bytes(),
        };
        let waiting = self.encoder.as_ref().map_or(0, Encoder::waiting_bytes);
        let mut held = [fixed + waiting, 0, 0];
        for (_, rows) in streams(sampler, local) {
            let bytes = rows.quick_bytes();
            held[0] += bytes.hot + n_ahead * rows.chunk_bytes();
            held[1] += bytes.compressed;
            held[2] += rows.n_mapped() as u64 * MAPPED_CHUNK_BYTES;
        }
        held
    }

    /// Holds what is in memory, and what one more chunk of each stream will take.
    fn hold(&mut self, sampler: &mut Sampler, local: &mut [FrameStream]) -> Result<()> {
        let [hot, compressed, mapped] = self.held(sampler, local, 1);
        self.compressed.try_set(compressed)?;
        self.mapped.try_set(mapped)?;
        Ok(self.hot.try_set(hot)?)
    }

    /// Bytes that moving every full chunk down would give back.
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

/// Gives back the local rows that only an overwritten transition pointed to; the next one's windows reach `reach` rows
/// back, its local row included.
pub(super) fn evict_local(local: &mut [FrameStream], reach: usize, old: &Transition) {
    local[usize::from(old.from.environment)]
        .evict_before((old.from.local as usize + 1).saturating_sub(reach));
}

/// The streams whose chunks move, with their numbers.
fn streams<'a>(sampler: &'a mut Sampler, local: &'a mut [FrameStream]) -> Vec<(u32, &'a mut FrameStream)> {
    let transitions = sampler.transitions_mut().stream_mut().map(|rows| (TRANSITIONS, rows));
    transitions.into_iter().chain((TRANSITIONS + 1..).zip(local)).collect()
}

/// The bytes that the options' budget is for: transitions and local rows in memory.
fn budgeted(sampler: &Sampler, local: &[FrameStream]) -> u64 {
    let stream = sampler.transitions().stream();
    let ring = if stream.is_some() { 0 } else { sampler.transitions().bytes() };
    let in_memory = |rows: TierBytes| rows.hot + rows.compressed;
    ring + local.iter().chain(stream).map(|rows| in_memory(rows.quick_bytes())).sum::<u64>()
}

/// The place among `streams` of the one that has most full chunks that the encoder was not given, and the oldest of
/// them.
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
