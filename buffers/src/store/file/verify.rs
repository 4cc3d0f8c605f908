//! Verifying every checksum of a file, and inspecting what it holds.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::Path;

use crate::error::{Error, Result};
use crate::store::codec;
use crate::store::file::damage::{Damage, FilePart};
use crate::store::file::header::{DATA_OFFSET, Mark};
use crate::store::file::index::{Found, Index, entries_of, walk};
use crate::store::file::record::{Record, check_payload};
use crate::store::file::{ChunkFile, ChunkReader, Handle, check, length, parse_head, read_page, undecodable};
use crate::store::rows::RowShape;

/// The result of verifying a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The file's length.
    pub file_bytes: u64,
    /// Bytes after the last commit, from an interrupted or a running write.
    pub uncommitted_bytes: u64,
    /// Number of committed bytes that the file has lost.
    pub missing_bytes: u64,
    /// Number of readable chunks, replaced ones included.
    pub n_chunks: u64,
    /// All damage, in the file's order.
    pub damages: Vec<Damage>,
}

impl Verification {
    /// Whether the file has no damage and lost no committed bytes. Damage to one copy of the head counts, although the
    /// other copy is read.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing_bytes == 0 && self.damages.is_empty()
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} chunks in {} bytes can be read", self.n_chunks, self.file_bytes)?;
        if self.uncommitted_bytes > 0 {
            write!(f, "\n{} bytes at the end were never committed", self.uncommitted_bytes)?;
        }
        if self.missing_bytes > 0 {
            write!(f, "\nthe file was cut off: {} committed bytes are missing", self.missing_bytes)?;
        }
        self.damages.iter().try_for_each(|damage| write!(f, "\n{damage}"))
    }
}

/// Compares every checksum of a file with its bytes.
///
/// # Errors
/// As [`ChunkReader::open`].
pub fn verify(path: &Path) -> Result<Verification> {
    let file = Handle::new(File::open(path).map_err(|source| Error::io(path, "open it", source))?);
    let mut page = read_page(path, &file)?;
    let mut head = parse_head(path, &page)?;
    if !head.damages.is_empty() {
        // A writer may have been writing the mark. Real damage is still there on the second read.
        page = read_page(path, &file)?;
        head = parse_head(path, &page)?;
    }
    let file_bytes = length(path, &file)?;
    let end = head.mark.map_or(file_bytes, |mark| mark.committed_bytes.min(file_bytes));
    if end == DATA_OFFSET {
        return examine(path, &page, &[], file_bytes, false);
    }
    let file = ChunkFile::new(path.to_owned(), file, end);
    file.read_mapped(end, |data| examine(path, &page, data, file_bytes, false))?
}

/// Verifies bytes as a whole file and decodes every chunk. It never panics, and allocates at most one chunk at a time and a
/// small multiple of `bytes`.
///
/// # Errors
/// As [`ChunkReader::open`].
pub fn read_bytes(bytes: &[u8]) -> Result<Verification> {
    let (page, data) = bytes.split_at(bytes.len().min(DATA_OFFSET as usize));
    examine(Path::new("(bytes)"), page, data, bytes.len() as u64, true)
}

fn examine(path: &Path, page: &[u8], data: &[u8], file_bytes: u64, decode: bool) -> Result<Verification> {
    let head = parse_head(path, page)?;
    let mark = head.mark.unwrap_or(Mark { committed_bytes: file_bytes, ..Mark::EMPTY });
    let end = mark.committed_bytes.min(file_bytes);
    let mut found = Found::default();
    walk(data, DATA_OFFSET, end, &mut found);
    let mut damages = head.damages;
    damages.append(&mut found.damages);
    let named: BTreeSet<u64> = damages.iter().map(|damage| damage.offset).collect();
    let mut listed = Vec::new();
    let mut newest_block = 0;
    let mut n_chunks = 0;
    for record in &found.records {
        let damaged = match record {
            Record::Chunk(entry) => {
                // The walk has named damaged headers already; `check` refuses their chunks too.
                match check(data, DATA_OFFSET, entry) {
                    Ok(encoded) if !decode || codec::decode(encoded).is_ok() => None,
                    Ok(_) => Some(undecodable(entry)),
                    Err(damage) => Some(damage),
                }
            }
            Record::Index(block) => {
                let before = std::mem::replace(&mut newest_block, block.offset);
                let whole = Damage {
                    part: FilePart::Index,
                    offset: block.offset,
                    n_bytes: block.end() - block.offset,
                    bit: None,
                    chunk: None,
                };
                check_payload(data, DATA_OFFSET, record).or_else(|| match entries_of(data, block) {
                    Some(entries) if block.before == before => {
                        listed.extend(entries);
                        None
                    }
                    _ => Some(whole),
                })
            }
        };
        n_chunks += u64::from(damaged.is_none() && matches!(record, Record::Chunk(_)));
        damages.extend(damaged.filter(|damage| !named.contains(&damage.offset)));
    }
    name_chunks(&mut damages, &listed);
    damages.sort_by_key(|damage| damage.offset);
    Ok(Verification {
        file_bytes,
        uncommitted_bytes: file_bytes - end,
        missing_bytes: mark.committed_bytes - end,
        n_chunks,
        damages,
    })
}

