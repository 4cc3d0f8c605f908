//! A frame stream: rows of one width, appended once, read as windows.
//!
//! Rows lie in chunks of 1,024, so that appending never moves a row and the oldest rows can be given
//! back a chunk at a time. A row's position counts from the stream's beginning and never changes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Rows of a chunk.
const CHUNK_ROWS: usize = 1024;

/// Rows of `width` f32 numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameStream {
    width: usize,
    chunks: VecDeque<Vec<f32>>,
    /// Chunks evicted so far; the first that is left holds rows from `n_evicted * CHUNK_ROWS` on.
    n_evicted: usize,
    n_rows: usize,
}

impl FrameStream {
    /// A stream without rows.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, chunks: VecDeque::new(), n_evicted: 0, n_rows: 0 }
    }

    /// Numbers in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows appended so far, evicted ones included: the position of the next.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.capacity() as u64 * 4).sum()
    }

    /// Appends a row and returns its position.
    ///
    /// # Panics
    /// Where `row` is not of the stream's width.
    pub fn append(&mut self, row: &[f32]) -> usize {
        assert_eq!(row.len(), self.width, "a row of another width");
        if self.n_rows.is_multiple_of(CHUNK_ROWS) {
            self.chunks.push_back(Vec::with_capacity(CHUNK_ROWS * self.width));
        }
        self.chunks.back_mut().expect("a chunk was just pushed or is not full").extend_from_slice(row);
        self.n_rows += 1;
        self.n_rows - 1
    }

    /// Gives back the chunks whose rows all lie before `position`. Windows over them may not be read any more.
    pub fn evict_before(&mut self, position: usize) {
        while (self.n_evicted + 1) * CHUNK_ROWS <= position.min(self.n_rows) {
            self.chunks.pop_front();
            self.n_evicted += 1;
        }
    }

    /// Copies the window of `length` rows that ends with row `end`, `stride` rows apart, oldest first, into `out`.
    ///
    /// # Panics
    /// Where the window reaches over an end of the stream or into evicted rows, or `out` is not
    /// `length × width` long.
    pub fn copy_window(&self, end: usize, length: usize, stride: usize, out: &mut [f32]) {
        assert!(end < self.n_rows && end >= (length - 1) * stride, "a window over the end of its stream");
        assert_eq!(out.len(), length * self.width, "room of another size than the window");
        let start = end - (length - 1) * stride;
        if stride == 1 {
            let (mut row, mut out) = (start, out);
            while !out.is_empty() {
                let (chunk, offset) = self.locate(row);
                let n = out.len().min(chunk.len() - offset);
                let (now, rest) = out.split_at_mut(n);
                now.copy_from_slice(&chunk[offset..offset + n]);
                row += n / self.width;
                out = rest;
            }
            return;
        }
        for (i, out) in out.chunks_exact_mut(self.width).enumerate() {
            let (chunk, offset) = self.locate(start + i * stride);
            out.copy_from_slice(&chunk[offset..offset + self.width]);
        }
    }

    fn locate(&self, row: usize) -> (&[f32], usize) {
        let chunk = (row / CHUNK_ROWS).checked_sub(self.n_evicted).expect("a window over evicted rows");
        (&self.chunks[chunk], row % CHUNK_ROWS * self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(n_rows: usize, width: usize) -> (FrameStream, Vec<f32>) {
        let mut stream = FrameStream::new(width);
        let plain: Vec<f32> = (0..n_rows * width).map(|i| i as f32).collect();
        for row in plain.chunks_exact(width) {
            stream.append(row);
        }
        (stream, plain)
    }

    proptest! {
        #[test]
        fn a_window_is_what_a_plain_copy_gives(
            n_rows in 1usize..4000, width in 1usize..9, length in 1usize..70, stride in 1usize..8, end in 0usize..4000,
        ) {
            let (mut stream, plain) = stream(n_rows, width);
            prop_assume!(end < n_rows && end >= (length - 1) * stride);
            let start = end - (length - 1) * stride;
            stream.evict_before(start);
            let mut out = vec![0f32; length * width];
            stream.copy_window(end, length, stride, &mut out);
            let naive: Vec<f32> =
                (0..length).flat_map(|i| plain[(start + i * stride) * width..][..width].to_vec()).collect();
            prop_assert_eq!(out, naive);
        }
    }

    #[test]
    fn evicted_rows_give_their_bytes_back() {
        let (mut stream, _) = stream(10 * CHUNK_ROWS, 2);
        let before = stream.bytes();
        stream.evict_before(9 * CHUNK_ROWS + 5);
        assert_eq!(stream.bytes(), before / 10);
        assert_eq!(stream.n_rows(), 10 * CHUNK_ROWS);
    }
}
