//! The second step of a codec puts the same byte, or the same bit, of all numbers side by side.
//!
//! It goes column by column (a feature over its rows), so that a feature that changes slowly forms runs:
//!
//! ```text
//! rows  a0 b0 a1 b1 a2 b2   (numbers of bytes 0..4)   ──>   byte 0 of a0 a1 a2, of b0 b1 b2, byte 1 of a0 …
//! ```

use crate::store::rows::RowShape;

/// The order of a chunk's bytes before DEFLATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Row by row.
    None,
    /// The first byte of all numbers, then the second, and so on.
    ByteShuffle,
    /// The first bit of all numbers, then the second, and so on.
    BitShuffle,
    /// Row by row, each column in the bits that it uses ([`Codec::PACKED`](crate::store::Codec::PACKED)).
    Pack,
}

impl Transform {
    /// All transforms. A transform's index is its number in files.
    pub const ALL: [Self; 4] = [Self::None, Self::ByteShuffle, Self::BitShuffle, Self::Pack];
    /// The transforms before DEFLATE, the fastest first.
    pub const ORDERS: [Self; 3] = [Self::None, Self::ByteShuffle, Self::BitShuffle];

    /// Puts the bytes of `rows` in the new order. `scratch` may be reused for the next call.
    pub(super) fn apply(self, shape: RowShape, rows: &mut Vec<u8>, scratch: &mut Vec<u8>) {
        if matches!(self, Self::None | Self::Pack) || rows.is_empty() {
            return;
        }
        scratch.clear();
        scratch.resize(rows.len(), 0);
        let n_rows = rows.len() / shape.row_bytes();
        for (column_byte, plane) in planes(shape).zip(scratch.chunks_exact_mut(n_rows)) {
            let column = rows[column_byte..].iter().step_by(shape.row_bytes());
            plane.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
        }
        if self == Self::BitShuffle {
            let n_numbers = rows.len() / shape.kind.number_bytes();
            scratch
                .chunks_exact(n_numbers)
                .zip(rows.chunks_exact_mut(n_numbers))
                .for_each(|(bytes, bits)| bits_of(bytes, bits));
            return;
        }
        std::mem::swap(rows, scratch);
    }

    /// Reverses [`Transform::apply`].
    pub(super) fn undo(self, shape: RowShape, rows: &mut Vec<u8>, scratch: &mut Vec<u8>) {
        if matches!(self, Self::None | Self::Pack) || rows.is_empty() {
            return;
        }
        scratch.clear();
        scratch.resize(rows.len(), 0);
        if self == Self::BitShuffle {
            let n_numbers = rows.len() / shape.kind.number_bytes();
            rows.chunks_exact(n_numbers)
                .zip(scratch.chunks_exact_mut(n_numbers))
                .for_each(|(bits, bytes)| bytes_of(bits, bytes));
            std::mem::swap(rows, scratch);
        }
        let n_rows = rows.len() / shape.row_bytes();
        for (column_byte, plane) in planes(shape).zip(rows.chunks_exact(n_rows)) {
            let column = scratch[column_byte..].iter_mut().step_by(shape.row_bytes());
            column.zip(plane).for_each(|(to, from)| *to = *from);
        }
        std::mem::swap(rows, scratch);
    }
}

/// The offset in a row of the byte of each plane, in the planes' order.
fn planes(shape: RowShape) -> impl Iterator<Item = usize> {
    let number_bytes = shape.kind.number_bytes();
    (0..number_bytes).flat_map(move |byte| (0..shape.width).map(move |column| column * number_bytes + byte))
}

/// Gathers bit `j` of every eight bytes into a byte of the `j`-th eighth. Bytes over a multiple of eight stay unchanged.
fn bits_of(bytes: &[u8], bits: &mut [u8]) {
    let n = bytes.len() / 8;
    let (eights, rest) = bytes.as_chunks::<8>();
    for (i, eight) in eights.iter().enumerate() {
        let turned = transposed(u64::from_le_bytes(*eight)).to_le_bytes();
        for (j, byte) in turned.into_iter().enumerate() {
            bits[j * n + i] = byte;
        }
    }
    bits[8 * n..].copy_from_slice(rest);
}

fn bytes_of(bits: &[u8], bytes: &mut [u8]) {
    let n = bits.len() / 8;
    let (eights, rest) = bytes.as_chunks_mut::<8>();
    for (i, eight) in eights.iter_mut().enumerate() {
        let turned = std::array::from_fn(|j| bits[j * n + i]);
        *eight = transposed(u64::from_le_bytes(turned)).to_le_bytes();
    }
    rest.copy_from_slice(&bits[8 * n..]);
}

/// The transpose of an 8 × 8 matrix of bits (Warren, Hacker's Delight, 7-3).
fn transposed(x: u64) -> u64 {
    let swap = |x: u64, shift: u32, mask: u64| {
        let t = (x ^ (x >> shift)) & mask;
        x ^ t ^ (t << shift)
    };
    let x = swap(x, 7, 0x00AA_00AA_00AA_00AA);
    let x = swap(x, 14, 0x0000_CCCC_0000_CCCC);
    swap(x, 28, 0x0000_0000_F0F0_F0F0)
}
