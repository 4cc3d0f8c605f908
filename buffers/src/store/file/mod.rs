//! A file of chunks. Whole chunks are read with ordinary read calls, single rows through a window of mappings.
//!
//! Three rules make the mappings sound: records are appended once and never rewritten, a mapping ends where the records
//! that its owner knows end, and a writer cuts off only what lies after the last commit. The writer's lock belongs to the
//! [`ChunkFile`], so that it is held as long as any chunk is mapped from the file. Where another program cuts the file off,
//! a read of what is gone is an error that names the file, also where it is cut while it is read ([`Map::guarded`]).

pub(crate) mod checksum;
pub mod damage;
pub(crate) mod header;
pub mod index;
pub(crate) mod mapped_window;
pub mod record;
pub mod verify;
pub mod writer;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fs::File;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memsys::os::{Access, Map};

use crate::error::{Error, Result};
use crate::store::codec;
use crate::store::file::damage::{Damage, FilePart};
use crate::store::file::header::{DATA_OFFSET, Head, Mark, Unreadable};
use crate::store::file::index::Index;
use crate::store::file::mapped_window::Window;
use crate::store::file::record::{Entry, HEADER_BYTES, Record, check_payload, slice};

/// A file that releases its lock when it is dropped. Closing it is not enough, because a child process that is just being
/// started still has it open.
#[derive(Debug)]
pub(super) struct Handle(File);

impl Handle {
    pub(super) fn new(file: File) -> Self {
        Self(file)
    }
}

impl Deref for Handle {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // If unlocking fails, closing the file releases the lock, perhaps a little later.
        if self.0.unlock().is_err() {}
    }
}

/// A file of chunks, open for reading.
#[derive(Debug)]
pub struct ChunkFile {
    path: PathBuf,
    pub(super) file: Handle,
    /// The end of the records that may be mapped.
    end: AtomicU64,
    window: Window,
}

