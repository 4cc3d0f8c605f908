//! The index of the chunks that a file holds.
//!
//! Blocks of the index lie between the records. Each lists the headers of chunks and has the offset of the block before;
//! the commit mark has the offset of the newest. The reader finds later chunks by walking from record to record. If a
//! block is damaged, it finds all chunks that way.

use std::collections::BTreeMap;

use crate::store::file::damage::{Damage, FilePart};
use crate::store::file::header::{DATA_OFFSET, Mark};
use crate::store::file::record;
use crate::store::file::record::{Entry, HEADER_BYTES, IndexBlock, Record, check_payload, slice};

/// The chunks of a file by stream and number.
#[derive(Debug, Clone, Default)]
pub struct Index {
    streams: BTreeMap<u32, BTreeMap<u64, Entry>>,
}

impl Index {
    /// The numbers of the streams that have chunks.
    pub fn streams(&self) -> impl Iterator<Item = u32> {
        self.streams.keys().copied()
    }

    /// A stream's chunks in order.
    pub fn chunks(&self, stream: u32) -> impl DoubleEndedIterator<Item = &Entry> {
        self.streams.get(&stream).into_iter().flat_map(BTreeMap::values)
    }

    /// The chunk with a number in a stream.
    #[must_use]
    pub fn chunk(&self, stream: u32, number: u64) -> Option<&Entry> {
        self.streams.get(&stream)?.get(&number)
    }

    /// All chunks, stream by stream.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.streams.values().flat_map(BTreeMap::values)
    }

    /// Removes a stream's chunks before `number` from the index. They stay in the file.
    pub(super) fn forget_before(&mut self, stream: u32, number: u64) {
        if let Some(chunks) = self.streams.get_mut(&stream) {
            while chunks.first_key_value().is_some_and(|(first, _)| *first < number) {
                chunks.pop_first();
            }
        }
    }

    /// Adds a chunk that was appended after all others. It replaces the stream's chunk of the same number and all later
    /// ones. If its rows have another shape, it also replaces all earlier ones.
    pub(super) fn insert(&mut self, entry: Entry) {
        let chunks = self.streams.entry(entry.identity.stream).or_default();
        drop(chunks.split_off(&entry.identity.number));
        let same =
            |of: &Entry| (of.shape, of.identity.chunk_rows) == (entry.shape, entry.identity.chunk_rows);
        if chunks.values().next_back().is_some_and(|last| !same(last)) {
            chunks.clear();
        }
        chunks.insert(entry.identity.number, entry);
    }
}

/// The records and the damage that a walk over a file finds, in the file's order.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    pub(super) damages: Vec<Damage>,
}

/// Finds the chunks in the first `to` bytes of a file, in the order in which they were appended. `data` holds the file
/// from [`DATA_OFFSET`] on.
pub(super) fn load(data: &[u8], mark: Mark, to: u64) -> Found {
    let (mut found, from) = match by_blocks(data, mark.index_offset, to) {
        Ok(walked) => walked,
        Err(damage) => (Found { records: Vec::new(), damages: damage.into_iter().collect() }, DATA_OFFSET),
    };
    walk(data, from, to, &mut found);
    found
}

/// Reads the blocks of the index, newest first. Returns the chunks that they list and the end of the newest block.
fn by_blocks(data: &[u8], newest: u64, to: u64) -> Result<(Found, u64), Option<Damage>> {
    let (mut at, mut bound, mut end) = (newest, to, DATA_OFFSET);
    let mut blocks = Vec::new();
    while at != 0 {
        let header = slice(data, DATA_OFFSET, at, HEADER_BYTES as u64).and_then(<[u8]>::first_chunk);
        let whole = Damage {
            part: FilePart::Index,
            offset: at,
            n_bytes: HEADER_BYTES as u64,
            bit: None,
            chunk: None,
        };
        let block = match record::read(header.ok_or(None)?, at) {
            Ok(Record::Index(block)) if block.end() <= bound => block,
            Ok(_) => return Err(Some(whole)),
            // The walk over the records finds and names the damage.
            Err(_) => return Err(None),
        };
        if block.before >= at || check_payload(data, DATA_OFFSET, &Record::Index(block)).is_some() {
            return Err(None);
        }
        blocks.push(entries_of(data, &block).ok_or(Some(whole))?);
        end = end.max(block.end());
        (bound, at) = (at, block.before);
    }
    let records = blocks.into_iter().rev().flatten().map(Record::Chunk).collect();
    Ok((Found { records, damages: Vec::new() }, end))
}

/// The chunks that a block of the index lists, or `None` if one of them is impossible.
pub(super) fn entries_of(data: &[u8], block: &IndexBlock) -> Option<Vec<Entry>> {
    let payload =
        slice(data, DATA_OFFSET, block.offset + HEADER_BYTES as u64, u64::from(block.stored_bytes()))?;
    let (headers, _) = payload.as_chunks::<HEADER_BYTES>();
    let entry = |header: &[u8; HEADER_BYTES]| {
        let offset = u64::from_le_bytes(std::array::from_fn(|i| header[8 + i]));
        match record::read(header, offset) {
            Ok(Record::Chunk(entry)) if entry.end() <= block.offset && offset >= DATA_OFFSET => Some(entry),
            _ => None,
        }
    };
    headers.iter().map(entry).collect()
}

/// Walks from record to record. After a damaged header it continues with the next whole one.
pub(super) fn walk(data: &[u8], from: u64, to: u64, found: &mut Found) {
    let header_at = |at: u64| slice(data, DATA_OFFSET, at, HEADER_BYTES as u64).and_then(<[u8]>::first_chunk);
    let mut at = from;
    while at < to {
        let rest =
            Damage { part: FilePart::RecordHeader, offset: at, n_bytes: to - at, bit: None, chunk: None };
        let Some(header) = header_at(at) else {
            found.damages.push(rest);
            return;
        };
        let read = record::read(header, at);
        match read {
            Ok(record) | Err(record::Broken { was: Some(record), .. }) if record.end() <= to => {
                found.damages.extend(read.err().map(|broken| broken.damage));
                found.records.push(record);
                at = record.end();
            }
            Ok(Record::Chunk(entry)) => {
                found.damages.push(Damage { part: FilePart::Rows, chunk: Some(entry.chunk()), ..rest });
                return;
            }
            Ok(Record::Index(_)) => {
                found.damages.push(Damage { part: FilePart::Index, ..rest });
                return;
            }
            Err(broken) => {
                let whole =
                    |next: &u64| header_at(*next).is_some_and(|header| record::is_whole(header, *next));
                let next = (at + 8..to).step_by(8).find(whole).unwrap_or(to);
                let known = broken.damage.bit.is_some();
                let damage = Damage { offset: at, n_bytes: next - at, ..broken.damage };
                found.damages.push(if known { broken.damage } else { damage });
                at = next;
            }
        }
    }
}
