//! Two windows of one stream that are read together.
//!
//! The windows of a transition mostly lie in one chunk, and a read of a file or the decoding of a chunk costs more than
//! the rows: one gives both.

use std::cell::RefCell;

use super::FrameStream;
use crate::error::Result;
use crate::store::{Chunk, RowKind};

thread_local! {
    static ROWS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl FrameStream {
    /// Copies the windows that end with rows `end` and `next_end`, as [`FrameStream::try_copy_window`] does each.
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
        let before = (length - 1) * stride;
        let (first, last) = (end.min(next_end), end.max(next_end));
        let number = last >> self.chunk_shift;
        let chunk = number.checked_sub(self.n_evicted).and_then(|index| self.chunks.get(index));
        let start = number << self.chunk_shift;
        let is_near = first >= start + before && last - first <= before + self.chunk_rows() / 8;
        let is_plain = self.shape.kind == RowKind::F32 && cfg!(target_endian = "little");
        let row_bytes = self.shape.row_bytes();
        let from = first.saturating_sub(before);
        let mut copy = |rows: &[u8], from: usize| {
            for (end, out) in [(end, &mut *now), (next_end, &mut *next)] {
                let out: &mut [u8] = bytemuck::cast_slice_mut(out);
                assert_eq!(out.len(), length * row_bytes, "room of another size than the window");
                for (i, out) in out.chunks_exact_mut(row_bytes).enumerate() {
                    let at = (end - before + i * stride - from) * row_bytes;
                    out.copy_from_slice(&rows[at..at + row_bytes]);
                }
            }
        };
        match chunk {
            Some(Chunk::Mapped(mapped)) if is_near && is_plain && mapped.is_stored() => {
                ROWS.with_borrow_mut(|rows| {
                    rows.resize((last + 1 - from) * row_bytes, 0);
                    mapped.read_stored((from - start) * row_bytes, rows)?;
                    copy(rows, from);
                    Ok(())
                })
            }
            Some(cold @ Chunk::Compressed(_)) if is_near && is_plain => {
                copy(&self.decoded(number, cold)?, start);
                Ok(())
            }
            _ => {
                self.try_copy_window(end, length, stride, now)?;
                self.try_copy_window(next_end, length, stride, next)
            }
        }
    }
}