thread_local! {
    /// A buffer for reads from files, kept from read to read.
    static PART: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl ChunkFile {
    pub(super) fn new(path: PathBuf, file: Handle, end: u64) -> Self {
        memsys::os::read_randomly(&file);
        Self { path, file, end: AtomicU64::new(end), window: Window::default() }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and decodes the rows of a chunk.
    ///
    /// # Errors
    /// [`Error::Damaged`] if its record differs from what was written, [`Error::Truncated`] if the file ends before it,
    /// [`Error::Io`].
    pub fn rows(&self, entry: &Entry) -> Result<Vec<u8>> {
        codec::decode(&self.encoded(entry)?).map_err(|_| self.damaged(undecodable(entry)))
    }

    /// Reads a chunk without decoding it.
    ///
    /// # Errors
    /// As [`ChunkFile::rows`].
    pub fn encoded(&self, entry: &Entry) -> Result<Vec<u8>> {
        let mut record = vec![0; (entry.end() - entry.offset) as usize];
        self.read_at(&mut record, entry.offset, entry)?;
        check(&record, entry.offset, entry).map_err(|damage| self.damaged(damage))?;
        record.truncate(HEADER_BYTES + entry.stored_bytes as usize);
        record.drain(..HEADER_BYTES);
        Ok(record)
    }

    /// Calls `take` with `n_bytes` of an encoded chunk from `at` on. Reads them through the window if they are in it or fit
    /// into it.
    ///
    /// # Errors
    /// As [`ChunkFile::rows`], except that it does not look for damage.
    pub(super) fn read_part(
        &self,
        entry: &Entry,
        at: usize,
        n_bytes: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let offset = entry.offset + (HEADER_BYTES + at) as u64;
        match self.window.read(&self.file, offset, n_bytes, self.end.load(Ordering::Acquire), take) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(source) => return Err(self.unreadable(entry.end(), source)),
        }
        PART.with_borrow_mut(|part| {
            part.resize(n_bytes.max(part.len()), 0);
            let part = &mut part[..n_bytes];
            self.read_at(part, offset, entry)?;
            take(part);
            Ok(())
        })
    }

    /// Prefetches a part of an encoded chunk into the processor's cache, if it is in the window.
    pub(super) fn prefetch(&self, entry: &Entry, at: usize, n_bytes: usize) {
        self.window.prefetch(entry.offset + (HEADER_BYTES + at) as u64, n_bytes);
    }

    /// Asks the system to begin reading a part of an encoded chunk. It does so for parts in the window too, because their
    /// pages may have left the page cache, and of a grain only one page must ever have been there.
    pub(super) fn will_need(&self, entry: &Entry, at: usize, n_bytes: usize) {
        let offset = entry.offset + (HEADER_BYTES + at) as u64;
        memsys::os::will_need(&self.file, offset, n_bytes);
    }

    /// Limits the bytes of the file that may be resident through mappings.
    pub fn limit_window(&self, bytes: u64) {
        self.window.limit_to(bytes);
    }

    /// Frees all pages of the window and returns the most bytes that they can have had; 0 while a thread reads through it.
    pub fn try_clear_window(&self) -> u64 {
        self.window.try_clear().unwrap_or(0)
    }

    /// Bytes of the file that may be resident through mappings.
    #[must_use]
    pub fn window_bytes(&self) -> u64 {
        self.window.bytes()
    }

    /// Checks that the file was not cut off. Where it ends within a page, the rest of the page reads as zeros through the
    /// window, so this check comes after such reads.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Io`].
    pub(crate) fn check_length(&self) -> Result<()> {
        let (found_bytes, end) = (length(&self.path, &self.file)?, self.end.load(Ordering::Acquire));
        if found_bytes < end {
            return Err(Error::Truncated { path: self.path.clone(), found_bytes, committed_bytes: end });
        }
        Ok(())
    }

    fn read_at(&self, out: &mut [u8], offset: u64, entry: &Entry) -> Result<()> {
        let read = self.file.read_exact_at(out, offset);
        read.map_err(|source| self.unreadable(entry.end(), source))
    }

    /// The error of a read before `end` that failed.
    fn unreadable(&self, end: u64, source: std::io::Error) -> Error {
        let path = self.path.clone();
        match length(&self.path, &self.file) {
            Ok(found_bytes) if found_bytes < end => {
                Error::Truncated { path, found_bytes, committed_bytes: end }
            }
            _ => Error::io(&path, "read from it", source),
        }
    }

    pub(super) fn renamed(&mut self, to: &Path) {
        self.path = to.to_owned();
    }

    pub(super) fn grown_to(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Calls `read` with the file from [`DATA_OFFSET`] to `end`, for reading from front to back.
    pub(super) fn read_mapped<T>(&self, end: u64, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let found_bytes = length(&self.path, &self.file)?;
        if found_bytes < end {
            return Err(Error::Truncated { path: self.path.clone(), found_bytes, committed_bytes: end });
        }
        let map = Map::of(&self.file, DATA_OFFSET, (end - DATA_OFFSET) as usize)
            .and_then(|map| map.advise(Access::Sequential).map(|()| map))
            .map_err(|source| Error::io(&self.path, "map it", source))?;
        map.guarded(|| read(map.bytes())).map_err(|source| self.unreadable(end, source))
    }

    fn damaged(&self, damage: Damage) -> Error {
        Error::Damaged { path: self.path.clone(), damage }
    }
}

/// The encoded rows of a chunk, or the damage of its record. `data` holds the file from `from` on.
pub(super) fn check<'a>(data: &'a [u8], from: u64, entry: &Entry) -> std::result::Result<&'a [u8], Damage> {
    let header = slice(data, from, entry.offset, HEADER_BYTES as u64).and_then(<[u8]>::first_chunk);
    if header != Some(&entry.header()) {
        let whole = Damage {
            part: FilePart::RecordHeader,
            offset: entry.offset,
            n_bytes: HEADER_BYTES as u64,
            bit: None,
            chunk: Some(entry.chunk()),
        };
        let broken = header.and_then(|header| record::read(header, entry.offset).err());
        return Err(broken.map_or(whole, |broken| Damage { chunk: whole.chunk, ..broken.damage }));
    }
    if let Some(damage) = check_payload(data, from, &Record::Chunk(*entry)) {
        return Err(damage);
    }
    let encoded = slice(data, from, entry.offset + HEADER_BYTES as u64, u64::from(entry.stored_bytes))
        .expect("a payload with the right checksum is there");
    let fits = codec::header(encoded).is_ok_and(|header| {
        (header.shape, header.codec, header.n_rows) == (entry.shape, entry.codec, entry.n_rows as usize)
    });
    if fits { Ok(encoded) } else { Err(undecodable(entry)) }
}

