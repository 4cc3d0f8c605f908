//! Packs rows to the bits that their columns use, so that any row can be read without the others.
//!
//! A row is a sequence of 32-bit words. Over the rows of a chunk most columns have a narrow range: the sign and the high
//! bits of the exponent of a float hardly change, nor do the high bits of a position. The description of a column says
//! how a word becomes a field of few bits. The fields of a row lie side by side:
//!
//! ```text
//! bytes 0..4         8 per column                              rows                              8
//! packed row bytes   bits  turned  shift  zero apart  least    [ bits of column 0, 1, … ] …      zeros
//! ```
//!
//! A word is `rotate_right(least + (field << shift), turned)`. With `turned = 1` the exponent of a float lies highest and
//! its sign lowest, so that numbers of both signs and similar size lie near each other. With `zero apart` field 0 is the
//! word 0 and all other fields are one larger; otherwise an occasional 0 in a column would widen its range.

/// Bytes of a column's description.
const COLUMN_BYTES: usize = 8;
/// Zeros after the rows, so that eight bytes can be read at each field.
const PAD_BYTES: usize = 8;

/// The description of a column: how a word becomes a field and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    bits: u32,
    turned: u32,
    shift: u32,
    zero_apart: u32,
    least: u32,
}

/// The range of some words.
#[derive(Debug, Clone, Copy)]
struct Range {
    least: u32,
    most: u32,
    first: Option<u32>,
    /// The bits in which any word differs from the first.
    differ: u32,
}

impl Range {
    const EMPTY: Self = Self { least: u32::MAX, most: 0, first: None, differ: 0 };

    fn take(&mut self, word: u32) {
        let first = *self.first.get_or_insert(word);
        self.differ |= word ^ first;
        (self.least, self.most) = (self.least.min(word), self.most.max(word));
    }
}

impl Column {
    /// The column that needs the fewest bits for `words`.
    fn of(words: impl Iterator<Item = u32>) -> Self {
        // For each rotation the range of all words, and that of all words but zeros.
        let mut ranges = [[Range::EMPTY; 2]; 2];
        for word in words {
            for (turned, [all, but_zeros]) in (0..).zip(&mut ranges) {
                let word = word.rotate_left(turned);
                all.take(word);
                if word != 0 {
                    but_zeros.take(word);
                }
            }
        }
        let ways = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let columns = ways.map(|(turned, zero_apart)| {
            let Range { least, most, first, differ } = ranges[turned as usize][zero_apart as usize];
            if first.is_none() {
                return Self { bits: 0, turned, shift: 0, zero_apart: 0, least: 0 };
            }
            // Low bits that all words have in common are those of the least word.
            let shift = if differ == 0 { 0 } else { differ.trailing_zeros() };
            let largest = u64::from((most - least) >> shift) + u64::from(zero_apart);
            Self { bits: u64::BITS - largest.leading_zeros(), turned, shift, zero_apart, least }
        });
        columns.into_iter().min_by_key(|column| column.bits).expect("there are four ways")
    }

    fn to_bytes(self) -> [u8; COLUMN_BYTES] {
        let mut bytes =
            [self.bits as u8, self.turned as u8, self.shift as u8, self.zero_apart as u8, 0, 0, 0, 0];
        bytes[4..].copy_from_slice(&self.least.to_le_bytes());
        bytes
    }

    fn of_bytes(bytes: [u8; COLUMN_BYTES]) -> Self {
        let [bits, turned, shift, zero_apart, a, b, c, d] = bytes;
        let [bits, turned, shift, zero_apart] = [bits, turned, shift, zero_apart].map(u32::from);
        Self { bits, turned, shift, zero_apart, least: u32::from_le_bytes([a, b, c, d]) }
    }

    fn is_possible(self) -> bool {
        self.bits <= 32 && self.turned <= 1 && self.shift < 32 && self.zero_apart <= 1
    }

    fn field(self, word: u32) -> u64 {
        let word = word.rotate_left(self.turned);
        if self.zero_apart == 1 && word == 0 {
            return 0;
        }
        u64::from((word - self.least) >> self.shift) + u64::from(self.zero_apart)
    }