/// Names the chunks of unreadable headers, which the index lists.
fn name_chunks(damages: &mut [Damage], listed: &[crate::store::file::record::Entry]) {
    for damage in
        damages.iter_mut().filter(|damage| damage.part == FilePart::RecordHeader && damage.chunk.is_none())
    {
        let bytes = damage.offset..damage.offset + damage.n_bytes;
        damage.chunk = listed
            .iter()
            .find(|entry| bytes.contains(&entry.offset))
            .map(crate::store::file::record::Entry::chunk);
    }
}

/// What a file holds of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInspection {
    /// The number of the stream.
    pub stream: u32,
    /// Kind and width of the rows.
    pub shape: RowShape,
    /// Number of chunks.
    pub n_chunks: u64,
    /// Number of rows.
    pub n_rows: u64,
    /// Position of the first row.
    pub first_row: u64,
    /// Bytes of the decoded rows.
    pub raw_bytes: u64,
    /// Bytes of the chunks' records in the file.
    pub stored_bytes: u64,
    /// The time at which the oldest chunk was written, in milliseconds since 1970.
    pub oldest_millis: u64,
    /// The time at which the newest chunk was written, in milliseconds since 1970.
    pub newest_millis: u64,
}

/// What a file holds, stream by stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The streams in the order of their numbers.
    pub streams: Vec<StreamInspection>,
    /// The file's length.
    pub file_bytes: u64,
    /// Bytes of the file that no chunk in use takes: the head, the index, replaced chunks, and damaged or torn bytes.
    pub other_bytes: u64,
    /// The damage that was found on opening.
    pub damages: Vec<Damage>,
    /// Number of committed bytes that the file has lost.
    pub missing_bytes: u64,
}

impl Inspection {
    /// Decoded bytes per byte of the chunks in use.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let sum = |of: fn(&StreamInspection) -> u64| self.streams.iter().map(of).sum::<u64>() as f64;
        sum(|stream| stream.raw_bytes) / sum(|stream| stream.stored_bytes).max(1.0)
    }
}

/// Reads what a file holds from its headers alone.
///
/// # Errors
/// As [`ChunkReader::open`].
pub fn inspect(path: &Path) -> Result<Inspection> {
    let reader = ChunkReader::open(path)?;
    let file_bytes = length(path, &reader.file().file)?;
    let index = reader.index();
    let streams: Vec<StreamInspection> =
        index.streams().filter_map(|stream| of_stream(index, stream)).collect();
    let used: u64 = index.entries().map(|entry| entry.end() - entry.offset).sum();
    Ok(Inspection {
        streams,
        file_bytes,
        other_bytes: file_bytes.saturating_sub(used),
        damages: reader.damages().to_vec(),
        missing_bytes: reader.missing_bytes(),
    })
}

fn of_stream(index: &Index, stream: u32) -> Option<StreamInspection> {
    let first = index.chunks(stream).next()?;
    let mut inspection = StreamInspection {
        stream,
        shape: first.shape,
        n_chunks: 0,
        n_rows: 0,
        first_row: first.first_row(),
        raw_bytes: 0,
        stored_bytes: 0,
        oldest_millis: u64::MAX,
        newest_millis: 0,
    };
    for entry in index.chunks(stream) {
        inspection.n_chunks += 1;
        inspection.n_rows += u64::from(entry.n_rows);
        inspection.raw_bytes += entry.raw_bytes();
        inspection.stored_bytes += entry.end() - entry.offset;
        inspection.oldest_millis = inspection.oldest_millis.min(entry.identity.stamp_millis);
        inspection.newest_millis = inspection.newest_millis.max(entry.identity.stamp_millis);
    }
    Some(inspection)
}
