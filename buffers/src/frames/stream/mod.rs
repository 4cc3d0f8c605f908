//! A frame stream: rows of one kind and width, appended once, read as windows.
//!
//! Rows lie in chunks. So appending never moves a row, the oldest rows are evicted one chunk at a time, and a chunk can
//! be compressed or moved to a file. The position of a row counts from the beginning of the stream and never changes. A
//! window reads the same in every tier:
//!
//! ```text
//! evicted │ mapped … mapped │ compressed … compressed │ hot … hot ◄── append
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use memsys::ledger::Owner;
use memsys::ledger::reservation::try_reserve;

use crate::error::{Error, Result};
use crate::store::codec;
use crate::store::{
    Chunk, ChunkCache, ChunkReader, Codec, Identity, MappedChunk, RefusedChunk, RowKind, RowShape,
};

/// The most rows of a chunk. For feature rows, 256 rows decode in a third of the time of 1,024 and compress as well to
/// within 4 %.
const MOST_CHUNK_ROWS: usize = 256;

/// Chunks of wide rows hold fewer rows, because a stack of frames needs few: 4 frames of 84 × 84.
const CHUNK_BYTES: usize = 32 << 10;

/// The codec is chosen again after this many chunks.
const CHOOSE_EVERY: usize = 64;

/// Bytes of decompressed chunks that a stream and its clones cache where they share no other cache. It fits a
/// processor's cache; 1 MiB was 5 % slower over many chunks, which are seldom read twice.
const DEFAULT_CACHE_BYTES: u64 = 256 << 10;

/// A gap of more chunks than this is not damage: the rows before it were evicted before they were written.
const LONGEST_GAP: usize = 1 << 20;

/// Bytes that a stream holds, by tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierBytes {
    /// Rows as they are, in memory.
    pub hot: u64,
    /// Encoded rows in memory.
    pub compressed: u64,
    /// Encoded rows in a file.
    pub mapped: u64,
}

/// A stream that was rebuilt from a file.
#[derive(Debug)]
pub struct Restored {
    /// The stream. Its chunks are mapped, an unfinished last chunk is hot. Reading a damaged chunk is an error.
    pub stream: FrameStream,
    /// Why the unfinished last chunk is lost, if it is.
    pub lost_tail: Option<Error>,
}

/// Rows of `width` numbers.
#[derive(Debug)]
pub struct FrameStream {
    pub(super) shape: RowShape,
    /// A chunk has `1 << chunk_shift` rows.
    pub(super) chunk_shift: u32,
    pub(super) chunks: VecDeque<Chunk>,
    /// Chunks evicted so far. The first remaining chunk begins with row `n_evicted << chunk_shift`.
    pub(super) n_evicted: usize,
    pub(super) n_rows: usize,
    /// Bytes of the compressed and of the mapped chunks, kept up to date so that reading them costs no loop.
    pub(super) n_compressed_bytes: u64,
    pub(super) n_mapped_bytes: u64,
    /// Whether the rows are saved in a file of chunks instead of in the saved state.
    pub(super) is_filed: bool,
    /// Rows that the file already holds.
    pub(super) n_filed: usize,
    /// Whether single rows are read, so that a chunk must give one row without decoding the others.
    is_read_by_row: bool,
    /// The codec of the next chunks.
    codec: Option<Codec>,
    cache: Arc<ChunkCache>,
    /// The stream's number in the cache.
    member: u64,
    /// The allocation of a chunk that is not hot any more, kept for the next chunk. Allocating and freeing large blocks
    /// between small long-lived ones would fragment the heap.
    spare: Vec<u8>,
}

