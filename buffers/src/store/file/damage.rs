//! What is found broken in a file, and where.

use std::fmt;

/// A part of a replay file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One of the two copies of the file's header.
    FileHeader,
    /// One of the two marks that say how far the file is committed.
    CommitMark,
    /// Bytes between those, which are zero.
    Padding,
    /// The header of a record: its chunk is refused.
    RecordHeader,
    /// The encoded rows of a chunk, which is refused.
    Rows,
    /// A block of the index, without which records are found one after another.
    Index,
    /// A chunk that no readable record holds any more.
    Missing,
}

/// Something in a file that is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// In which part.
    pub part: Part,
    /// The first byte that may be damaged, counted from the file's beginning.
    pub offset: u64,
    /// Bytes that may be damaged; 1 where the byte is known.
    pub n_bytes: u64,
    /// The flipped bit of that byte, where it is one bit.
    pub bit: Option<u8>,
    /// Stream and number of the refused chunk, where there is one and it is known.
    pub chunk: Option<(u32, u64)>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bit {
            _ if self.part == Part::Missing => write!(f, "a record is lost")?,
            Some(bit) => write!(f, "bit {bit} of byte {} is flipped", self.offset)?,
            None if self.n_bytes == 1 => write!(f, "byte {} is damaged", self.offset)?,
            None => write!(f, "damage in bytes {} to {}", self.offset, self.offset + self.n_bytes - 1)?,
        }
        let part = match self.part {
            Part::FileHeader => "a copy of the file's header (the other one is read)",
            Part::CommitMark => "a copy of the commit mark (the other one is read)",
            Part::Padding => "unused bytes",
            Part::RecordHeader => "the header of a record",
            Part::Rows => "the rows of a chunk",
            Part::Index => "the index (records are found one after another)",
            Part::Missing => "",
        };
        if self.part != Part::Missing {
            write!(f, ", in {part}")?;
        }
        match self.chunk {
            Some((stream, number)) => write!(f, ": chunk {number} of stream {stream} is refused"),
            None => Ok(()),
        }
    }
}
