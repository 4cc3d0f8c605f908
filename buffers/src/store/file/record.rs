//! Records follow the head of a file, one after another, each at a multiple of 8 bytes.
//!
//! ```text
//! header (64 bytes)                                             payload, padded with zeros to 8
//! 0  magic 4 (chunk or index)  · stream 4                       chunk: the encoded rows
//! 8  offset of the record 8                                     index: the headers of the chunks
//! 16 number of the chunk, or offset of the index before 8              since the index before
//! 24 stamp 8
//! 32 width 4 · rows 4
//! 40 rows of a full chunk 4 · payload bytes 4
//! 48 kind, transform, predictor, level · checksum of the padded payload 4
//! 56 zeros 4 · checksum of the header 4
//! ```
//!
//! A header holds its own offset, so that a copy of a header inside rows is not mistaken for a record.

use crate::store::codec::{self, Codec};
use crate::store::file::checksum::{Flip, checksum, flipped_bit};
use crate::store::file::damage::{Damage, FilePart};

use crate::store::rows::{MAX_CHUNK_BYTES, RowKind, RowShape};

/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 64;

const CHUNK_MAGIC: [u8; 4] = *b"CHNK";
const INDEX_MAGIC: [u8; 4] = *b"INDX";

/// The identity of a chunk in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The number of the stream.
    pub stream: u32,
    /// The number of the chunk in the stream. Chunk `n` begins with row `n × chunk_rows`.
    pub number: u64,
    /// Rows per full chunk of the stream.
    pub chunk_rows: u32,
    /// The time of writing by the caller's clock, in milliseconds since 1970.
    pub stamp_millis: u64,
}

/// A chunk in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Stream, number and time of the chunk.
    pub identity: Identity,
    /// Kind and width of the rows.
    pub shape: RowShape,
    /// Number of rows.
    pub n_rows: u32,
    /// The codec of the rows.
    pub codec: Codec,
    /// The offset of the record in the file.
    pub offset: u64,
    /// Bytes of the encoded rows.
    pub stored_bytes: u32,
    pub(super) payload_checksum: u32,
}

impl Entry {
    /// Position of the first row in the stream.
    #[must_use]
    pub fn first_row(&self) -> u64 {
        self.identity.number * u64::from(self.identity.chunk_rows)
    }

    /// Bytes of the decoded rows.
    #[must_use]
    pub fn raw_bytes(&self) -> u64 {
        self.shape.row_bytes() as u64 * u64::from(self.n_rows)
    }

    /// The end of the record in the file.
    #[must_use]
    pub fn end(&self) -> u64 {
        end(self.offset, self.stored_bytes)
    }

    pub(super) fn header(&self) -> [u8; HEADER_BYTES] {
        let kind =
            RowKind::ALL.iter().position(|kind| *kind == self.shape.kind).expect("all kinds are listed");
        let Identity { stream, number, chunk_rows, stamp_millis } = self.identity;
        let [transform, predictor, level] = self.codec.into();
        Fields {
            magic: CHUNK_MAGIC,
            stream,
            offset: self.offset,
            number,
            stamp: stamp_millis,
            width: self.shape.width as u32,
            n_rows: self.n_rows,
            chunk_rows,
            stored_bytes: self.stored_bytes,
            how: [kind as u8, transform, predictor, level],
            payload_checksum: self.payload_checksum,
        }
        .to_bytes()
    }

    pub(super) fn chunk(&self) -> (u32, u64) {
        (self.identity.stream, self.identity.number)
    }
}

/// A block of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexBlock {
    pub(super) offset: u64,
    /// The offset of the block before, or 0 for the first.
    pub(super) before: u64,
    pub(super) n_entries: u32,
    pub(super) payload_checksum: u32,
}

impl IndexBlock {
    pub(super) fn end(&self) -> u64 {
        end(self.offset, self.stored_bytes())
    }

    pub(super) fn stored_bytes(&self) -> u32 {
        self.n_entries * HEADER_BYTES as u32
    }

