//! A chunk of rows in one of its tiers.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use super::codec::{self, Codec};
use super::damage::{Damage, Part};
use super::file::ChunkFile;
use super::record::{Entry, Identity};
use super::rows::RowShape;
use super::writer::ChunkWriter;
use crate::error::{Error, Result};

/// Rows of a stream.
#[derive(Debug, Clone)]
pub enum Chunk {
    /// As they are; only these take further rows.
    Hot(Vec<u8>),
    /// Encoded, in memory.
    Compressed(Box<[u8]>),
    /// Encoded, in a file.
    Mapped(Box<MappedChunk>),
    /// Lost to damage of the file that should hold it: it is known to have been, and cannot be read.
    Refused(Box<RefusedChunk>),
}

/// A chunk in a file.
#[derive(Debug, Clone)]
pub struct MappedChunk {
    /// The file.
    pub file: Arc<ChunkFile>,
    /// Where in it.
    pub entry: Entry,
    /// Set once its checksum was found right, or where this process wrote it.
    pub(crate) checked: OnceLock<()>,
}

/// A chunk that should be in a file.
#[derive(Debug, Clone)]
pub struct RefusedChunk {
    /// The file.
    pub file: Arc<ChunkFile>,
    /// The chunk's stream there.
    pub stream: u32,
    /// Its number.
    pub number: u64,
}

impl Chunk {
    /// The rows.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Truncated`] or [`Error::Io`] of a mapped chunk, [`Error::Undecodable`] of a
    /// compressed one that was not encoded here.
    pub fn rows(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Hot(rows) => Ok(Cow::Borrowed(rows)),
            Self::Compressed(encoded) => codec::decode(encoded).map(Cow::Owned),
            Self::Mapped(mapped) => mapped.file.rows(&mapped.entry).map(Cow::Owned),
            Self::Refused(refused) => Err(refused.error()),
        }
    }

    /// The rows as they are kept when encoded; hot ones are encoded by `codec`.
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

    /// Makes a hot or mapped chunk a compressed one.
    ///
    /// # Errors
    /// As [`Chunk::rows`]; the chunk stays as it is.
    pub fn compress(&mut self, shape: RowShape, codec: Codec) -> Result<()> {
        if !matches!(self, Self::Compressed(_)) {
            *self = Self::Compressed(self.encoded(shape, codec)?.into());
        }
        Ok(())
    }

    /// Appends a hot or compressed chunk to a file and maps it from there.
    ///
    /// # Errors
    /// As [`ChunkWriter::append`]; the chunk stays as it is.
    pub fn map(
        &mut self,
        shape: RowShape,
        codec: Codec,
        identity: Identity,
        to: &mut ChunkWriter,
    ) -> Result<()> {
        if matches!(self, Self::Hot(_) | Self::Compressed(_)) {
            let entry = to.append(identity, &self.encoded(shape, codec)?)?;
            let mapped =
                MappedChunk { checked: OnceLock::from(()), ..MappedChunk::new(Arc::clone(to.file()), entry) };
            *self = Self::Mapped(Box::new(mapped));
        }
        Ok(())
    }

    /// Makes any chunk a hot one.
    ///
    /// # Errors
    /// As [`Chunk::rows`]; the chunk stays as it is.
    pub fn heat(&mut self) -> Result<()> {
        if !matches!(self, Self::Hot(_)) {
            *self = Self::Hot(self.rows()?.into_owned());
        }
        Ok(())
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Hot(rows) => rows.capacity() as u64,
            Self::Compressed(encoded) => encoded.len() as u64,
            Self::Mapped(_) | Self::Refused(_) => 0,
        }
    }

    /// Bytes held in a file.
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
        Self { file, entry, checked: OnceLock::new() }
    }

    /// Whether single rows can be read without the others.
    #[must_use]
    pub(crate) fn is_stored(&self) -> bool {
        self.entry.codec == Codec::STORED
    }

    /// Reads the bytes of a stored chunk's rows from `at` on; the first time the whole chunk is compared with its
    /// checksum. It is read and not mapped: pages that are touched in a mapping are resident, and single rows all over
    /// a large file touch them all.
    ///
    /// # Errors
    /// As [`Chunk::rows`].
    pub(crate) fn read_stored(&self, at: usize, out: &mut [u8]) -> Result<()> {
        if self.checked.get().is_none() {
            self.file.check(&self.entry)?;
            let _ = self.checked.set(());
        }
        self.file.read_stored(&self.entry, at, out)
    }
}

impl RefusedChunk {
    pub(crate) fn error(&self) -> Error {
        let chunk = Some((self.stream, self.number));
        let damage = Damage { part: Part::Missing, offset: 0, n_bytes: 0, bit: None, chunk };
        Error::Damaged { path: self.file.path().to_owned(), damage }
    }
}
