//! Codecs encode rows in fewer bytes, lossless to the bit: a predictor, a shuffle and DEFLATE; or `bit_packing`, if single
//! rows are read.
//!
//! The header of an encoded chunk says how to decode it:
//!
//! ```text
//! byte 0     1          2          3      4..8   8..12  12..
//!      kind  transform  predictor  level  width  rows   DEFLATE (or the bytes themselves at level 0)
//! ```
//!
//! Decoding trusts none of it. Numbers out of range, a length that DEFLATE cannot have made, and a stream that ends at
//! another place are errors. Decoding allocates at most the bytes of the stated rows, which are bounded.

pub(crate) mod bit_packing;
mod delta;
mod shuffle;

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::codec::bit_packing::Columns;
pub use crate::store::codec::delta::Predictor;
pub use crate::store::codec::shuffle::Transform;
use crate::store::rows::{MAX_CHUNK_BYTES, RowKind, RowShape};

/// Bytes of the header of an encoded chunk.
pub const HEADER_BYTES: usize = 12;

/// The most bytes that DEFLATE decodes from one byte.
const MAX_DEFLATE_RATIO: usize = 1032;

/// A thread keeps no larger allocation from one chunk to the next.
const MOST_KEPT_BYTES: usize = 1 << 20;

/// Levels of DEFLATE that are tried, the fastest first.
const LEVELS: [u8; 3] = [1, 2, 6];

/// Packing must save at least one byte in this many.
const LEAST_SAVED: usize = 16;

/// An encoding counts as equal to the smallest if it is larger by at most one byte in this many.
const TIE_FRACTION: usize = 8;

/// How a chunk is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "[u8; 3]", try_from = "[u8; 3]")]
pub struct Codec {
    /// The order of the bytes.
    pub transform: Transform,
    /// The prediction that rows are subtracted from.
    pub predictor: Predictor,
    /// DEFLATE's level from 1 to 9, or 0 for no compression.
    pub level: u8,
}

impl Codec {
    /// The rows unchanged.
    pub const STORED: Self = Self { transform: Transform::None, predictor: Predictor::None, level: 0 };
    /// Each column in the bits that it uses, so that any row can be read without the others. For rows of whole 32-bit
    /// words.
    pub const PACKED: Self = Self { transform: Transform::Pack, predictor: Predictor::None, level: 0 };

    /// Whether single rows can be read without the others.
    #[must_use]
    pub fn gives_single_rows(self) -> bool {
        matches!(self, Self::STORED | Self::PACKED)
    }
}

impl From<Codec> for [u8; 3] {
    fn from(codec: Codec) -> Self {
        let number = |found: Option<usize>| found.expect("all variants are listed") as u8;
        [
            number(Transform::ALL.iter().position(|one| *one == codec.transform)),
            number(Predictor::ALL.iter().position(|one| *one == codec.predictor)),
            codec.level,
        ]
    }
}

impl TryFrom<[u8; 3]> for Codec {
    type Error = Error;

    fn try_from([transform, predictor, level]: [u8; 3]) -> Result<Self> {
        let wrong = Error::Undecodable { what: "its codec is unknown" };
        match (Transform::ALL.get(transform as usize), Predictor::ALL.get(predictor as usize)) {
            (Some(transform), Some(predictor)) if level <= 9 => {
                let codec = Self { transform: *transform, predictor: *predictor, level };
                let is_known = codec.transform != Transform::Pack || codec == Self::PACKED;
                if is_known { Ok(codec) } else { Err(wrong) }
            }
            _ => Err(wrong),
        }
    }
}

/// The header of an encoded chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Kind and width of the rows.
    pub shape: RowShape,
    /// Number of rows.
    pub n_rows: usize,
    /// The codec that encoded them.
    pub codec: Codec,
}

impl Header {
    /// Bytes of the decoded rows.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        self.n_rows * self.shape.row_bytes()
    }
}