impl FrameStream {
    /// An empty stream of f32 rows.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self::typed(RowKind::F32, width)
    }

    /// An empty stream of rows of any kind.
    #[must_use]
    pub fn typed(kind: RowKind, width: usize) -> Self {
        Self::empty(RowShape { kind, width }, default_chunk_shift(RowShape { kind, width }))
    }

    pub(super) fn empty(shape: RowShape, chunk_shift: u32) -> Self {
        let cache = Arc::new(ChunkCache::new(DEFAULT_CACHE_BYTES));
        let member = cache.join();
        Self {
            shape,
            chunk_shift,
            chunks: VecDeque::new(),
            n_evicted: 0,
            n_rows: 0,
            n_compressed_bytes: 0,
            n_mapped_bytes: 0,
            is_filed: false,
            n_filed: 0,
            is_read_by_row: false,
            codec: None,
            cache,
            member,
            spare: Vec::new(),
        }
    }

    /// An empty stream for reading single rows, with `1 << chunk_shift` rows per chunk.
    pub(crate) fn by_row(kind: RowKind, width: usize, chunk_shift: u32) -> Self {
        Self { is_read_by_row: true, ..Self::empty(RowShape { kind, width }, chunk_shift) }
    }

    /// The same stream with another cache for its decompressed chunks, which other streams may share.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<ChunkCache>) -> Self {
        self.share_cache(cache);
        self
    }

    pub(crate) fn share_cache(&mut self, cache: Arc<ChunkCache>) {
        self.member = cache.join();
        self.cache = cache;
    }

    /// The stream with the number `stream` of a file, or `None` if the file has no chunk of it.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses to map the file. Damage is not an error here.
    pub fn restore(from: &ChunkReader, stream: u32) -> Result<Option<Restored>> {
        let mut chunks = from.index().chunks(stream).peekable();
        let Some(first) = chunks.peek() else { return Ok(None) };
        let mut restored = Self::empty(first.shape, first.identity.chunk_rows.trailing_zeros());
        restored.n_evicted = first.identity.number as usize;
        let mut lost_tail = None;
        while let Some(entry) = chunks.next() {
            let file = || Arc::clone(from.file());
            let chunk = Chunk::Mapped(Box::new(MappedChunk::new(file(), *entry)));
            if entry.identity.number as usize - restored.n_evicted - restored.chunks.len() > LONGEST_GAP {
                restored.chunks.clear();
                restored.n_evicted = entry.identity.number as usize;
            }
            let refused = |number| {
                Chunk::Refused(Box::new(RefusedChunk { file: file(), stream, number: number as u64 }))
            };
            while restored.n_evicted + restored.chunks.len() < entry.identity.number as usize {
                restored.chunks.push_back(refused(restored.n_evicted + restored.chunks.len()));
            }
            restored.n_rows = entry.first_row() as usize;
            let full = entry.n_rows == entry.identity.chunk_rows;
            if full || chunks.peek().is_some() {
                // An unfinished chunk that others follow was written again in full later, and that record is lost.
                restored.chunks.push_back(if full { chunk } else { refused(entry.identity.number as usize) });
                restored.n_rows += entry.identity.chunk_rows as usize;
                continue;
            }
            match chunk.rows() {
                Ok(rows) => {
                    restored.chunks.push_back(Chunk::Hot(rows.into_owned()));
                    restored.n_rows += entry.n_rows as usize;
                }
                Err(error @ (Error::Damaged { .. } | Error::Truncated { .. })) => lost_tail = Some(error),
                Err(error) => return Err(error),
            }
        }
        restored.count();
        Ok(Some(Restored { stream: restored, lost_tail }))
    }

    /// Numbers per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.width
    }

    /// How a number is stored.
    #[must_use]
    pub fn kind(&self) -> RowKind {
        self.shape.kind
    }

    /// Rows appended so far, evicted rows included. It is the position of the next row.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Position of the first row that was not evicted.
    #[must_use]
    pub fn first_row(&self) -> usize {
        self.n_evicted << self.chunk_shift
    }

    /// The position whose lowest 32 bits are `low`, see [`position`].
    pub(crate) fn position(&self, low: u32) -> usize {
        position(low, self.n_rows)
    }

    /// An empty stream whose next row has a position, of which all chunks before were evicted.
    #[cfg(test)]
    pub(crate) fn beginning_at(mut self, position: usize) -> Self {
        assert!(self.n_rows == 0 && position.is_multiple_of(self.chunk_rows()));
        (self.n_rows, self.n_evicted) = (position, position >> self.chunk_shift);
        self
    }

    /// Rows per full chunk.
    #[must_use]
    pub fn chunk_rows(&self) -> usize {
        1 << self.chunk_shift
    }

    /// Bytes of memory of the hot and compressed chunks. The cache counts its bytes itself ([`ChunkCache::bytes`]).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(Chunk::bytes).sum()
    }

    /// Bytes by tier.
    #[must_use]
    pub fn tier_bytes(&self) -> TierBytes {
        let mut bytes = TierBytes::default();
        for chunk in &self.chunks {
            match chunk {
                Chunk::Hot(_) => bytes.hot += chunk.bytes(),
                Chunk::Compressed(_) => bytes.compressed += chunk.bytes(),
                Chunk::Mapped(_) | Chunk::Refused(_) => bytes.mapped += chunk.mapped_bytes(),
            }
        }
        bytes
    }

    /// Appends a row and returns its position. Rounds the numbers to the stream's kind.
    ///
    /// # Panics
    /// If `row` has another width, or the stream holds u8.
    pub fn append(&mut self, row: &[f32]) -> usize {
        assert_eq!(row.len(), self.shape.width, "a row of another width");
        let kind = self.shape.kind;
        kind.narrow(row, self.room());
        self.n_rows += 1;
        self.n_rows - 1
    }

    /// Appends a row as [`FrameStream::append`] does.
    ///
    /// # Errors
    /// [`Error::LocalRows`] if `row` has another width or the stream holds u8; [`memsys::Error::Refused`] if the system
    /// gives no memory for the row's chunk.
    pub(crate) fn try_append(&mut self, row: &[f32]) -> Result<usize> {
        if row.len() != self.shape.width || self.shape.kind == RowKind::U8 {
            let RowShape { kind, width } = self.shape;
            let what = format!("a row of {} numbers, where rows are {width} of {kind:?}", row.len());
            return Err(Error::LocalRows { what });
        }
        if self.n_rows.is_multiple_of(self.chunk_rows()) {
            let chunk_bytes = self.chunk_rows() * self.shape.row_bytes();
            try_reserve(&mut self.spare, chunk_bytes, Owner::named("run/replay/hot"))?;
        }
        Ok(self.append(row))
    }

    /// Appends a row given as little-endian bytes and returns its position.
    ///
    /// # Panics
    /// If `row` has another length than a row.
    pub fn append_bytes(&mut self, row: &[u8]) -> usize {
        assert_eq!(row.len(), self.shape.row_bytes(), "a row of another width");
        self.room().extend_from_slice(row);
        self.n_rows += 1;
        self.n_rows - 1
    }

    /// Compresses the full hot chunks whose rows all lie before `position`, and returns the freed bytes.
    pub fn compress_before(&mut self, position: usize) -> u64 {
        let mut given_back = 0;
        for index in self.first_hot()..self.n_full_before(position) {
            let codec = self.codec_for(index);
            let Chunk::Hot(rows) = &self.chunks[index] else { continue };
            let encoded = codec::encode(codec, self.shape, rows);
            let held = self.chunks[index].bytes();
            self.put_compressed(index, encoded.into());
            given_back += held.saturating_sub(self.chunks[index].bytes());
        }
        self.count();
        given_back
    }

    /// Evicts the chunks whose rows all lie before `position`. Windows must not reach into them afterwards.
    pub fn evict_before(&mut self, position: usize) {
        while (self.n_evicted + 1) << self.chunk_shift <= position.min(self.n_rows) {
            match self.chunks.pop_front() {
                Some(chunk @ Chunk::Compressed(_)) => self.n_compressed_bytes -= chunk.bytes(),
                Some(chunk) => self.n_mapped_bytes -= chunk.mapped_bytes(),
                None => {}
            }
            self.cache.forget((self.member, self.n_evicted as u64));
            self.n_evicted += 1;
        }
    }

    /// The hot chunk that the next row goes to.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.n_rows.is_multiple_of(self.chunk_rows()) {
            self.chunks.push_back(Chunk::Hot(std::mem::take(&mut self.spare)));
        }
        let chunk_bytes = self.chunk_rows() * self.shape.row_bytes();
        match self.chunks.back_mut() {
            Some(Chunk::Hot(rows)) => {
                // A cloned or restored chunk has capacity for its rows alone.
                rows.reserve_exact(chunk_bytes - rows.len());
                rows
            }
            _ => unreachable!("only full chunks are moved to other tiers"),
        }
    }

    /// Number of full chunks before `position` that were not evicted.
    fn n_full_before(&self, position: usize) -> usize {
        (position.min(self.n_rows) >> self.chunk_shift).saturating_sub(self.n_evicted)
    }

    fn first_hot(&self) -> usize {
        self.chunks.partition_point(|chunk| !matches!(chunk, Chunk::Hot(_)))
    }

    fn first_in_memory(&self) -> usize {
        self.chunks.partition_point(|chunk| !matches!(chunk, Chunk::Hot(_) | Chunk::Compressed(_)))
    }

    /// The codec for a hot chunk: that of the chunk before, chosen again every [`CHOOSE_EVERY`] chunks.
    fn codec_for(&mut self, index: usize) -> Codec {
        if let Chunk::Hot(rows) = &self.chunks[index]
            && (self.codec.is_none() || (self.n_evicted + index).is_multiple_of(CHOOSE_EVERY))
        {
            let choose = if self.is_read_by_row { codec::choose_single } else { codec::choose };
            self.codec = Some(choose(self.shape, rows));
        }
        self.codec.unwrap_or(Codec::STORED)
    }

    /// Replaces a hot chunk by its encoded form and keeps its allocation as the spare one.
    fn put_compressed(&mut self, index: usize, encoded: Box<[u8]>) {
        if let Chunk::Hot(mut rows) = std::mem::replace(&mut self.chunks[index], Chunk::Compressed(encoded)) {
            rows.clear();
            self.spare = rows;
        }
    }

    fn identity(&self, index: usize, stream: u32, stamp_millis: u64) -> Identity {
        let number = (self.n_evicted + index) as u64;
        Identity { stream, number, chunk_rows: self.chunk_rows() as u32, stamp_millis }
    }
}

