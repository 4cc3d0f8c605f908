//! A frame stream: rows of one kind and width, appended once, read as windows.
//!
//! Rows lie in chunks, so that appending never moves a row, the oldest rows can be given back a chunk at a time, and
//! a chunk can be kept in fewer bytes or in a file. A row's position counts from the stream's beginning and never
//! changes, and a window reads the same whatever tiers it crosses:
//!
//! ```text
//! evicted │ mapped … mapped │ compressed … compressed │ hot … hot ◄── append
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::codec;
use crate::store::{
    Chunk, ChunkCache, ChunkReader, Codec, Identity, MappedChunk, RefusedChunk, RowKind, RowShape,
};

/// The most rows of a chunk: of features, decoding 256 rows costs a third of what 1,024 do and compresses as well to
/// within 4 %.
const MOST_CHUNK_ROWS: usize = 256;

/// Wide rows come fewer to a chunk, as a stack of frames needs few: 4 frames of 84 × 84.
const CHUNK_BYTES: usize = 32 << 10;

/// A codec is chosen anew after this many chunks.
const CHOOSE_EVERY: usize = 64;

/// Bytes of decompressed chunks that a stream (with its clones) keeps where it was given no cache to share: what a
/// processor's own cache holds beside other things. 1 MiB was 5 % slower over many chunks, which seldom are there again.
const OWN_CACHE_BYTES: u64 = 256 << 10;

/// More chunks than this are not lost to damage: what lies before such a gap was evicted before it was written.
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

/// A stream rebuilt from a file.
#[derive(Debug)]
pub struct Restored {
    /// The stream; its chunks are mapped, an unfinished last one is hot. Reading a damaged chunk is an error.
    pub stream: FrameStream,
    /// Why the stream ends before its unfinished last chunk, where it does.
    pub lost_tail: Option<Error>,
}

/// Rows of `width` numbers.
#[derive(Debug)]
pub struct FrameStream {
    pub(super) shape: RowShape,
    /// A chunk has `1 << chunk_shift` rows.
    pub(super) chunk_shift: u32,
    pub(super) chunks: VecDeque<Chunk>,
    /// Chunks evicted so far; the first that is left holds rows from `n_evicted << chunk_shift` on.
    pub(super) n_evicted: usize,
    pub(super) n_rows: usize,
    /// Bytes of the compressed and the mapped chunks, so that they need not be summed again and again.
    pub(super) n_compressed_bytes: u64,
    pub(super) n_mapped_bytes: u64,
    /// Whether its rows are saved in a file of chunks and not with the rest of a saved state.
    pub(super) is_filed: bool,
    /// Rows of which the file has a record.
    pub(super) n_filed: usize,
    /// Whether single rows are read of it, so that a chunk must give them without the others.
    is_read_by_row: bool,
    /// How the next chunks are encoded.
    codec: Option<Codec>,
    cache: Arc<ChunkCache>,
    /// Who this stream is to the cache.
    member: u64,
    /// Room of a chunk that is not hot any more, for the next: large blocks that come and go between small ones that stay
    /// would leave a heap of holes.
    spare: Vec<u8>,
}