/// Reads and checks the header of an encoded chunk.
///
/// # Errors
/// [`Error::Undecodable`].
pub fn header(encoded: &[u8]) -> Result<Header> {
    let wrong = |what| Error::Undecodable { what };
    let Some((head, stream)) = encoded.split_first_chunk::<HEADER_BYTES>() else {
        return Err(wrong("it is shorter than its header"));
    };
    let [kind, transform, predictor, level, shape @ ..] = *head;
    let [w0, w1, w2, w3, r0, r1, r2, r3] = shape;
    let kind = *RowKind::ALL.get(kind as usize).ok_or(wrong("its kind of rows is unknown"))?;
    let codec = Codec::try_from([transform, predictor, level])?;
    let shape = RowShape { kind, width: u32::from_le_bytes([w0, w1, w2, w3]) as usize };
    let n_rows = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
    let raw_bytes = shape.row_bytes().checked_mul(n_rows).filter(|bytes| *bytes <= MAX_CHUNK_BYTES);
    let Some(raw_bytes) = raw_bytes.filter(|bytes| *bytes > 0) else {
        return Err(wrong("its rows are too many or none"));
    };
    let possible = match codec.level {
        0 if codec == Codec::PACKED => {
            shape.row_bytes().is_multiple_of(4)
                && Columns::read(stream, shape.row_bytes())
                    .is_some_and(|columns| columns.fits(stream, n_rows))
        }
        0 => raw_bytes == stream.len(),
        _ => raw_bytes.div_ceil(MAX_DEFLATE_RATIO) <= stream.len(),
    };
    if possible {
        Ok(Header { shape, n_rows, codec })
    } else {
        Err(wrong("its length does not fit its rows"))
    }
}

/// Encodes rows.
///
/// # Panics
/// If `rows` are empty, not whole rows, or more than [`MAX_CHUNK_BYTES`]; if rows to be packed are not whole words.
#[must_use]
pub fn encode(codec: Codec, shape: RowShape, rows: &[u8]) -> Vec<u8> {
    let whole =
        !rows.is_empty() && rows.len() <= MAX_CHUNK_BYTES && rows.len().is_multiple_of(shape.row_bytes());
    assert!(whole, "{} bytes are not the rows of a chunk", rows.len());
    let kind = RowKind::ALL.iter().position(|kind| *kind == shape.kind).expect("all kinds are listed") as u8;
    let [transform, predictor, level] = codec.into();
    let mut head = [kind, transform, predictor, level, 0, 0, 0, 0, 0, 0, 0, 0];
    head[4..8].copy_from_slice(&(shape.width as u32).to_le_bytes());
    head[8..].copy_from_slice(&((rows.len() / shape.row_bytes()) as u32).to_le_bytes());
    if codec == Codec::PACKED {
        assert!(shape.row_bytes().is_multiple_of(4), "packed rows are whole words");
        return bit_packing::pack(&head, rows, shape.row_bytes());
    }
    KEPT_TO_ENCODE.with_borrow_mut(|kept| kept.encode(&head, codec, shape, rows))
}

thread_local! {
    static KEPT_TO_ENCODE: RefCell<KeptToEncode> = RefCell::default();
}

/// What a thread keeps from one encoding to the next. Allocated for each chunk, between those that stay, it would leave
/// holes in the C library's heap that the next chunk finds too small: a hundred mebibytes of them were seen.
#[derive(Default)]
struct KeptToEncode {
    /// One for each level, as its level cannot change.
    deflates: Vec<(u8, Compress)>,
    plain: Vec<u8>,
    shuffled: Vec<u8>,
    encoded: Vec<u8>,
}

impl KeptToEncode {
    fn encode(&mut self, head: &[u8], codec: Codec, shape: RowShape, rows: &[u8]) -> Vec<u8> {
        let Self { deflates, plain, shuffled, encoded } = self;
        plain.clear();
        plain.extend_from_slice(rows);
        codec.predictor.apply(shape, plain);
        codec.transform.apply(shape, plain, shuffled);
        encoded.clear();
        encoded.extend_from_slice(head);
        if codec.level == 0 {
            encoded.extend_from_slice(plain);
        } else {
            let at = deflates.iter().position(|(level, _)| *level == codec.level).unwrap_or_else(|| {
                let deflate = Compress::new(Compression::new(u32::from(codec.level)), false);
                deflates.push((codec.level, deflate));
                deflates.len() - 1
            });
            let deflate = &mut deflates[at].1;
            deflate.reset();
            // If rows do not compress, DEFLATE stores blocks of at most 32 KB with 5 bytes more each.
            encoded.reserve(plain.len() + plain.len() / 1024 + 64);
            loop {
                let input = &plain[deflate.total_in() as usize..];
                match deflate.compress_vec(input, encoded, FlushCompress::Finish) {
                    Ok(Status::StreamEnd) => break,
                    Ok(_) => encoded.reserve(4096),
                    Err(error) => unreachable!("DEFLATE takes any bytes: {error}"),
                }
            }
        }
        let exact = encoded.clone();
        for large in [plain, shuffled, encoded] {
            if large.capacity() > MOST_KEPT_BYTES {
                *large = Vec::new();
            }
        }
        exact
    }
}

