//! The shape of a row: how its numbers are stored, and how many there are.

use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};

/// The most bytes of the decoded rows of one chunk.
pub const MAX_CHUNK_BYTES: usize = 64 << 20;

/// How a number is stored. In memory and in files its bytes are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RowKind {
    /// Single precision, exact.
    F32,
    /// IEEE half precision, rounded to nearest. The relative error is at most 2⁻¹¹ (0.05 %) from 6.1e-5 to 65,504, and
    /// the absolute error at most 3.0e-8 below; 65,520 and more become infinite.
    F16,
    /// The upper half of an f32, rounded to nearest. The relative error is at most 2⁻⁸ (0.4 %) over the range of f32.
    Bf16,
    /// Whole numbers from 0 to 255, such as pixels.
    U8,
}

impl RowKind {
    /// All kinds. A kind's index is its number in files.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::U8];

    /// Bytes per number.
    #[must_use]
    pub fn number_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }

    /// Appends numbers to `rows`, rounded to the kind.
    ///
    /// # Panics
    /// For [`RowKind::U8`], whose rows are appended as bytes.
    pub(crate) fn narrow(self, numbers: &[f32], rows: &mut Vec<u8>) {
        match self {
            Self::F32 if cfg!(target_endian = "little") => {
                rows.extend_from_slice(bytemuck::cast_slice(numbers));
            }
            Self::F32 => rows.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
            Self::F16 => {
                rows.extend(numbers.iter().flat_map(|number| half::f16::from_f32(*number).to_le_bytes()));
            }
            Self::Bf16 => {
                rows.extend(numbers.iter().flat_map(|number| half::bf16::from_f32(*number).to_le_bytes()));
            }
            Self::U8 => panic!("rows of u8 are appended as bytes"),
        }
    }

    /// Converts the numbers of `rows` to f32 into `out`, which has the same count.
    pub(crate) fn widen(self, rows: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 if cfg!(target_endian = "little") => {
                bytemuck::cast_slice_mut::<f32, u8>(out).copy_from_slice(rows);
            }
            Self::F32 => {
                for (bytes, out) in rows.as_chunks().0.iter().zip(out) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Self::F16 => {
                let mut some = [half::f16::ZERO; 64];
                for (rows, out) in rows.as_chunks().0.chunks(some.len()).zip(out.chunks_mut(some.len())) {
                    let some = &mut some[..rows.len()];
                    some.iter_mut().zip(rows).for_each(|(to, bytes)| *to = half::f16::from_le_bytes(*bytes));
                    some.convert_to_f32_slice(out);
                }
            }
            Self::Bf16 => {
                for (bytes, out) in rows.as_chunks().0.iter().zip(out) {
                    *out = half::bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Self::U8 => out.iter_mut().zip(rows).for_each(|(out, byte)| *out = f32::from(*byte)),
        }
    }
}

/// Kind and width of the rows of a chunk or stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowShape {
    /// How a number is stored.
    pub kind: RowKind,
    /// Numbers per row.
    pub width: usize,
}

impl RowShape {
    /// Bytes per row.
    #[must_use]
    pub fn row_bytes(self) -> usize {
        self.width * self.kind.number_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn through(kind: RowKind, number: f32) -> f32 {
        let (mut rows, mut out) = (Vec::new(), [0f32]);
        kind.narrow(&[number], &mut rows);
        assert_eq!(rows.len(), kind.number_bytes());
        kind.widen(&rows, &mut out);
        out[0]
    }

    proptest! {
        #[test]
        fn halves_keep_their_stated_error(number in proptest::num::f32::NORMAL) {
            prop_assert_eq!(through(RowKind::F32, number), number);
            let error = |kind| (f64::from(through(kind, number)) - f64::from(number)).abs() / f64::from(number.abs());
            if number.abs() < 3.38e38 {
                prop_assert!(error(RowKind::Bf16) <= 2f64.powi(-8));
            }
            match number.abs() {
                size if size >= 65_520.0 => prop_assert!(through(RowKind::F16, number).is_infinite()),
                size if size >= 6.2e-5 => prop_assert!(error(RowKind::F16) <= 2f64.powi(-11)),
                size => prop_assert!((through(RowKind::F16, number) - number).abs() <= 3.0e-8, "{}", size),
            }
        }
    }

    #[test]
    fn many_halves_are_widened_as_each_alone() {
        for kind in [RowKind::F16, RowKind::Bf16] {
            let numbers: Vec<f32> = (0..300).map(|i| i as f32 * 0.37 - 50.0).collect();
            let (mut rows, mut out) = (Vec::new(), vec![0f32; 300]);
            kind.narrow(&numbers, &mut rows);
            kind.widen(&rows, &mut out);
            assert_eq!(out, numbers.iter().map(|number| through(kind, *number)).collect::<Vec<_>>());
        }
    }
}
