//! Moving single chunks between tiers, and streams whose rows are saved in a file of chunks.
//!
//! A filed stream appends its chunks to the file, and a saved state holds its counts alone: where it begins and how many
//! rows it has. The file is committed before the state is saved, so that it may hold more rows than the state counts. The
//! stream ignores those rows and replaces them when it appends them again; a row never changes.

use std::sync::Arc;

use crate::error::Result;
use crate::frames::stream::{FrameStream, TierBytes};
use crate::store::{Chunk, ChunkWriter, MappedChunk, RefusedChunk, RowShape, codec};

impl FrameStream {
    /// Keeps the rows in a file. Call [`FrameStream::file_all`] before saving the stream and [`FrameStream::refill`] after
    /// reading it back.
    pub(crate) fn filed(mut self) -> Self {
        self.is_filed = true;
        self
    }

    /// An empty stream with rows from `first_row` to `n_rows` of another one, which `copy` writes into bytes. Rows before
    /// them in the first chunk are zeros.
    ///
    /// # Errors
    /// Those of `copy`.
    pub(crate) fn with_rows(
        mut self,
        first_row: usize,
        n_rows: usize,
        mut copy: impl FnMut(usize, &mut [u8]) -> Result<()>,
    ) -> Result<Self> {
        self.n_evicted = first_row >> self.chunk_shift;
        self.n_rows = self.n_evicted << self.chunk_shift;
        let mut row = vec![0; self.shape.row_bytes()];
        while self.n_rows < first_row {
            self.append_bytes(&row);
        }
        for position in first_row..n_rows {
            copy(position, &mut row)?;
            self.append_bytes(&row);
        }
        Ok(self)
    }

    /// Whether the rows are kept in a file.
    pub(crate) fn is_filed(&self) -> bool {
        self.is_filed
    }

    /// Whether all chunks are hot.
    pub(crate) fn is_hot(&self) -> bool {
        self.n_compressed_bytes == 0 && self.n_mapped_bytes == 0
    }

    /// Kind and width of the rows.
    pub(crate) fn shape(&self) -> RowShape {
        self.shape
    }