/// Decodes the result of [`encode`].
///
/// # Errors
/// [`Error::Undecodable`] for most other bytes. Some decode to rows that no one encoded; the file's checksums find those.
pub fn decode(encoded: &[u8]) -> Result<Vec<u8>> {
    thread_local! {
        static KEPT: RefCell<(Decompress, Vec<u8>)> = RefCell::new((Decompress::new(false), Vec::new()));
    }
    let Header { shape, codec, n_rows } = header(encoded)?;
    let stream = &encoded[HEADER_BYTES..];
    let n_bytes = n_rows * shape.row_bytes();
    if codec == Codec::PACKED {
        let mut rows = vec![0; n_bytes];
        let columns = Columns::read(stream, shape.row_bytes()).expect("a header that was checked");
        columns.unpack(&stream[Columns::head_bytes(shape.row_bytes())..], &mut rows);
        return Ok(rows);
    }
    KEPT.with_borrow_mut(|(inflate, scratch)| {
        // Capacity that is not set to zero first.
        let mut rows = Vec::with_capacity(n_bytes);
        if codec.level == 0 {
            rows.extend_from_slice(stream);
        } else {
            inflate.reset(false);
            let end = inflate.decompress_vec(stream, &mut rows, FlushDecompress::Finish);
            let whole = matches!(end, Ok(Status::StreamEnd))
                && inflate.total_in() == stream.len() as u64
                && rows.len() == n_bytes;
            if !whole {
                return Err(Error::Undecodable { what: "its stream is not that of its rows" });
            }
        }
        codec.transform.undo(shape, &mut rows, scratch);
        codec.predictor.undo(shape, &mut rows);
        if scratch.capacity() > MOST_KEPT_BYTES {
            *scratch = Vec::new();
        }
        Ok(rows)
    })
}

/// Whether a chunk was encoded by [`Codec::PACKED`].
pub(crate) fn is_packed(encoded: &[u8]) -> bool {
    encoded.get(1) == Some(&PACK_NUMBER)
}

/// Unpacks the rows of a packed chunk from `first` on until `out` is full.
///
/// # Panics
/// If the chunk has no such rows.
pub(crate) fn unpack(encoded: &[u8], shape: RowShape, first: usize, out: &mut [u8]) {
    let stream = &encoded[HEADER_BYTES..];
    let columns = Columns::read(stream, shape.row_bytes()).expect("a packed chunk has its columns");
    columns.unpack(&stream[Columns::head_bytes(shape.row_bytes()) + first * columns.row_bytes()..], out);
}

/// Prefetches into the processor's cache what [`unpack`] reads for `n` rows.
pub(crate) fn prefetch(encoded: &[u8], shape: RowShape, first: usize, n: usize) {
    let stream = &encoded[HEADER_BYTES..];
    let Some(columns) = Columns::read(stream, shape.row_bytes()) else { return };
    let (head, rows) = stream.split_at(Columns::head_bytes(shape.row_bytes()));
    memsys::os::prefetch(head);
    memsys::os::prefetch(&rows[first * columns.row_bytes()..][..columns.read_bytes(n)]);
}

/// The part of a chunk in a file that stays in memory, so that single rows can be read: the columns of a packed chunk.
pub(crate) fn row_head(encoded: &[u8], shape: RowShape) -> Box<[u8]> {
    let n_bytes = if is_packed(encoded) { Columns::head_bytes(shape.row_bytes()) } else { 0 };
    encoded[HEADER_BYTES..][..n_bytes].into()
}

/// Where rows lie in an encoded chunk that gives single rows.
pub(crate) struct RowAddress {
    /// Bytes from the beginning of the encoded chunk.
    pub(crate) offset: usize,
    /// Bytes to read there.
    pub(crate) n_bytes: usize,
}