    pub(super) fn header(&self) -> [u8; HEADER_BYTES] {
        Fields {
            magic: INDEX_MAGIC,
            offset: self.offset,
            number: self.before,
            n_rows: self.n_entries,
            stored_bytes: self.stored_bytes(),
            payload_checksum: self.payload_checksum,
            ..Fields::default()
        }
        .to_bytes()
    }
}

/// A record of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    Chunk(Entry),
    Index(IndexBlock),
}

impl Record {
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Chunk(entry) => entry.end(),
            Self::Index(block) => block.end(),
        }
    }
}

/// A damaged header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    /// The damage, as exactly as it is known.
    pub(super) damage: Damage,
    /// The record before the damage, if a single flipped bit explains it. Its chunk is refused all the same.
    pub(super) was: Option<Record>,
}

/// `n_bytes` of the file from `offset` on, if `data`, which holds the file from `from` on, has them.
pub(super) fn slice(data: &[u8], from: u64, offset: u64, n_bytes: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset.checked_sub(from)?).ok()?;
    data.get(start..start.checked_add(usize::try_from(n_bytes).ok()?)?)
}

/// Whether `header` is an undamaged header at `offset`.
pub(super) fn is_whole(header: &[u8; HEADER_BYTES], offset: u64) -> bool {
    let fields = Fields::of(header);
    fields.offset == offset && fields.record(offset).is_some() && fields.to_bytes() == *header
}

/// Reads the header at `offset`.
pub(super) fn read(header: &[u8; HEADER_BYTES], offset: u64) -> Result<Record, Broken> {
    let (content, [.., a, b, c, d]) = (&header[..HEADER_BYTES - 4], *header);
    let (stored, found) = (u32::from_le_bytes([a, b, c, d]), checksum(content));
    let damage =
        |offset, n_bytes, bit| Damage { part: FilePart::RecordHeader, offset, n_bytes, bit, chunk: None };
    if stored == found {
        let whole = damage(offset, HEADER_BYTES as u64, None);
        return Fields::of(header).record(offset).ok_or(Broken { damage: whole, was: None });
    }
    let (byte, bit) = match flipped_bit(content.len(), stored, found) {
        Some(Flip::Content { byte, bit }) => (byte, bit),
        Some(Flip::Checksum { byte, bit }) => (content.len() + byte, bit),
        None => return Err(Broken { damage: damage(offset, HEADER_BYTES as u64, None), was: None }),
    };
    let mut mended = *header;
    mended[byte] ^= 1 << bit;
    let was = Fields::of(&mended).record(offset);
    let mut damage = damage(offset + byte as u64, 1, Some(bit));
    match was {
        Some(Record::Chunk(entry)) => damage.chunk = Some(entry.chunk()),
        Some(Record::Index(_)) => damage.part = FilePart::Index,
        // The damage looks like one flipped bit and is more.
        None => {
            (damage.offset, damage.n_bytes, damage.bit) = (offset, HEADER_BYTES as u64, None);
        }
    }
    Err(Broken { damage, was })
}

/// Compares the payload of a record with its checksum. `None` means that it is undamaged.
pub(super) fn check_payload(data: &[u8], from: u64, record: &Record) -> Option<Damage> {
    let (part, offset, stored, chunk) = match record {
        Record::Chunk(entry) => (FilePart::Rows, entry.offset, entry.payload_checksum, Some(entry.chunk())),
        Record::Index(block) => (FilePart::Index, block.offset, block.payload_checksum, None),
    };
    let start = offset + HEADER_BYTES as u64;
    let n_bytes = record.end() - start;
    let whole = Damage { part, offset: start, n_bytes, bit: None, chunk };
    let Some(payload) = slice(data, from, start, n_bytes) else { return Some(whole) };
    let found = checksum(payload);
    if found == stored {
        return None;
    }
    match flipped_bit(payload.len(), stored, found) {
        Some(Flip::Content { byte, bit }) => {
            Some(Damage { offset: start + byte as u64, n_bytes: 1, bit: Some(bit), ..whole })
        }
        // The header's own checksum covers the stored one and is right, so the flipped bit is not there.
        Some(Flip::Checksum { .. }) | None => Some(whole),
    }
}