impl FrameStream {
    /// A stream of f32 rows, without rows yet.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self::typed(RowKind::F32, width)
    }

    /// A stream without rows yet.
    #[must_use]
    pub fn typed(kind: RowKind, width: usize) -> Self {
        Self::empty(RowShape { kind, width }, default_chunk_shift(RowShape { kind, width }))
    }

    pub(super) fn empty(shape: RowShape, chunk_shift: u32) -> Self {
        let cache = Arc::new(ChunkCache::new(OWN_CACHE_BYTES));
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

    /// A stream without rows yet, of whose rows `1 << chunk_shift` go into a chunk and single ones are read.
    pub(crate) fn by_row(kind: RowKind, width: usize, chunk_shift: u32) -> Self {
        Self { is_read_by_row: true, ..Self::empty(RowShape { kind, width }, chunk_shift) }
    }

    /// The same stream, with its decompressed chunks kept in a cache that others may share.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<ChunkCache>) -> Self {
        self.share_cache(cache);
        self
    }

    pub(crate) fn share_cache(&mut self, cache: Arc<ChunkCache>) {
        self.member = cache.join();
        self.cache = cache;
    }

    /// The stream that a file holds under the number `stream`. None where the file has no chunk of it.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses to map the file. Damage is not an error here.
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
                // An unfinished chunk with others behind it was written again later, and that record is lost.
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

    /// Numbers in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.width
    }

    /// How a number is stored.
    #[must_use]
    pub fn kind(&self) -> RowKind {
        self.shape.kind
    }

    /// Rows appended so far, evicted ones included: the position of the next.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The first row that has not been evicted.
    #[must_use]
    pub fn first_row(&self) -> usize {
        self.n_evicted << self.chunk_shift
    }

    /// Rows of a chunk.
    #[must_use]
    pub fn chunk_rows(&self) -> usize {
        1 << self.chunk_shift
    }

    /// Bytes of memory held: hot and compressed chunks. The cache counts its own ([`ChunkCache::bytes`]).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(Chunk::bytes).sum()
    }

    /// Bytes held, by tier.
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

    /// Appends a row and returns its position. Numbers are rounded to the stream's kind.
    ///
    /// # Panics
    /// Where `row` is not of the stream's width, or the stream is one of u8.
    pub fn append(&mut self, row: &[f32]) -> usize {
        assert_eq!(row.len(), self.shape.width, "a row of another width");
        let kind = self.shape.kind;
        kind.narrow(row, self.room());
        self.n_rows += 1;
        self.n_rows - 1
    }

    /// Appends a row by its bytes (little-endian) and returns its position.
    ///
    /// # Panics
    /// Where they are not a row's.
    pub fn append_bytes(&mut self, row: &[u8]) -> usize {
        assert_eq!(row.len(), self.shape.row_bytes(), "a row of another width");
        self.room().extend_from_slice(row);
        self.n_rows += 1;
        self.n_rows - 1
    }

    /// Encodes the full chunks whose rows all lie before `position`, and returns the bytes given back.
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

    /// Gives back the chunks whose rows all lie before `position`. Windows over them may not be read any more.
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

    /// The chunk that the next row goes to.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.n_rows.is_multiple_of(self.chunk_rows()) {
            self.chunks.push_back(Chunk::Hot(std::mem::take(&mut self.spare)));
        }
        let chunk_bytes = self.chunk_rows() * self.shape.row_bytes();
        match self.chunks.back_mut() {
            Some(Chunk::Hot(rows)) => {
                // A chunk that was cloned, saved or restored has room for its rows alone.
                rows.reserve_exact(chunk_bytes - rows.len());
                rows
            }
            _ => unreachable!("only full chunks are moved to other tiers"),
        }
    }

    /// How many of the chunks held are full and lie before `position`.
    fn n_full_before(&self, position: usize) -> usize {
        (position.min(self.n_rows) >> self.chunk_shift).saturating_sub(self.n_evicted)
    }

    fn first_hot(&self) -> usize {
        self.chunks.partition_point(|chunk| !matches!(chunk, Chunk::Hot(_)))
    }

    fn first_in_memory(&self) -> usize {
        self.chunks.partition_point(|chunk| !matches!(chunk, Chunk::Hot(_) | Chunk::Compressed(_)))
    }

    /// How a hot chunk is encoded: as the one before, and chosen anew now and then.
    fn codec_for(&mut self, index: usize) -> Codec {
        if let Chunk::Hot(rows) = &self.chunks[index]
            && (self.codec.is_none() || (self.n_evicted + index).is_multiple_of(CHOOSE_EVERY))
        {
            let choose = if self.is_read_by_row { codec::choose_single } else { codec::choose };
            self.codec = Some(choose(self.shape, rows));
        }
        self.codec.unwrap_or(Codec::STORED)
    }

    /// Puts a hot chunk's encoded form in its place, and keeps its room.
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
    /// A stream of its own, which may go another way: it shares the cache and none of its chunks.
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
    /// Streams of the same rows at the same positions, in whatever tiers. What cannot be read equals nothing.
    fn eq(&self, other: &Self) -> bool {
        let facts = |of: &Self| (of.shape, of.chunk_shift, of.n_evicted, of.n_rows, of.chunks.len());
        let same = |(a, b): (&Chunk, &Chunk)| matches!((a.rows(), b.rows()), (Ok(a), Ok(b)) if a == b);
        facts(self) == facts(other) && self.chunks.iter().zip(&other.chunks).all(same)
    }
}

fn default_chunk_shift(shape: RowShape) -> u32 {
    (CHUNK_BYTES / shape.row_bytes().max(1)).clamp(1, MOST_CHUNK_ROWS).ilog2()
}

mod persistent;
mod read;
mod snapshot;

#[cfg(test)]
mod tests;
