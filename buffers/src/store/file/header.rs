//! The head of a file, its first 4,096 bytes: two copies of the header, and two of the commit mark.
//!
//! ```text
//! 0      header    magic 8 · endianness 4 · version 4 · data offset 8 · zeros · checksum 4      (64 bytes)
//! 512    header    the same
//! 1024   mark      magic 4 · zeros 4 · sequence 8 · committed bytes 8 · newest index 8
//!                  · file 8 · commit 8 · saved commit 8 · zeros · checksum 4
//! 2048   mark      the same, written second
//! ```
//!
//! The first 64 bytes have the same layout in all versions, so that another version can be distinguished from damage.

use crate::store::file::checksum::{Flip, checksum, flipped_bit};
use crate::store::file::damage::{Damage, FilePart};

/// Where records begin.
pub(crate) const DATA_OFFSET: u64 = 4096;
/// The version of the format.
pub(super) const VERSION: u32 = 2;

/// It contains a byte that is not text and both kinds of line end, so that a program that converts text breaks it visibly.
const MAGIC: [u8; 8] = *b"\x89PLM\r\n\x1a\n";
const MARK_MAGIC: [u8; 4] = *b"MARK";
const ENDIANNESS: u32 = 0x0102_0304;
const BLOCK: usize = 64;
const HEADERS: [usize; 2] = [0, 512];
const MARKS: [usize; 2] = [1024, 2048];

/// How far a file is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Number of commits so far.
    pub(super) sequence: u64,
    /// The file's length at the commit.
    pub(super) committed_bytes: u64,
    /// The offset of the newest block of the index, or 0 if there is none.
    pub(super) index_offset: u64,
    /// The file's random identity. A file that is written anew keeps it.
    pub(super) file: u64,
    /// The random name of this commit; 0 before the first.
    pub(super) commit: u64,
    /// The name of the commit that the last state was saved with when this one was made; 0 if there was none.
    pub(super) saved_commit: u64,
}

impl Mark {
    /// The mark of a file without records and without an identity.
    pub(super) const EMPTY: Self = Self {
        sequence: 0,
        committed_bytes: DATA_OFFSET,
        index_offset: 0,
        file: 0,
        commit: 0,
        saved_commit: 0,
    };

    pub(super) fn to_bytes(self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(&MARK_MAGIC);
        block[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        block[16..24].copy_from_slice(&self.committed_bytes.to_le_bytes());
        block[24..32].copy_from_slice(&self.index_offset.to_le_bytes());
        block[32..40].copy_from_slice(&self.file.to_le_bytes());
        block[40..48].copy_from_slice(&self.commit.to_le_bytes());
        block[48..56].copy_from_slice(&self.saved_commit.to_le_bytes());
        sealed(block)
    }

    fn of(block: &[u8; BLOCK]) -> Option<Self> {
        let [sequence, committed_bytes, index_offset, file, commit, saved_commit] =
            [8, 16, 24, 32, 40, 48].map(|at| u64::from_le_bytes(std::array::from_fn(|i| block[at + i])));
        let possible = block[..4] == MARK_MAGIC
            && committed_bytes >= DATA_OFFSET
            && committed_bytes.is_multiple_of(8)
            && (index_offset == 0 || (DATA_OFFSET..committed_bytes).contains(&index_offset));
        possible.then_some(Self { sequence, committed_bytes, index_offset, file, commit, saved_commit })
    }
}

/// The offsets of the two marks, in the order in which they are written.
pub(super) fn mark_offsets() -> [u64; 2] {
    MARKS.map(|at| at as u64)
}

/// The bytes of a head with two copies of `mark`.
pub(super) fn page(mark: Mark) -> Vec<u8> {
    let mut page = vec![0; DATA_OFFSET as usize];
    let mut header = [0; BLOCK];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&ENDIANNESS.to_le_bytes());
    header[12..16].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&DATA_OFFSET.to_le_bytes());
    for (at, block) in
        HEADERS.map(|at| (at, sealed(header))).into_iter().chain(MARKS.map(|at| (at, mark.to_bytes())))
    {
        page[at..at + BLOCK].copy_from_slice(&block);
    }
    page
}

/// A readable head.
#[derive(Debug)]
pub(super) struct Head {
    /// The newest mark, or `None` if both are damaged.
    pub(super) mark: Option<Mark>,
    /// Whether the two marks differ, because the last commit was interrupted or one is damaged.
    pub(super) marks_differ: bool,
    /// The damage in the head.
    pub(super) damages: Vec<Damage>,
}

/// Why a head cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The file does not begin as a replay file.
    NotAReplayFile,
    /// The file begins as a replay file and ends within the head.
    Short,
    /// The numbers are big-endian.
    WrongEndianness,
    /// The file has this other version.
    WrongVersion(u32),
    /// Both headers are damaged.
    Damaged(Damage),
}