    #[inline]
    fn word(self, field: u32) -> u32 {
        let told = self.least.wrapping_add(field.wrapping_sub(self.zero_apart) << (self.shift & 31));
        let is_zero = (field == 0) & (self.zero_apart == 1);
        (if is_zero { 0 } else { told }).rotate_right(self.turned)
    }
}

/// The columns of a packed chunk, by which its rows are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns<'a> {
    columns: &'a [[u8; COLUMN_BYTES]],
    row_bytes: usize,
}

impl<'a> Columns<'a> {
    /// Bytes of the head before the rows, for rows of `row_bytes` unpacked bytes.
    pub(super) fn head_bytes(row_bytes: usize) -> usize {
        4 + row_bytes / 4 * COLUMN_BYTES
    }

    /// The columns at the beginning of `packed`, if it is long enough.
    pub(super) fn read(packed: &'a [u8], row_bytes: usize) -> Option<Self> {
        let head = packed.get(4..Self::head_bytes(row_bytes))?;
        let packed_row_bytes = u32::from_le_bytes(*packed.first_chunk()?) as usize;
        Some(Self { columns: head.as_chunks().0, row_bytes: packed_row_bytes })
    }

    /// Whether `packed` can hold exactly `n_rows` rows of these columns.
    pub(super) fn fits(&self, packed: &[u8], n_rows: usize) -> bool {
        let columns = || self.columns.iter().map(|bytes| Column::of_bytes(*bytes));
        let bits: u64 = columns().map(|column| u64::from(column.bits)).sum();
        let rows = self.row_bytes.checked_mul(n_rows);
        let wanted =
            rows.and_then(|rows| rows.checked_add(4 + self.columns.len() * COLUMN_BYTES + PAD_BYTES));
        columns().all(Column::is_possible)
            && bits.div_ceil(8) == self.row_bytes as u64
            && wanted == Some(packed.len())
    }

    /// Bytes per packed row.
    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Bytes that unpacking `n` consecutive rows reads, from the beginning of the first on.
    pub(super) fn read_bytes(&self, n: usize) -> usize {
        n * self.row_bytes + PAD_BYTES
    }

    /// Unpacks rows until `out` is full. `packed` begins with the first row and holds [`Self::read_bytes`] of them.
    ///
    /// # Panics
    /// If `packed` is shorter.
    pub(super) fn unpack(&self, packed: &[u8], out: &mut [u8]) {
        let words = out.as_chunks_mut::<4>().0;
        let n_columns = self.columns.len();
        if n_columns == 0 {
            return;
        }
        let n_rows = words.len() / n_columns;
        let packed = &packed[..self.read_bytes(n_rows)];
        let mut at = 0;
        for (index, bytes) in self.columns.iter().enumerate() {
            let column = Column::of_bytes(*bytes);
            let words = words[index..].iter_mut().step_by(n_columns);
            let packed = &packed[at / 8..];
            // Each case has its own loop, so that nothing that is the same for all rows is tested per row.
            if column.bits == 0 {
                let word = column.word(0).to_le_bytes();
                words.for_each(|to| *to = word);
            } else if column.zero_apart == 1 {
                self.each_field(packed, at % 8, column.bits, words, |field| column.word(field));
            } else {
                let plain = Column { zero_apart: 0, ..column };
                self.each_field(packed, at % 8, column.bits, words, |field| plain.word(field));
            }
            at += column.bits as usize;
        }
    }

    /// Unpacks the words of a column whose fields begin `shift` bits after the first byte of `packed`.
    #[inline(always)]
    fn each_field<'w>(
        &self,
        packed: &[u8],
        shift: usize,
        bits: u32,
        words: impl Iterator<Item = &'w mut [u8; 4]>,
        word: impl Fn(u32) -> u32,
    ) {
        let mask = (1u64 << bits) - 1;
        let mut at = 0;
        for to in words {
            let eight = packed[at..].first_chunk().expect("a row is followed by eight bytes");
            *to = word(((u64::from_le_bytes(*eight) >> shift) & mask) as u32).to_le_bytes();
            at += self.row_bytes;
        }
    }
}

