//! CRC-32 checksums. They find every burst of up to 32 flipped bits, and name the bit if only one is flipped.

/// The polynomial of CRC-32 (IEEE 802.3), lowest power in the highest bit.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// The search for a flipped bit stops after this many bytes.
const LONGEST_SEARCHED: usize = 16 << 20;

/// The one bit that explains a wrong checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flip {
    /// A bit of the content.
    Content { byte: usize, bit: u8 },
    /// A bit of the stored little-endian checksum.
    Checksum { byte: usize, bit: u8 },
}

/// The checksum of some bytes.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The single bit of `n_bytes` bytes, or of their stored checksum, that was flipped, if a single bit explains `found`.
///
/// CRC is linear: the checksums of two contents of equal length differ by the remainder of the contents' difference. So a
/// flipped bit `t` bits before the end leaves `x^(31 + t)`, and a flipped bit of the checksum a lower power.
pub(super) fn flipped_bit(n_bytes: usize, stored: u32, found: u32) -> Option<Flip> {
    let difference = stored ^ found;
    if difference.is_power_of_two() {
        let position = difference.trailing_zeros();
        return Some(Flip::Checksum { byte: position as usize / 8, bit: (position % 8) as u8 });
    }
    let mut remainder = 1u32;
    for after in 0..n_bytes.min(LONGEST_SEARCHED) {
        for bit in (0..8).rev() {
            remainder = (remainder >> 1) ^ if remainder & 1 == 1 { POLYNOMIAL } else { 0 };
            if remainder == difference {
                return Some(Flip::Content { byte: n_bytes - 1 - after, bit });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_flipped_bit_is_named(bytes in proptest::collection::vec(any::<u8>(), 1..300), position in any::<usize>()) {
            let stored = checksum(&bytes);
            let position = position % (bytes.len() * 8 + 32);
            let (byte, bit) = (position / 8, (position % 8) as u8);
            let found = if byte < bytes.len() {
                let mut flipped = bytes.clone();
                flipped[byte] ^= 1 << bit;
                prop_assert_eq!(
                    flipped_bit(bytes.len(), stored, checksum(&flipped)),
                    Some(Flip::Content { byte, bit })
                );
                return Ok(());
            } else {
                stored ^ 1 << (position - bytes.len() * 8)
            };
            let byte = byte - bytes.len();
            prop_assert_eq!(flipped_bit(bytes.len(), found, stored), Some(Flip::Checksum { byte, bit }));
        }
    }
}