/// The damage of a chunk that has the right checksum and cannot be decoded.
pub(super) fn undecodable(entry: &Entry) -> Damage {
    Damage {
        part: FilePart::Rows,
        offset: entry.offset + HEADER_BYTES as u64,
        n_bytes: u64::from(entry.stored_bytes),
        bit: None,
        chunk: Some(entry.chunk()),
    }
}

pub(super) fn length(path: &Path, file: &File) -> Result<u64> {
    Ok(file.metadata().map_err(|source| Error::io(path, "read its length", source))?.len())
}

pub(super) fn read_page(path: &Path, file: &File) -> Result<Vec<u8>> {
    let n_bytes = length(path, file)?.min(DATA_OFFSET);
    let mut page = vec![0; n_bytes as usize];
    file.read_exact_at(&mut page, 0).map_err(|source| Error::io(path, "read its head", source))?;
    Ok(page)
}

fn parse_head(path: &Path, page: &[u8]) -> Result<Head> {
    let path = || path.to_owned();
    header::read(page).map_err(|reason| match reason {
        Unreadable::NotAReplayFile => Error::NotAReplayFile { path: path() },
        Unreadable::Short => {
            Error::Truncated { path: path(), found_bytes: page.len() as u64, committed_bytes: DATA_OFFSET }
        }
        Unreadable::WrongEndianness => Error::WrongEndianness { path: path() },
        Unreadable::WrongVersion(found) => {
            Error::WrongVersion { path: path(), found, wanted: header::VERSION }
        }
        Unreadable::Damaged(damage) => Error::Damaged { path: path(), damage },
    })
}

/// A file of chunks as of the last commit before it was opened. A file that another process writes, that is damaged or cut
/// off can be read in part.
#[derive(Debug)]
pub struct ChunkReader {
    file: Arc<ChunkFile>,
    index: Index,
    damages: Vec<Damage>,
    missing_bytes: u64,
}

impl ChunkReader {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`Error::NotAReplayFile`], [`Error::WrongVersion`], [`Error::WrongEndianness`], [`Error::Truncated`] if the head is
    /// incomplete, [`Error::Damaged`] if both copies of the header are damaged, [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = Handle::new(File::open(path).map_err(|source| Error::io(path, "open it", source))?);
        let mut head = parse_head(path, &read_page(path, &file)?)?;
        if !head.damages.is_empty() {
            // A writer may have been writing the mark. Real damage is still there on the second read.
            head = parse_head(path, &read_page(path, &file)?)?;
        }
        let found_bytes = length(path, &file)?;
        // Without a readable mark the whole file counts as committed.
        let mark = head.mark.unwrap_or(Mark { committed_bytes: found_bytes, ..Mark::EMPTY });
        let end = mark.committed_bytes.min(found_bytes);
        let file = Arc::new(ChunkFile::new(path.to_owned(), file, end));
        let (index, mut damages) = load(&file, mark, end)?;
        damages.splice(..0, head.damages);
        Ok(Self { file, index, damages, missing_bytes: mark.committed_bytes - end })
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Arc<ChunkFile> {
        &self.file
    }

    /// The index of its chunks.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The damage that was found on opening. Rows are checked when they are read;
    /// [`verify`](fn@crate::store::verify) checks all of them.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// Number of committed bytes that the file has lost.
    #[must_use]
    pub fn missing_bytes(&self) -> u64 {
        self.missing_bytes
    }
}

fn load(file: &ChunkFile, mark: Mark, end: u64) -> Result<(Index, Vec<Damage>)> {
    let mut index = Index::default();
    if end == DATA_OFFSET {
        return Ok((index, Vec::new()));
    }
    let found = file.read_mapped(end, |data| index::load(data, mark, end))?;
    for record in found.records {
        if let Record::Chunk(entry) = record {
            index.insert(entry);
        }
    }
    Ok((index, found.damages))
}