/// `head`, followed by the packed form of rows of `row_bytes` bytes, which are a multiple of four.
pub(super) fn pack(head: &[u8], rows: &[u8], row_bytes: usize) -> Vec<u8> {
    let words = rows.as_chunks::<4>().0;
    let n_columns = row_bytes / 4;
    let word = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    let of = |column| Column::of(words[column..].iter().step_by(n_columns).map(word));
    let columns: Vec<Column> = (0..n_columns).map(of).collect();
    let packed_row_bytes = columns.iter().map(|column| column.bits as usize).sum::<usize>().div_ceil(8);
    let n_bytes = Columns::head_bytes(row_bytes) + rows.len() / row_bytes * packed_row_bytes + PAD_BYTES;
    // The exact capacity, because many packed chunks are kept.
    let mut packed = Vec::with_capacity(head.len() + n_bytes);
    packed.extend_from_slice(head);
    packed.extend((packed_row_bytes as u32).to_le_bytes());
    packed.extend(columns.iter().flat_map(|column| column.to_bytes()));
    for row in words.chunks_exact(n_columns) {
        let start = packed.len();
        let (mut waiting, mut n_bits) = (0u64, 0);
        for (column, bytes) in columns.iter().zip(row) {
            waiting |= column.field(word(bytes)) << n_bits;
            n_bits += column.bits;
            while n_bits >= 8 {
                packed.push(waiting as u8);
                waiting >>= 8;
                n_bits -= 8;
            }
        }
        if n_bits > 0 {
            packed.push(waiting as u8);
        }
        assert_eq!(packed.len() - start, packed_row_bytes, "a row is as long as its columns");
    }
    packed.extend([0; PAD_BYTES]);
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words() -> impl Strategy<Value = u32> {
        prop_oneof![
            any::<u32>(),
            Just(0u32),
            (0u32..40).prop_map(|i| i << 9 | 0x4000_0000),
            (-2f32..2.0).prop_map(f32::to_bits),
            (0u32..3).prop_map(|i| [0, 0x3f80_0000, 0xbf80_0000][i as usize]),
        ]
    }

    proptest! {
        #[test]
        fn any_row_is_read_back_alone_and_with_its_neighbours(
            n_columns in 1usize..12, mut words in proptest::collection::vec(words(), 12..400), pick in any::<usize>(),
        ) {
            words.truncate(words.len() / n_columns * n_columns);
            let rows: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let (row_bytes, n_rows) = (4 * n_columns, words.len() / n_columns);
            let packed = pack(&[], &rows, row_bytes);
            prop_assert_eq!(packed.len(), packed.capacity());
            let columns = Columns::read(&packed, row_bytes).unwrap();
            prop_assert!(columns.fits(&packed, n_rows));
            prop_assert!(columns.row_bytes() == 0 || !columns.fits(&packed, n_rows + 1));
            let body = &packed[Columns::head_bytes(row_bytes)..];
            let first = pick % n_rows;
            for n in [1, n_rows - first] {
                let mut out = vec![0; n * row_bytes];
                let read = &body[first * columns.row_bytes()..][..columns.read_bytes(n)];
                columns.unpack(read, &mut out);
                prop_assert_eq!(&out[..], &rows[first * row_bytes..][..n * row_bytes]);
            }
        }

        #[test]
        fn a_column_takes_no_more_bits_than_its_range(least in any::<u32>(), bits in 0u32..20, shift in 0u32..8) {
            let range = ((1u64 << bits) - 1).min(u64::from((u32::MAX - least) >> shift)) as u32;
            let words = [0, range].map(|field| least + (field << shift));
            prop_assert!(Column::of(words.into_iter()).bits <= bits);
        }
    }

    #[test]
    fn numbers_of_both_signs_and_zeros_take_few_bits() {
        let bits = |numbers: &[f32]| Column::of(numbers.iter().map(|number| number.to_bits())).bits;
        assert_eq!(bits(&[0.0; 9]), 0);
        assert_eq!(bits(&[0.7; 9]), 0);
        assert_eq!(bits(&[-1.0, 1.0, 0.0, 1.0]), 2);
        let near: Vec<f32> =
            (0..99).map(|i| (0.5 + i as f32 / 300.0) * if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
        assert!(bits(&near) <= 25);
        assert!(bits(&[near, vec![0.0]].concat()) <= 25);
    }
}
