//! The first step of a codec replaces each row by its difference from a predicted row of the chunk.

use crate::store::rows::RowShape;

/// The prediction of a row. The first row of a chunk, its keyframe, stays unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Predictor {
    /// No prediction.
    None,
    /// Exclusive or with the row before. Numbers that stay the same become zero.
    XorPrevious,
    /// Exclusive or with the chunk's first row. The background of a moving object becomes zero.
    XorKeyframe,
    /// Wrapping difference from the row before, of the bits as whole numbers. Numbers that change slowly become small.
    Delta,
}

impl Predictor {
    /// All predictors, the fastest first. A predictor's index is its number in files.
    pub const ALL: [Self; 4] = [Self::None, Self::XorPrevious, Self::XorKeyframe, Self::Delta];

    /// Replaces the rows by their differences from the predictions.
    pub(super) fn apply(self, shape: RowShape, rows: &mut [u8]) {
        let row_bytes = shape.row_bytes();
        match self {
            Self::None => {}
            Self::XorKeyframe => over_keyframe(rows, row_bytes),
            Self::XorPrevious => {
                for start in (row_bytes..rows.len()).step_by(row_bytes).rev() {
                    let (before, row) = rows[start - row_bytes..start + row_bytes].split_at_mut(row_bytes);
                    xor(row, before);
                }
            }
            Self::Delta => {
                for start in (row_bytes..rows.len()).step_by(row_bytes).rev() {
                    let (before, row) = rows[start - row_bytes..start + row_bytes].split_at_mut(row_bytes);
                    match shape.kind.number_bytes() {
                        4 => each::<4>(row, before, |a, b| (le32(a).wrapping_sub(le32(b))).to_le_bytes()),
                        2 => each::<2>(row, before, |a, b| (le16(a).wrapping_sub(le16(b))).to_le_bytes()),
                        _ => each::<1>(row, before, |a, b| [a[0].wrapping_sub(b[0])]),
                    }
                }
            }
        }
    }

    /// Reverses [`Predictor::apply`].
    pub(super) fn undo(self, shape: RowShape, rows: &mut [u8]) {
        let row_bytes = shape.row_bytes();
        match self {
            Self::None => {}
            Self::XorKeyframe => over_keyframe(rows, row_bytes),
            Self::XorPrevious => {
                for start in (row_bytes..rows.len()).step_by(row_bytes) {
                    let (before, row) = rows[start - row_bytes..start + row_bytes].split_at_mut(row_bytes);
                    xor(row, before);
                }
            }
            Self::Delta => {
                for start in (row_bytes..rows.len()).step_by(row_bytes) {
                    let (before, row) = rows[start - row_bytes..start + row_bytes].split_at_mut(row_bytes);
                    match shape.kind.number_bytes() {
                        4 => each::<4>(row, before, |a, b| (le32(a).wrapping_add(le32(b))).to_le_bytes()),
                        2 => each::<2>(row, before, |a, b| (le16(a).wrapping_add(le16(b))).to_le_bytes()),
                        _ => each::<1>(row, before, |a, b| [a[0].wrapping_add(b[0])]),
                    }
                }
            }
        }
    }
}

fn over_keyframe(rows: &mut [u8], row_bytes: usize) {
    if rows.is_empty() {
        return;
    }
    let (keyframe, rest) = rows.split_at_mut(row_bytes);
    rest.chunks_exact_mut(row_bytes).for_each(|row| xor(row, keyframe));
}

fn xor(row: &mut [u8], with: &[u8]) {
    row.iter_mut().zip(with).for_each(|(byte, with)| *byte ^= with);
}

fn each<const N: usize>(row: &mut [u8], before: &[u8], of: impl Fn([u8; N], [u8; N]) -> [u8; N]) {
    for (number, before) in row.as_chunks_mut().0.iter_mut().zip(before.as_chunks().0) {
        *number = of(*number, *before);
    }
}

fn le32(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

fn le16(bytes: [u8; 2]) -> u16 {
    u16::from_le_bytes(bytes)
}