/// Where the `n` rows from `first` on lie in a chunk with this [`row_head`].
pub(crate) fn row_address(head: &[u8], shape: RowShape, first: usize, n: usize) -> RowAddress {
    let row_bytes = shape.row_bytes();
    match Columns::read(head, row_bytes).filter(|_| !head.is_empty()) {
        None => RowAddress { offset: HEADER_BYTES + first * row_bytes, n_bytes: n * row_bytes },
        Some(columns) => RowAddress {
            offset: HEADER_BYTES + head.len() + first * columns.row_bytes(),
            n_bytes: columns.read_bytes(n),
        },
    }
}

/// Decodes the bytes that were read at a [`row_address`].
pub(crate) fn rows_read(head: &[u8], shape: RowShape, read: &[u8], out: &mut [u8]) {
    match Columns::read(head, shape.row_bytes()).filter(|_| !head.is_empty()) {
        None => out.copy_from_slice(read),
        Some(columns) => columns.unpack(read, out),
    }
}

/// The number of [`Transform::Pack`] in a chunk's header.
const PACK_NUMBER: u8 = 3;

/// The codec for rows like `sample` that are read one by one: packed if that saves at least 1/16 of their bytes.
///
/// # Panics
/// As [`encode`].
#[must_use]
pub fn choose_single(shape: RowShape, sample: &[u8]) -> Codec {
    let is_smaller =
        || encode(Codec::PACKED, shape, sample).len() <= sample.len() - sample.len() / LEAST_SAVED;
    if shape.row_bytes().is_multiple_of(4) && is_smaller() { Codec::PACKED } else { Codec::STORED }
}

/// The codec for rows like `sample`: one that gives single rows, unless DEFLATE's encoding is smaller by a third. In that
/// case it is the fastest of the codecs whose encodings are about the smallest. It depends on the sample alone and reads
/// no clock.
///
/// # Panics
/// As [`encode`].
#[must_use]
pub fn choose(shape: RowShape, sample: &[u8]) -> Codec {
    let bytes = |codec| (codec, encode(codec, shape, sample).len());
    let quick = bytes(choose_quick(shape, sample));
    let levels = LEVELS[1..].iter().map(|level| Codec { level: *level, ..quick.0 });
    let tried: Vec<_> = std::iter::once(quick).chain(levels.map(bytes)).collect();
    let least = tried.iter().map(|(_, bytes)| *bytes).min().expect("some level was tried");
    let (single, single_bytes) = bytes(choose_single(shape, sample));
    if least < single_bytes - single_bytes / 3 { fastest(tried) } else { single }
}

/// The best codec of DEFLATE's fastest level for rows like `sample`.
///
/// # Panics
/// As [`encode`].
#[must_use]
pub fn choose_quick(shape: RowShape, sample: &[u8]) -> Codec {
    let of = |transform| Predictor::ALL.map(|predictor| Codec { transform, predictor, level: LEVELS[0] });
    let tried = Transform::ORDERS.into_iter().flat_map(of);
    fastest(tried.map(|codec| (codec, encode(codec, shape, sample).len())).collect())
}