    /// Bytes of a full hot chunk.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        (self.chunk_rows() * self.shape.row_bytes()) as u64
    }

    /// Bytes by tier without a loop over the chunks. An unfinished chunk counts as a full one.
    pub(crate) fn quick_bytes(&self) -> TierBytes {
        TierBytes {
            hot: (self.chunks.len() - self.first_hot()) as u64 * self.chunk_bytes(),
            compressed: self.n_compressed_bytes,
            mapped: self.n_mapped_bytes,
        }
    }

    /// The numbers of the full chunks in memory.
    pub(crate) fn full_in_memory(&self) -> std::ops::Range<usize> {
        self.n_evicted + self.first_in_memory()..self.n_evicted + self.n_full_before(usize::MAX)
    }

    /// How much moving the oldest full chunk in memory to the file is worth: `age × bytes`. Age is the share of the
    /// stream that was appended after it; all chunks are sampled alike. Negative if there is no such chunk.
    pub(crate) fn oldest_worth(&self) -> f64 {
        let number = self.full_in_memory().start;
        if self.full_in_memory().is_empty() {
            return -1.0;
        }
        let age = 1.0 - (number << self.chunk_shift) as f64 / self.n_rows as f64;
        age * self.chunks[number - self.n_evicted].bytes() as f64
    }

    /// Frees the allocation that is kept for the next chunk.
    pub(crate) fn free_spare(&mut self) {
        self.spare = Vec::new();
    }

    /// Number of chunks that are in a file and not in memory.
    pub(crate) fn n_mapped(&self) -> usize {
        self.first_in_memory()
    }

    /// From now on reads the mapped chunks from the file of `from`, which holds the same rows.
    pub(crate) fn point_to(&mut self, from: &ChunkWriter, stream: u32) {
        for (number, chunk) in (self.n_evicted..).zip(&mut self.chunks) {
            let Chunk::Mapped(mapped) = chunk else { continue };
            let file = Arc::clone(from.file());
            match from.index().chunk(stream, number as u64) {
                Some(entry) => (mapped.file, mapped.entry) = (file, *entry),
                None => {
                    *chunk = Chunk::Refused(Box::new(RefusedChunk { file, stream, number: number as u64 }))
                }
            }
        }
    }

    /// Number of chunks that are not hot any more.
    pub(crate) fn n_cold(&self) -> usize {
        self.first_hot()
    }

    /// The numbers of the full hot chunks.
    pub(crate) fn full_hot(&self) -> std::ops::Range<usize> {
        self.n_evicted + self.first_hot()..self.n_evicted + self.n_full_before(usize::MAX)
    }

    /// The rows of a full hot chunk.
    pub(crate) fn hot_rows(&self, number: usize) -> Option<&[u8]> {
        match self.chunks.get(number.checked_sub(self.n_evicted)?)? {
            Chunk::Hot(rows) if self.full_hot().contains(&number) => Some(rows),
            _ => None,
        }
    }

    /// Replaces a chunk that is still hot by its encoded form, and returns the freed bytes.
    pub(crate) fn put_encoded(&mut self, number: usize, encoded: Box<[u8]>) -> u64 {
        if self.hot_rows(number).is_none() {
            return 0;
        }
        let given_back = self.chunk_bytes().saturating_sub(encoded.len() as u64);
        self.n_compressed_bytes += encoded.len() as u64;
        self.put_compressed(number - self.n_evicted, encoded);
        given_back
    }

    /// Encodes the full chunks whose rows all lie before `position`, moves them to a file as its stream `stream`, and
    /// returns the freed bytes of memory. The caller commits.
    ///
    /// # Errors
    /// As [`ChunkWriter::append`]. Chunks that were moved before the error stay moved.
    pub fn map_before(
        &mut self,
        position: usize,
        to: &mut ChunkWriter,
        stream: u32,
        stamp_millis: u64,
    ) -> Result<u64> {
        let mut given_back = 0;
        for index in self.first_in_memory()..self.n_full_before(position) {
            let number = self.n_evicted + index;
            let held = self.chunks[index].bytes();
            self.file_to(number + 1, to, stream, stamp_millis)?;
            let entry = *to.index().chunk(stream, number as u64).expect("a filed chunk is in the index");
            let file = Arc::clone(to.file());
            let mapped = match &self.chunks[index] {
                Chunk::Compressed(encoded) => MappedChunk::written(file, entry, encoded),
                _ => MappedChunk::new(file, entry),
            };
            if let Chunk::Compressed(encoded) = &self.chunks[index] {
                self.n_compressed_bytes -= encoded.len() as u64;
            }
            self.chunks[index] = Chunk::Mapped(Box::new(mapped));
            self.n_mapped_bytes += self.chunks[index].mapped_bytes();
            given_back += held;
        }
        Ok(given_back)
    }

    /// Appends to the file the chunks that it does not hold yet, the unfinished last one included. After a commit, which
    /// the caller makes, the file holds the whole stream. Writing the unfinished chunk again replaces its last record.
    ///
    /// # Errors
    /// As [`ChunkWriter::append`].
    pub fn file_all(&mut self, to: &mut ChunkWriter, stream: u32, stamp_millis: u64) -> Result<()> {
        self.file_to(self.full_hot().end, to, stream, stamp_millis)?;
        if self.n_filed < self.n_rows {
            let index = self.chunks.len() - 1;
            self.append_to(index, to, stream, stamp_millis)?;
            self.n_filed = self.n_rows;
        }
        Ok(())
    }

    /// Takes the rows of a stream that was read back from the file, as many as it had when it was saved.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) if the file lacks one of the rows.
    pub(crate) fn refill(&mut self, from: &ChunkWriter, stream: u32) -> Result<()> {
        self.chunks.clear();
        let (first, n_full) = (self.n_evicted, self.n_rows >> self.chunk_shift);
        let n_left = self.n_rows - (n_full << self.chunk_shift);
        for number in first..n_full + usize::from(n_left > 0) {
            let n_wanted = if number < n_full { self.chunk_rows() } else { n_left };
            let fits = |n_rows: u32| n_rows as usize >= n_wanted;
            let entry = from.index().chunk(stream, number as u64).filter(|entry| {
                let chunk_rows = entry.identity.chunk_rows as usize;
                (entry.shape, chunk_rows) == (self.shape, self.chunk_rows()) && fits(entry.n_rows)
            });
            let file = Arc::clone(from.file());
            let Some(entry) = entry else {
                return Err(RefusedChunk { file, stream, number: number as u64 }.error());
            };
            let chunk = Chunk::Mapped(Box::new(MappedChunk::new(file, *entry)));
            self.chunks.push_back(if number < n_full {
                chunk
            } else {
                let mut rows = chunk.rows()?.into_owned();
                rows.truncate(n_left * self.shape.row_bytes());
                Chunk::Hot(rows)
            });
        }
        self.n_filed = self.n_rows;
        self.count();
        Ok(())
    }

    /// Recomputes the sums that [`FrameStream::quick_bytes`] reads.
    pub(in crate::frames) fn count(&mut self) {
        let bytes = self.tier_bytes();
        (self.n_compressed_bytes, self.n_mapped_bytes) = (bytes.compressed, bytes.mapped);
    }

    /// Appends the full chunks before chunk `number` that the file does not hold in full yet.
    fn file_to(&mut self, number: usize, to: &mut ChunkWriter, stream: u32, stamp_millis: u64) -> Result<()> {
        let first = (self.n_filed >> self.chunk_shift).max(self.n_evicted);
        for number in first..number {
            self.append_to(number - self.n_evicted, to, stream, stamp_millis)?;
            self.n_filed = (number + 1) << self.chunk_shift;
        }
        Ok(())
    }

    /// Appends a chunk to the file unless a file holds it already. A full hot chunk becomes a compressed one.
    fn append_to(
        &mut self,
        index: usize,
        to: &mut ChunkWriter,
        stream: u32,
        stamp_millis: u64,
    ) -> Result<()> {
        let identity = self.identity(index, stream, stamp_millis);
        let codec = self.codec_for(index);
        match &self.chunks[index] {
            Chunk::Hot(rows) => {
                let encoded = codec::encode(codec, self.shape, rows);
                to.append(identity, &encoded)?;
                if rows.len() as u64 == self.chunk_bytes() {
                    self.n_compressed_bytes += encoded.len() as u64;
                    self.put_compressed(index, encoded.into());
                }
            }
            Chunk::Compressed(encoded) => {
                to.append(identity, encoded)?;
            }
            Chunk::Mapped(_) | Chunk::Refused(_) => {}
        }
        Ok(())
    }
}