impl Clone for FrameStream {
    /// The clone shares the cache but is a separate member of it, because the two streams may differ later.
    fn clone(&self) -> Self {
        let Self { shape, chunk_shift, n_evicted, n_rows, n_compressed_bytes, n_mapped_bytes, .. } = *self;
        let Self { is_filed, is_read_by_row, codec, .. } = *self;
        let (chunks, cache) = (self.chunks.clone(), Arc::clone(&self.cache));
        let member = cache.join();
        Self {
            shape,
            chunk_shift,
            chunks,
            n_evicted,
            n_rows,
            n_compressed_bytes,
            n_mapped_bytes,
            is_filed,
            n_filed: 0,
            is_read_by_row,
            codec,
            cache,
            member,
            spare: Vec::new(),
        }
    }
}

impl PartialEq for FrameStream {
    /// Streams are equal if they hold the same rows at the same positions, in any tier. An unreadable chunk equals nothing.
    fn eq(&self, other: &Self) -> bool {
        let layout = |of: &Self| (of.shape, of.chunk_shift, of.n_evicted, of.n_rows, of.chunks.len());
        let same = |(a, b): (&Chunk, &Chunk)| matches!((a.rows(), b.rows()), (Ok(a), Ok(b)) if a == b);
        layout(self) == layout(other) && self.chunks.iter().zip(&other.chunks).all(same)
    }
}

/// The position in a stream of `n_rows` whose lowest 32 bits are `low`. Of several it is the newest, which is the one that
/// is meant: far fewer than 2³² rows are held. A row that was not appended yet gives a position of `n_rows` or more, or
/// one that was evicted long ago.
pub(crate) fn position(low: u32, n_rows: usize) -> usize {
    let back = (n_rows as u32).wrapping_sub(low) as usize;
    n_rows.checked_sub(back).unwrap_or(low as usize)
}

fn default_chunk_shift(shape: RowShape) -> u32 {
    (CHUNK_BYTES / shape.row_bytes().max(1)).clamp(1, MOST_CHUNK_ROWS).ilog2()
}

mod persistent;
mod read;
mod snapshot;

#[cfg(test)]
mod tests;