fn end(offset: u64, stored_bytes: u32) -> u64 {
    offset.saturating_add(HEADER_BYTES as u64 + u64::from(stored_bytes).next_multiple_of(8))
}

#[derive(Debug, Default)]
struct Fields {
    magic: [u8; 4],
    stream: u32,
    offset: u64,
    number: u64,
    stamp: u64,
    width: u32,
    n_rows: u32,
    chunk_rows: u32,
    stored_bytes: u32,
    how: [u8; 4],
    payload_checksum: u32,
}

impl Fields {
    fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&self.magic);
        header[4..8].copy_from_slice(&self.stream.to_le_bytes());
        for (at, number) in [(8, self.offset), (16, self.number), (24, self.stamp)] {
            header[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        for (at, number) in
            [(32, self.width), (36, self.n_rows), (40, self.chunk_rows), (44, self.stored_bytes)]
        {
            header[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        header[48..52].copy_from_slice(&self.how);
        header[52..56].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let sum = checksum(&header[..HEADER_BYTES - 4]);
        header[HEADER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    fn of(header: &[u8; HEADER_BYTES]) -> Self {
        let four = |at: usize| std::array::from_fn(|i| header[at + i]);
        let word = |at: usize| u32::from_le_bytes(four(at));
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        Self {
            magic: four(0),
            stream: word(4),
            offset: long(8),
            number: long(16),
            stamp: long(24),
            width: word(32),
            n_rows: word(36),
            chunk_rows: word(40),
            stored_bytes: word(44),
            how: four(48),
            payload_checksum: word(52),
        }
    }

    /// The record that the fields describe, if they are possible at `offset`.
    fn record(&self, offset: u64) -> Option<Record> {
        if self.offset != offset {
            return None;
        }
        let payload_checksum = self.payload_checksum;
        if self.magic == INDEX_MAGIC {
            let block = IndexBlock { offset, before: self.number, n_entries: self.n_rows, payload_checksum };
            let bytes = u64::from(self.n_rows) * HEADER_BYTES as u64;
            return (bytes == u64::from(self.stored_bytes)).then_some(Record::Index(block));
        }
        let [kind, how @ ..] = self.how;
        let shape = RowShape { kind: *RowKind::ALL.get(kind as usize)?, width: self.width as usize };
        let entry = Entry {
            identity: Identity {
                stream: self.stream,
                number: self.number,
                chunk_rows: self.chunk_rows,
                stamp_millis: self.stamp,
            },
            shape,
            n_rows: self.n_rows,
            codec: Codec::try_from(how).ok()?,
            offset,
            stored_bytes: self.stored_bytes,
            payload_checksum,
        };
        let rows = u64::from(self.chunk_rows).checked_mul(shape.row_bytes() as u64)?;
        let possible = self.magic == CHUNK_MAGIC
            && (1..=self.chunk_rows).contains(&self.n_rows)
            && self.chunk_rows.is_power_of_two()
            && (1..=MAX_CHUNK_BYTES as u64).contains(&rows)
            && self.number.checked_add(1)?.checked_mul(u64::from(self.chunk_rows)).is_some()
            && (codec::HEADER_BYTES as u64..=2 * MAX_CHUNK_BYTES as u64)
                .contains(&u64::from(self.stored_bytes));
        possible.then_some(Record::Chunk(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::header::DATA_OFFSET;

    #[test]
    fn a_chunk_of_rows_that_no_memory_holds_is_no_record() {
        let fields = Fields {
            magic: CHUNK_MAGIC,
            offset: DATA_OFFSET,
            width: u32::MAX,
            n_rows: 1,
            chunk_rows: 1 << 31,
            stored_bytes: 64,
            ..Fields::default()
        };
        assert!(read(&fields.to_bytes(), DATA_OFFSET).is_err());
    }
}