/// Reads a head.
pub(super) fn read(page: &[u8]) -> Result<Head, Unreadable> {
    let begins = page.len().min(MAGIC.len());
    if page.len() < DATA_OFFSET as usize {
        return Err(if page[..begins] == MAGIC[..begins] {
            Unreadable::Short
        } else {
            Unreadable::NotAReplayFile
        });
    }
    let mut damages = Vec::new();
    let headers = HEADERS.map(|at| block(page, at));
    for (at, header) in HEADERS.iter().zip(headers) {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let known = header[..8] == MAGIC;
        match opened(header) {
            _ if known && word(8) == ENDIANNESS.swap_bytes() => return Err(Unreadable::WrongEndianness),
            Ok(()) if known && word(12) != VERSION => return Err(Unreadable::WrongVersion(word(12))),
            Ok(()) if known => {}
            Ok(()) => damages.push(damage(FilePart::FileHeader, *at, None)),
            Err(flip) => damages.push(damage(FilePart::FileHeader, *at, flip)),
        }
    }
    if damages.len() == HEADERS.len() {
        let known = headers.iter().any(|header| header[..8] == MAGIC);
        return Err(if known { Unreadable::Damaged(damages[0]) } else { Unreadable::NotAReplayFile });
    }
    let marks = MARKS.map(|at| match opened(block(page, at)) {
        Ok(()) => {
            let mark = Mark::of(block(page, at));
            damages.extend(mark.is_none().then(|| damage(FilePart::CommitMark, at, None)));
            mark
        }
        Err(flip) => {
            damages.push(damage(FilePart::CommitMark, at, flip));
            None
        }
    });
    let used = |at: usize| HEADERS.iter().chain(&MARKS).any(|start| (*start..start + BLOCK).contains(&at));
    for (at, byte) in page[..DATA_OFFSET as usize].iter().enumerate() {
        if *byte != 0 && !used(at) {
            let bit = byte.is_power_of_two().then_some(byte.trailing_zeros() as u8);
            damages.push(Damage { part: FilePart::Padding, offset: at as u64, n_bytes: 1, bit, chunk: None });
        }
    }
    let mark = marks.into_iter().flatten().max_by_key(|mark| mark.sequence);
    Ok(Head { mark, marks_differ: marks[0] != marks[1], damages })
}

fn block(page: &[u8], at: usize) -> &[u8; BLOCK] {
    page[at..].first_chunk().expect("the page holds whole blocks")
}

fn sealed(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    let sum = checksum(&block[..BLOCK - 4]);
    block[BLOCK - 4..].copy_from_slice(&sum.to_le_bytes());
    block
}

/// Compares a block with its checksum. The error is the flipped byte and bit, if a single bit is flipped.
fn opened(block: &[u8; BLOCK]) -> Result<(), Option<(usize, u8)>> {
    let (content, [.., a, b, c, d]) = (&block[..BLOCK - 4], *block);
    let (stored, found) = (u32::from_le_bytes([a, b, c, d]), checksum(content));
    if stored == found {
        return Ok(());
    }
    Err(flipped_bit(content.len(), stored, found).map(|flip| match flip {
        Flip::Content { byte, bit } => (byte, bit),
        Flip::Checksum { byte, bit } => (content.len() + byte, bit),
    }))
}

fn damage(part: FilePart, at: usize, flip: Option<(usize, u8)>) -> Damage {
    match flip {
        Some((byte, bit)) => {
            Damage { part, offset: (at + byte) as u64, n_bytes: 1, bit: Some(bit), chunk: None }
        }
        None => Damage { part, offset: at as u64, n_bytes: BLOCK as u64, bit: None, chunk: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark {
        sequence: 7,
        committed_bytes: 8192,
        index_offset: 4096,
        file: 11,
        commit: 12,
        saved_commit: 13,
    };

    fn with_header(change: impl Fn(&mut [u8; BLOCK])) -> Vec<u8> {
        let mut page = page(MARK);
        for at in HEADERS {
            let mut header = *block(&page, at);
            change(&mut header);
            page[at..at + BLOCK].copy_from_slice(&header);
        }
        page
    }

    #[test]
    fn every_flipped_bit_of_a_head_is_named_and_the_mark_is_read() {
        for position in 0..DATA_OFFSET as usize * 8 {
            let mut page = page(MARK);
            page[position / 8] ^= 1 << (position % 8);
            let head = read(&page).unwrap();
            assert_eq!(head.mark, Some(MARK));
            assert_eq!(head.damages.len(), 1, "bit {position}");
            let damage = head.damages[0];
            assert_eq!((damage.offset, damage.bit), (position as u64 / 8, Some((position % 8) as u8)));
        }
    }

    #[test]
    fn other_files_are_told_apart() {
        let big_endian = with_header(|header| {
            header[8..12].reverse();
            header[12..16].reverse();
        });
        assert_eq!(read(&big_endian).unwrap_err(), Unreadable::WrongEndianness);
        let newer = with_header(|header| {
            header[12] = 3;
            *header = sealed(*header);
        });
        assert_eq!(read(&newer).unwrap_err(), Unreadable::WrongVersion(3));
        assert_eq!(read(&[7; 5000]).unwrap_err(), Unreadable::NotAReplayFile);
        assert_eq!(read(b"hello").unwrap_err(), Unreadable::NotAReplayFile);
        assert_eq!(read(&page(MARK)[..4000]).unwrap_err(), Unreadable::Short);
        assert!(matches!(read(&with_header(|header| header[20] ^= 1)), Err(Unreadable::Damaged(_))));
    }

    #[test]
    fn the_newer_mark_counts() {
        let mut page = page(MARK);
        let newer = Mark { sequence: 8, committed_bytes: 9000, ..MARK };
        page[MARKS[0]..MARKS[0] + BLOCK].copy_from_slice(&newer.to_bytes());
        let head = read(&page).unwrap();
        assert_eq!((head.mark, head.marks_differ, head.damages.len()), (Some(newer), true, 0));
    }
}