/// The first codec whose bytes are about the least.
fn fastest(tried: Vec<(Codec, usize)>) -> Codec {
    let least = tried.iter().map(|(_, bytes)| *bytes).min().expect("some codec was tried");
    let first = tried.into_iter().find(|(_, bytes)| *bytes <= least + least / TIE_FRACTION);
    first.expect("the least is among them").0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn codecs() -> impl Iterator<Item = Codec> {
        let of = |transform| Predictor::ALL.map(|predictor| (transform, predictor));
        let steps = Transform::ORDERS.into_iter().flat_map(of);
        steps.flat_map(|(transform, predictor)| [0, 1, 6].map(|level| Codec { transform, predictor, level }))
    }

    fn rows() -> impl Strategy<Value = (RowShape, Vec<u8>)> {
        let bytes = prop_oneof![
            proptest::collection::vec(any::<u8>(), 4000..4001),
            proptest::collection::vec(prop_oneof![Just(0u8), Just(0x7f), Just(0xff), Just(0x80)], 4000..4001),
            any::<u8>().prop_map(|step| (0..4000u32).map(|i| (i / 7 * u32::from(step)) as u8).collect()),
        ];
        (0usize..4, 1usize..20, 1usize..40, bytes).prop_map(|(kind, width, n_rows, mut bytes)| {
            let shape = RowShape { kind: RowKind::ALL[kind], width };
            bytes.truncate(n_rows * shape.row_bytes());
            (shape, bytes)
        })
    }

    proptest! {
        #[test]
        fn every_codec_gives_back_the_bits_of_any_rows((shape, rows) in rows()) {
            for codec in codecs() {
                let encoded = encode(codec, shape, &rows);
                let n_rows = rows.len() / shape.row_bytes();
                prop_assert_eq!(header(&encoded).unwrap(), Header { shape, n_rows, codec });
                prop_assert_eq!(&decode(&encoded).unwrap(), &rows, "{:?}", codec);
            }
            if shape.row_bytes().is_multiple_of(4) {
                let encoded = encode(Codec::PACKED, shape, &rows);
                prop_assert_eq!(&decode(&encoded).unwrap(), &rows);
                let (n_rows, row_bytes) = (rows.len() / shape.row_bytes(), shape.row_bytes());
                let (head, mut row) = (row_head(&encoded, shape), vec![0; row_bytes]);
                for first in 0..n_rows {
                    prop_assert!(is_packed(&encoded));
                    unpack(&encoded, shape, first, &mut row);
                    prop_assert_eq!(&row[..], &rows[first * row_bytes..][..row_bytes]);
                    let address = row_address(&head, shape, first, 1);
                    let mut read = vec![0; row_bytes];
                    rows_read(&head, shape, &encoded[address.offset..][..address.n_bytes], &mut read);
                    prop_assert_eq!(&read, &row);
                }
            }
        }

        #[test]
        fn any_bytes_are_rows_or_an_error(
            (shape, rows) in rows(), which in any::<usize>(), place in any::<usize>(), value in any::<u8>(),
            noise in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = decode(&noise);
            let packed = (which % 5 == 0 && shape.row_bytes().is_multiple_of(4)).then_some(Codec::PACKED);
            let codec = packed.unwrap_or_else(|| codecs().nth(which % codecs().count()).unwrap());
            let mut encoded = encode(codec, shape, &rows);
            let place = place % encoded.len();
            encoded[place] = value;
            if let Ok(rows) = decode(&encoded) {
                prop_assert_eq!(rows.len(), header(&encoded).unwrap().raw_bytes());
            }
            prop_assert!(decode(&encoded[..place]).is_err());
        }

        #[test]
        fn the_choice_gives_single_rows_or_is_as_small_as_any_quick_one_but_for_ties((shape, rows) in rows()) {
            let chosen = choose(shape, &rows);
            prop_assert_eq!(chosen, choose(shape, &rows));
            let quick = codecs().filter(|codec| codec.level <= 1);
            let least = quick.map(|codec| encode(codec, shape, &rows).len()).min().unwrap();
            // 9/8 for a tie among the quick codecs, 9/8 for one among the levels, 3/2 for single rows.
            let bytes = encode(chosen, shape, &rows).len();
            let (part, of) = if chosen.gives_single_rows() { (27, 16) } else { (81, 64) };
            prop_assert!(bytes * of <= least * part, "{} bytes, the least are {}", bytes, least);
        }
    }

    #[test]
    fn a_stated_size_that_deflate_cannot_have_made_is_refused_before_it_is_allocated() {
        let shape = RowShape { kind: RowKind::U8, width: 1 << 20 };
        let codec = Codec { transform: Transform::None, predictor: Predictor::None, level: 1 };
        let mut encoded = encode(codec, shape, &vec![0; 1 << 20]);
        assert_eq!(decode(&encoded).unwrap(), vec![0; 1 << 20]);
        encoded[8] = 60;
        assert!(header(&encoded).is_err());
        encoded[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(header(&encoded).is_err());
    }

    #[test]
    fn numbers_that_are_not_numbers_keep_their_payload() {
        let bits = [0x7fc0_0001u32, 0xffc1_2345, 0x7f80_0001, 0x8000_0000, 0, 1];
        let rows: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        for codec in codecs() {
            let shape = RowShape { kind: RowKind::F32, width: 2 };
            assert_eq!(decode(&encode(codec, shape, &rows)).unwrap(), rows);
        }
    }

    #[test]
    fn what_does_not_compress_is_stored() {
        let mut state = 1u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        let noise: Vec<u8> = noise.take(8192).collect();
        assert_eq!(choose(RowShape { kind: RowKind::U8, width: 64 }, &noise), Codec::STORED);
    }
}
