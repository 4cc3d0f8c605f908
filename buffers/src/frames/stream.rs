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
use std::hint::black_box;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::codec;
use crate::store::{
    Chunk, ChunkCache, ChunkReader, ChunkWriter, Codec, Durability, Identity, MappedChunk, RefusedChunk,
    RowKind, RowShape,
};

/// The most rows of a chunk: of features, decoding 256 rows costs a third of what 1,024 do and compresses as well to
/// within 4 %.
const MOST_CHUNK_ROWS: usize = 256;

/// Wide rows come fewer to a chunk, so that one is decoded in about 20 µs: 16 frames of 84 × 84.
const CHUNK_BYTES: usize = 128 << 10;

/// A codec is chosen anew after this many chunks.
const CHOOSE_EVERY: usize = 64;

/// Bytes of decompressed chunks that a stream keeps where it was given no cache to share.
const OWN_CACHE_BYTES: u64 = 1 << 20;

/// More chunks than this are not lost to damage: what lies before such a gap was evicted before it was written.
const LONGEST_GAP: usize = 1 << 20;

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

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
    /// How the next chunks are encoded.
    codec: Option<Codec>,
    cache: Arc<ChunkCache>,
    /// Who this stream is to the cache.
    member: u64,
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
            codec: None,
            cache,
            member,
        }
    }

    /// A stream without rows yet, of whose rows `1 << chunk_shift` go into a chunk.
    pub(crate) fn chunked(kind: RowKind, width: usize, chunk_shift: u32) -> Self {
        Self::empty(RowShape { kind, width }, chunk_shift)
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
            let Chunk::Hot(rows) = &self.chunks[index] else { continue };
            let codec = self.codec_for(index, rows);
            self.codec = Some(codec);
            let (shape, chunk) = (self.shape, &mut self.chunks[index]);
            let held = chunk.bytes();
            chunk.compress(shape, codec).expect("hot rows can be encoded");
            given_back += held.saturating_sub(chunk.bytes());
        }
        self.count();
        given_back
    }

    /// Moves the full chunks whose rows all lie before `position` to a file, as its stream `stream`, and returns the
    /// bytes of memory given back. The caller commits.
    ///
    /// # Errors
    /// As [`ChunkWriter::append`]: chunks moved until then stay moved, the others where they are.
    pub fn map_before(
        &mut self,
        position: usize,
        to: &mut ChunkWriter,
        stream: u32,
        stamp_millis: u64,
    ) -> Result<u64> {
        let n_full = self.n_full_before(position);
        let mut given_back = self.compress_before(position);
        for index in self.first_in_memory()..n_full {
            let identity = self.identity(index, stream, stamp_millis);
            let chunk = &mut self.chunks[index];
            let held = chunk.bytes();
            let mapped = chunk.map(self.shape, Codec::STORED, identity, to);
            given_back += held - chunk.bytes();
            if mapped.is_err() {
                self.count();
            }
            mapped?;
        }
        self.count();
        Ok(given_back)
    }

    /// Writes the rows of the unfinished last chunk to a file, where they stay hot here too: with
    /// [`FrameStream::map_before`] and a commit the file then holds the whole stream. The next write of that chunk
    /// replaces this one.
    ///
    /// # Errors
    /// As [`ChunkWriter::append`].
    pub fn write_tail(&mut self, to: &mut ChunkWriter, stream: u32, stamp_millis: u64) -> Result<()> {
        let index = self.n_full_before(usize::MAX);
        let Some(Chunk::Hot(rows)) = self.chunks.get(index) else { return Ok(()) };
        let codec = self.codec_for(index, rows);
        to.append(self.identity(index, stream, stamp_millis), &codec::encode(codec, self.shape, rows))?;
        Ok(())
    }

    /// Decodes the chunks from the one of row `position` on: they are hot again.
    ///
    /// # Errors
    /// As [`FrameStream::try_copy_window`].
    pub fn heat_from(&mut self, position: usize) -> Result<()> {
        let first = (position >> self.chunk_shift).saturating_sub(self.n_evicted);
        let heated = self.chunks.iter_mut().skip(first).rev().try_for_each(Chunk::heat);
        self.count();
        heated
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

    /// Reads a byte of each cache line of a window of neighbouring rows (`stride` 1; other windows are left
    /// alone, and so are chunks that are not hot), so that a copy of it soon after finds it in the cache.
    /// Over several windows in a row the waits for memory overlap, which they hardly do between copies.
    ///
    /// # Panics
    /// Where the window reaches over an end of the stream.
    pub fn read_ahead(&self, end: usize, length: usize, stride: usize) {
        if stride != 1 {
            return;
        }
        assert!(end < self.n_rows && end + 1 >= length, "a window over the end of its stream");
        let row_bytes = self.shape.row_bytes();
        let (mut row, after) = (end + 1 - length, end + 1);
        let mut read = 0u8;
        while row < after {
            let number = row >> self.chunk_shift;
            let inside = row - (number << self.chunk_shift);
            let n = (self.chunk_rows() - inside).min(after - row);
            let chunk = number.checked_sub(self.n_evicted).and_then(|index| self.chunks.get(index));
            if let Some(Chunk::Hot(rows)) = chunk {
                let rows = &rows[inside * row_bytes..][..n * row_bytes];
                read = rows.iter().step_by(LINE_BYTES).fold(read, |read, byte| read ^ byte);
            }
            row += n;
        }
        black_box(read);
    }

    /// Copies the window of `length` rows that ends with row `end`, `stride` rows apart, oldest first, into `out`.
    ///
    /// # Panics
    /// Where the window reaches over an end of the stream or into evicted rows, or `out` is not `length × width` long;
    /// where a chunk cannot be read ([`FrameStream::try_copy_window`] says so instead).
    pub fn copy_window(&self, end: usize, length: usize, stride: usize, out: &mut [f32]) {
        self.try_copy_window(end, length, stride, out).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Copies a window as [`FrameStream::copy_window`] does.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Truncated`], [`Error::Io`] where a mapped chunk cannot be read.
    ///
    /// # Panics
    /// Where the window reaches over an end of the stream or into evicted rows, or `out` is not `length × width` long.
    pub fn try_copy_window(&self, end: usize, length: usize, stride: usize, out: &mut [f32]) -> Result<()> {
        let RowShape { kind, width } = self.shape;
        if kind == RowKind::F32 && cfg!(target_endian = "little") {
            return self.copy_window_bytes(end, length, stride, bytemuck::cast_slice_mut(out));
        }
        assert_eq!(out.len(), length * width, "room of another size than the window");
        let number_bytes = kind.number_bytes();
        self.runs(end, length, stride, |at, rows| {
            kind.widen(rows, &mut out[at * width..][..rows.len() / number_bytes]);
        })
    }

    /// Copies a window as the bytes of its rows, little-endian: frames of u8 as they are.
    ///
    /// # Errors
    /// As [`FrameStream::try_copy_window`].
    ///
    /// # Panics
    /// As [`FrameStream::try_copy_window`], of `out` in bytes.
    pub fn copy_window_bytes(&self, end: usize, length: usize, stride: usize, out: &mut [u8]) -> Result<()> {
        let row_bytes = self.shape.row_bytes();
        assert_eq!(out.len(), length * row_bytes, "room of another size than the window");
        if stride == 1 && end < self.n_rows && length <= end + 1 {
            // Most windows: within one hot chunk.
            let start = end + 1 - length;
            let number = start >> self.chunk_shift;
            let at = (start - (number << self.chunk_shift)) * row_bytes;
            match self.chunks.get(number.wrapping_sub(self.n_evicted)) {
                Some(Chunk::Hot(rows)) => {
                    if let Some(rows) = rows.get(at..at + out.len()) {
                        out.copy_from_slice(rows);
                        return Ok(());
                    }
                }
                Some(Chunk::Mapped(mapped))
                    if mapped.is_stored() && at + out.len() <= self.chunk_rows() * row_bytes =>
                {
                    return mapped.read_stored(at, out);
                }
                _ => {}
            }
        }
        self.runs(end, length, stride, |at, rows| out[at * row_bytes..][..rows.len()].copy_from_slice(rows))
    }

    /// Gives `put` the window's rows in runs that lie side by side, each with the place of its first row in the window.
    #[inline]
    fn runs(
        &self,
        end: usize,
        length: usize,
        stride: usize,
        mut put: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        assert!(end < self.n_rows && end >= (length - 1) * stride, "a window over the end of its stream");
        let start = end - (length - 1) * stride;
        let row_bytes = self.shape.row_bytes();
        let mut done = 0;
        while done < length {
            let row = start + done * stride;
            let number = row >> self.chunk_shift;
            let inside = row - (number << self.chunk_shift);
            let left = (1 << self.chunk_shift) - inside;
            let n = if stride == 1 { left } else { left.div_ceil(stride) }.min(length - done);
            let index = number.checked_sub(self.n_evicted).expect("a window over evicted rows");
            let (decoded, mut read);
            let rows = match &self.chunks[index] {
                Chunk::Hot(rows) => &rows[inside * row_bytes..],
                Chunk::Mapped(mapped) if mapped.is_stored() => {
                    read = vec![0; ((n - 1) * stride + 1) * row_bytes];
                    mapped.read_stored(inside * row_bytes, &mut read)?;
                    &read[..]
                }
                cold => {
                    decoded = self.decoded(number, cold)?;
                    &decoded[inside * row_bytes..]
                }
            };
            if stride == 1 {
                put(done, &rows[..n * row_bytes]);
            } else {
                let apart = rows.chunks(stride * row_bytes).take(n).enumerate();
                apart.for_each(|(i, rows)| put(done + i, &rows[..row_bytes]));
            }
            done += n;
        }
        Ok(())
    }

    #[cold]
    fn decoded(&self, number: usize, chunk: &Chunk) -> Result<Arc<Vec<u8>>> {
        self.cache.rows((self.member, number as u64), || Ok(chunk.rows()?.into_owned()))
    }

    /// The chunk that the next row goes to.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.n_rows.is_multiple_of(self.chunk_rows()) {
            self.chunks.push_back(Chunk::Hot(Vec::new()));
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

    fn codec_for(&self, index: usize, rows: &[u8]) -> Codec {
        match self.codec {
            Some(codec) if !(self.n_evicted + index).is_multiple_of(CHOOSE_EVERY) => codec,
            _ => codec::choose(self.shape, rows),
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
        let Self { is_filed, n_filed, codec, .. } = *self;
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
            n_filed,
            codec,
            cache,
            member,
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

/// Moves chunks of streams down until all streams together hold at most `limit_bytes` of memory or only unfinished
/// chunks are left in it: first hot ones are compressed, then compressed ones go to the file; each time the oldest of
/// the stream that holds most. Stream `i` of them is `first_stream + i` in the file. Commits where the file has grown,
/// and returns the bytes of memory given back.
///
/// # Errors
/// As [`FrameStream::map_before`] and [`ChunkWriter::commit`].
pub fn keep_under(
    streams: &mut [FrameStream],
    limit_bytes: u64,
    to: &mut ChunkWriter,
    first_stream: u32,
    stamp_millis: u64,
) -> Result<u64> {
    let mut held: Vec<u64> = streams.iter().map(FrameStream::bytes).collect();
    let before: u64 = held.iter().sum();
    for oldest in [FrameStream::first_hot, FrameStream::first_in_memory] {
        while held.iter().sum::<u64>() > limit_bytes {
            let movable = |i: &usize| oldest(&streams[*i]) < streams[*i].n_full_before(usize::MAX);
            let Some(i) = (0..streams.len()).filter(movable).max_by_key(|i| held[*i]) else { break };
            let stream = &mut streams[i];
            let index = oldest(stream);
            let position = (stream.n_evicted + index + 1) << stream.chunk_shift;
            match stream.chunks[index] {
                Chunk::Hot(_) => stream.compress_before(position),
                _ => stream.map_before(position, to, first_stream + i as u32, stamp_millis)?,
            };
            held[i] = stream.bytes();
        }
    }
    if to.uncommitted_bytes() > 0 {
        to.commit(Durability::Process)?;
    }
    Ok(before.saturating_sub(held.iter().sum()))
}

fn default_chunk_shift(shape: RowShape) -> u32 {
    (CHUNK_BYTES / shape.row_bytes().max(1)).clamp(1, MOST_CHUNK_ROWS).ilog2()
}

mod filed;
mod pairs;

#[cfg(test)]
mod tests;
