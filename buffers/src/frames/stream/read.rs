//! Reading windows over chunks in any tier.

use std::cell::RefCell;
use std::sync::Arc;

use memsys::os::prefetch;

use crate::error::Result;
use crate::frames::stream::FrameStream;
use crate::store::{Chunk, ChunkFile, RowKind, codec};

/// Two windows are read as one if their ends lie no farther apart than this, or than the windows' length.
const NEAR_ROWS: usize = 8;

thread_local! {
    /// A buffer for rows, kept from window to window.
    static ROWS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `take` with a buffer of `n_bytes`. A call inside `take` gets another buffer.
fn with_room<R>(n_bytes: usize, take: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut room = ROWS.take();
    room.resize(n_bytes.max(room.len()), 0);
    let taken = take(&mut room[..n_bytes]);
    ROWS.set(room);
    taken
}

/// Whether reading a row decodes the whole chunk.
fn is_whole(chunk: &Chunk) -> bool {
    match chunk {
        Chunk::Hot(_) | Chunk::Refused(_) => false,
        Chunk::Compressed(encoded) => !codec::is_packed(encoded),
        Chunk::Mapped(mapped) => !mapped.gives_single_rows(),
    }
}

impl FrameStream {
    /// Prefetches into the processor's cache what says where a row lies in its chunk, which [`FrameStream::prefetch`]
    /// needs.
    pub(crate) fn prefetch_chunk(&self, row: usize) {
        match self.chunks.get((row >> self.chunk_shift).wrapping_sub(self.n_evicted)) {
            Some(Chunk::Mapped(mapped)) => mapped.prefetch_head(),
            Some(Chunk::Compressed(encoded)) => prefetch(&encoded[..1]),
            _ => {}
        }
    }

    /// Prefetches a window of neighbouring rows (`stride` 1) into the processor's cache. Does nothing for other strides,
    /// for chunks that are decoded as a whole, and for rows outside the file's mapped window. Prefetching several windows
    /// before copying any of them lets their memory latencies overlap.
    ///
    /// # Panics
    /// If the window reaches beyond the stream.
    pub fn prefetch(&self, end: usize, length: usize, stride: usize) {
        if stride != 1 {
            return;
        }
        let row_bytes = self.shape.row_bytes();
        self.parts(end, length, 1, |_, chunk, inside, n| {
            match chunk {
                Some(Chunk::Hot(rows)) => {
                    prefetch(&rows[inside * row_bytes..][..n * row_bytes]);
                }
                Some(Chunk::Compressed(encoded)) if codec::is_packed(encoded) => {
                    codec::prefetch(encoded, self.shape, inside, n);
                }
                Some(Chunk::Mapped(mapped)) => mapped.prefetch(inside, n),
                _ => {}
            }
            Ok(())
        })
        .unwrap_or(());
    }

    /// Asks the system to begin reading the part of the file that a window needs.
    ///
    /// # Panics
    /// If the window reaches beyond the stream.
    pub(crate) fn will_need(&self, end: usize, length: usize, stride: usize) {
        if self.n_mapped_bytes == 0 {
            return;
        }
        let need = |_, chunk: Option<&Chunk>, inside, n: usize| {
            if let Some(Chunk::Mapped(mapped)) = chunk {
                mapped.will_need(inside, (n - 1) * stride + 1);
            }
            Ok(())
        };
        self.parts(end, length, stride, need).unwrap_or(());
    }

    /// The file of the mapped chunks, if there are any.
    pub(crate) fn file(&self) -> Option<&Arc<ChunkFile>> {
        match self.chunks.front()? {
            Chunk::Mapped(mapped) => Some(&mapped.file),
            Chunk::Refused(refused) => Some(&refused.file),
            Chunk::Hot(_) | Chunk::Compressed(_) => None,
        }
    }

    /// Copies the window of `length` rows, `stride` rows apart, that ends with row `end`, oldest first, into `out`.
    ///
    /// # Panics
    /// If the window reaches beyond the stream or into evicted rows, if `out` is not `length × width` long, or if a chunk
    /// cannot be read ([`FrameStream::try_copy_window`] returns that as an error).
    pub fn copy_window(&self, end: usize, length: usize, stride: usize, out: &mut [f32]) {
        self.try_copy_window(end, length, stride, out).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Copies a window as [`FrameStream::copy_window`] does.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged), [`Error::Truncated`](crate::Error::Truncated),
    /// [`Error::Io`](crate::Error::Io) if a mapped chunk cannot be read.
    ///
    /// # Panics
    /// If the window reaches beyond the stream or into evicted rows, or `out` is not `length × width` long.
    pub fn try_copy_window(&self, end: usize, length: usize, stride: usize, out: &mut [f32]) -> Result<()> {
        let kind = self.shape.kind;
        if kind == RowKind::F32 && cfg!(target_endian = "little") {
            return self.copy_window_bytes(end, length, stride, bytemuck::cast_slice_mut(out));
        }
        assert_eq!(out.len(), length * self.shape.width, "room of another size than the window");
        with_room(length * self.shape.row_bytes(), |rows| {
            self.copy_window_bytes(end, length, stride, rows)?;
            kind.widen(rows, out);
            Ok(())
        })
    }

    /// Copies the windows that end with rows `end` and `next_end`. The two windows of a transition mostly share their
    /// rows, which this reads and decodes once.
    ///
    /// # Errors
    /// As [`FrameStream::try_copy_window`].
    ///
    /// # Panics
    /// As [`FrameStream::try_copy_window`].
    pub(crate) fn try_copy_windows(
        &self,
        [end, next_end]: [usize; 2],
        length: usize,
        stride: usize,
        [now, next]: [&mut [f32]; 2],
    ) -> Result<()> {
        let is_plain = self.shape.kind == RowKind::F32 && cfg!(target_endian = "little");
        if is_plain {
            let (now, next) = (bytemuck::cast_slice_mut(now), bytemuck::cast_slice_mut(next));
            return self.copy_windows_bytes([end, next_end], length, stride, [now, next]);
        }
        self.try_copy_window(end, length, stride, now)?;
        self.try_copy_window(next_end, length, stride, next)
    }

    /// Copies two windows as little-endian bytes. Reads and decodes rows that the windows share once.
    ///
    /// # Errors
    /// As [`FrameStream::try_copy_window`].
    ///
    /// # Panics
    /// As [`FrameStream::try_copy_window`], of `now` and `next` in bytes.
    pub fn copy_windows_bytes(
        &self,
        [end, next_end]: [usize; 2],
        length: usize,
        stride: usize,
        [now, next]: [&mut [u8]; 2],
    ) -> Result<()> {
        let (first, last) = (end.min(next_end), end.max(next_end));
        let is_near = stride == 1 && last - first <= length.max(NEAR_ROWS);
        if !is_near || self.is_hot() {
            self.copy_window_bytes(end, length, stride, now)?;
            return self.copy_window_bytes(next_end, length, stride, next);
        }
        if self.gives_whole_chunks(last) {
            return self.copy_from_whole_chunks([end, next_end], length, [now, next]);
        }
        let row_bytes = self.shape.row_bytes();
        with_room((length + last - first) * row_bytes, |rows| {
            self.copy_window_bytes(last, length + last - first, 1, rows)?;
            now.copy_from_slice(&rows[(end - first) * row_bytes..][..length * row_bytes]);
            next.copy_from_slice(&rows[(next_end - first) * row_bytes..][..length * row_bytes]);
            Ok(())
        })
    }

    /// Copies two windows of neighbouring rows and decodes each chunk once for both.
    fn copy_from_whole_chunks(
        &self,
        ends: [usize; 2],
        length: usize,
        mut outs: [&mut [u8]; 2],
    ) -> Result<()> {
        let row_bytes = self.shape.row_bytes();
        let (first, last) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        let mut row = first + 1 - length;
        self.parts(last, length + last - first, 1, |number, chunk, inside, n| {
            let chunk = chunk.expect("a window over evicted rows");
            let decoded = if is_whole(chunk) { Some(self.decoded(number, chunk)?) } else { None };
            for (end, out) in ends.iter().zip(&mut outs) {
                let start = end + 1 - length;
                let (from, to) = (row.max(start), (row + n).min(end + 1));
                if from >= to {
                    continue;
                }
                let out = &mut out[(from - start) * row_bytes..(to - start) * row_bytes];
                let inside = inside + from - row;
                match &decoded {
                    Some(rows) => out.copy_from_slice(&rows[inside * row_bytes..][..out.len()]),
                    None => self.copy_rows(number, chunk, inside, 1, out)?,
                }
            }
            row += n;
            Ok(())
        })
    }

    /// Whether reading `row` decodes its whole chunk, which the cache then holds.
    fn gives_whole_chunks(&self, row: usize) -> bool {
        let index = (row >> self.chunk_shift).wrapping_sub(self.n_evicted);
        self.chunks.get(index).is_some_and(is_whole)
    }

    /// Copies a window as little-endian bytes.
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
            // Most windows lie within one hot chunk.
            let start = end + 1 - length;
            let number = start >> self.chunk_shift;
            let at = (start - (number << self.chunk_shift)) * row_bytes;
            if let Some(Chunk::Hot(rows)) = self.chunks.get(number.wrapping_sub(self.n_evicted))
                && let Some(rows) = rows.get(at..at + out.len())
            {
                out.copy_from_slice(rows);
                return Ok(());
            }
        }
        let mut out = out;
        self.parts(end, length, stride, |number, chunk, inside, n| {
            let chunk = chunk.expect("a window over evicted rows");
            let (now, rest) = std::mem::take(&mut out).split_at_mut(n * row_bytes);
            out = rest;
            self.copy_rows(number, chunk, inside, stride, now)
        })
    }

    /// Calls `take` for the part of the window in each chunk, with the chunk's number, the chunk unless it was evicted,
    /// the first row in it, and the number of rows, `stride` apart.
    #[inline]
    fn parts(
        &self,
        end: usize,
        length: usize,
        stride: usize,
        mut take: impl FnMut(usize, Option<&Chunk>, usize, usize) -> Result<()>,
    ) -> Result<()> {
        assert!(end < self.n_rows && end >= (length - 1) * stride, "a window over the end of its stream");
        let start = end - (length - 1) * stride;
        let mut done = 0;
        while done < length {
            let row = start + done * stride;
            let number = row >> self.chunk_shift;
            let inside = row - (number << self.chunk_shift);
            let left = self.chunk_rows() - inside;
            let n = if stride == 1 { left } else { left.div_ceil(stride) }.min(length - done);
            let chunk = number.checked_sub(self.n_evicted).and_then(|index| self.chunks.get(index));
            take(number, chunk, inside, n)?;
            done += n;
        }
        Ok(())
    }

    /// Copies the rows of a chunk from `first` on, `stride` apart, until `out` is full.
    fn copy_rows(
        &self,
        number: usize,
        chunk: &Chunk,
        first: usize,
        stride: usize,
        out: &mut [u8],
    ) -> Result<()> {
        let row_bytes = self.shape.row_bytes();
        let pick = |rows: &[u8], out: &mut [u8]| {
            for (row, out) in rows.chunks(stride * row_bytes).zip(out.chunks_exact_mut(row_bytes)) {
                out.copy_from_slice(&row[..row_bytes]);
            }
        };
        match chunk {
            Chunk::Hot(rows) if stride == 1 => out.copy_from_slice(&rows[first * row_bytes..][..out.len()]),
            Chunk::Hot(rows) => pick(&rows[first * row_bytes..], out),
            Chunk::Compressed(encoded) if codec::is_packed(encoded) => {
                let one_by_one = if stride == 1 { out.len() } else { row_bytes };
                for (i, out) in out.chunks_exact_mut(one_by_one).enumerate() {
                    codec::unpack(encoded, self.shape, first + i * stride, out);
                }
            }
            Chunk::Mapped(mapped) if mapped.gives_single_rows() => {
                if stride == 1 {
                    return mapped.read_rows(first, out);
                }
                // One read call costs less than a call per row, although it also reads the rows between.
                let n_bytes = out.len() / row_bytes * stride * row_bytes - (stride - 1) * row_bytes;
                return with_room(n_bytes, |rows| {
                    mapped.read_rows(first, rows)?;
                    pick(rows, out);
                    Ok(())
                });
            }
            cold => {
                let decoded = self.decoded(number, cold)?;
                pick(&decoded[first * row_bytes..], out);
            }
        }
        Ok(())
    }

    #[cold]
    fn decoded(&self, number: usize, chunk: &Chunk) -> Result<Arc<Vec<u8>>> {
        self.cache.rows((self.member, number as u64), || Ok(chunk.rows()?.into_owned()))
    }
}
