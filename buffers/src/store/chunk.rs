//! A chunk of rows in one of the tiers.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use memsys::os::prefetch;
use memsys::os::prefetch_value;

use crate::error::{Error, Result};
use crate::store::codec::{self, Codec};
use crate::store::file::ChunkFile;
use crate::store::file::damage::{Damage, FilePart};
use crate::store::file::record::Entry;
use crate::store::rows::RowShape;

/// Consecutive rows of a stream.
#[derive(Debug, Clone)]
pub enum Chunk {
    /// Uncompressed in memory. Rows can be appended only here.
    Hot(Vec<u8>),
    /// Encoded in memory.
    Compressed(Box<[u8]>),
    /// Encoded in a file.
    Mapped(Box<MappedChunk>),
    /// Lost, because the file that should hold it is damaged. It cannot be read.
    Refused(Box<RefusedChunk>),
}

/// A chunk in a file.
#[derive(Debug, Clone)]
pub struct MappedChunk {
    /// The file.
    pub file: Arc<ChunkFile>,
    /// Its entry in the file's index.
    pub entry: Entry,
    /// What reading single rows needs ([`codec::row_head`]). It is set after the checksum was found right, or if this
    /// process wrote the chunk.
    pub(crate) head: OnceLock<Box<[u8]>>,
}

/// A chunk that should be in a file and is not.
#[derive(Debug, Clone)]
pub struct RefusedChunk {
    /// The file.
    pub file: Arc<ChunkFile>,
    /// The number of the chunk's stream in the file.
    pub stream: u32,
    /// The chunk's number in the stream.
    pub number: u64,
}

impl Chunk {
    /// The decoded rows.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Truncated`] or [`Error::Io`] for a mapped chunk; [`Error::Undecodable`] for a
    /// compressed one that this crate did not encode.
    pub fn rows(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Hot(rows) => Ok(Cow::Borrowed(rows)),
            Self::Compressed(encoded) => codec::decode(encoded).map(Cow::Owned),
            Self::Mapped(mapped) => mapped.file.rows(&mapped.entry).map(Cow::Owned),
            Self::Refused(refused) => Err(refused.error()),
        }
    }

    /// The encoded rows. Hot rows are encoded with `codec`.
    ///
    /// # Errors
    /// As [`Chunk::rows`].
    pub fn encoded(&self, shape: RowShape, codec: Codec) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Hot(rows) => Ok(Cow::Owned(codec::encode(codec, shape, rows))),
            Self::Compressed(encoded) => Ok(Cow::Borrowed(encoded)),
            Self::Mapped(mapped) => mapped.file.encoded(&mapped.entry).map(Cow::Owned),
            Self::Refused(refused) => Err(refused.error()),
        }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Hot(rows) => rows.capacity() as u64,
            Self::Compressed(encoded) => encoded.len() as u64,
            Self::Mapped(_) | Self::Refused(_) => 0,
        }
    }

    /// Bytes of its record in a file.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        match self {
            Self::Mapped(mapped) => mapped.entry.end() - mapped.entry.offset,
            _ => 0,
        }
    }
}

impl MappedChunk {
    /// The chunk at `entry` of a file.
    #[must_use]
    pub fn new(file: Arc<ChunkFile>, entry: Entry) -> Self {
        Self { file, entry, head: OnceLock::new() }
    }

    /// The chunk at `entry`, which this process has just written there.
    pub(crate) fn written(file: Arc<ChunkFile>, entry: Entry, encoded: &[u8]) -> Self {
        Self { file, entry, head: OnceLock::from(codec::row_head(encoded, entry.shape)) }
    }

    /// Whether single rows can be read without the others.
    #[must_use]
    pub(crate) fn gives_single_rows(&self) -> bool {
        self.entry.codec.gives_single_rows()
    }

    /// Reads the rows from `first` on until `out` is full, without decoding the others. The first read compares the whole
    /// chunk with its checksum.
    ///
    /// # Errors
    /// As [`Chunk::rows`].
    pub(crate) fn read_rows(&self, first: usize, out: &mut [u8]) -> Result<()> {
        let shape = self.entry.shape;
        let head = match self.head.get() {
            Some(head) => head,
            None => {
                let encoded = self.file.encoded(&self.entry)?;
                self.head.get_or_init(|| codec::row_head(&encoded, shape))
            }
        };
        let address = codec::row_address(head, shape, first, out.len() / shape.row_bytes());
        let mut take = |read: &[u8]| codec::rows_read(head, shape, read, out);
        self.file.read_part(&self.entry, address.offset, address.n_bytes, &mut take)
    }

    /// Prefetches into the processor's cache what [`MappedChunk::prefetch`] reads.
    pub(crate) fn prefetch_head(&self) {
        prefetch_value(&self.head);
        prefetch_value(&self.entry);
    }

    /// Prefetches `n` rows into the processor's cache, if their address is known and in the file's window.
    pub(crate) fn prefetch(&self, first: usize, n: usize) {
        let Some(head) = self.head.get().filter(|_| self.gives_single_rows()) else { return };
        let address = codec::row_address(head, self.entry.shape, first, n);
        prefetch(head);
        self.file.prefetch(&self.entry, address.offset, address.n_bytes);
    }

    /// Asks the system to begin reading `n` rows from `first` on.
    pub(crate) fn will_need(&self, first: usize, n: usize) {
        match self.head.get() {
            Some(head) if self.gives_single_rows() => {
                let address = codec::row_address(head, self.entry.shape, first, n);
                self.file.will_need(&self.entry, address.offset, address.n_bytes);
            }
            _ => self.file.will_need(&self.entry, 0, self.entry.stored_bytes as usize),
        }
    }
}

impl RefusedChunk {
    pub(crate) fn error(&self) -> Error {
        let chunk = Some((self.stream, self.number));
        let damage = Damage { part: FilePart::Missing, offset: 0, n_bytes: 0, bit: None, chunk };
        Error::Damaged { path: self.file.path().to_owned(), damage }
    }
}
