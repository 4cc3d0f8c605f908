//! Damage in a replay file: in which part it is, and where.

use std::fmt;

/// A part of a replay file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilePart {
    /// One of the two copies of the file's header.
    FileHeader,
    /// One of the two marks that say how far the file is committed.
    CommitMark,
    /// The zeros between headers and marks.
    Padding,
    /// The header of a record. Its chunk is refused.
    RecordHeader,
    /// The encoded rows of a chunk. The chunk is refused.
    Rows,
    /// A block of the index. Without it the reader walks from record to record.
    Index,
    /// A chunk that no readable record holds.
    Missing,
}

/// A place in a file that differs from what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// The damaged part of the file.
    pub part: FilePart,
    /// The first byte that may be damaged, counted from the beginning of the file.
    pub offset: u64,
    /// Number of bytes that may be damaged, or 1 if the byte is known.
    pub n_bytes: u64,
    /// The flipped bit of the byte, if it is a single bit.
    pub bit: Option<u8>,
    /// Stream and number of the refused chunk, if one is refused and known.
    pub chunk: Option<(u32, u64)>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bit {
            _ if self.part == FilePart::Missing => write!(f, "a record is lost")?,
            Some(bit) => write!(f, "bit {bit} of byte {} is flipped", self.offset)?,
            None if self.n_bytes == 1 => write!(f, "byte {} is damaged", self.offset)?,
            None => write!(f, "damage in bytes {} to {}", self.offset, self.offset + self.n_bytes - 1)?,
        }
        let part = match self.part {
            FilePart::FileHeader => "a copy of the file's header (the other one is read)",
            FilePart::CommitMark => "a copy of the commit mark (the other one is read)",
            FilePart::Padding => "unused bytes",
            FilePart::RecordHeader => "the header of a record",
            FilePart::Rows => "the rows of a chunk",
            FilePart::Index => "the index (records are found one after another)",
            FilePart::Missing => "",
        };
        if self.part != FilePart::Missing {
            write!(f, ", in {part}")?;
        }
        match self.chunk {
            Some((stream, number)) => write!(f, ": chunk {number} of stream {stream} is refused"),
            None => Ok(()),
        }
    }
}
