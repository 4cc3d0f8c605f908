//! Writing a file of chunks.
//!
//! ```text
//! append   write the record after the end              visible to this process alone
//! commit   [sync] write mark 1 [sync] write mark 2     visible to all; survives the death of the process, and a power
//!                                                      cut with `Durability::Power`
//! open     lock, read the newest mark, cut off         bytes that no mark covers were never committed
//! ```
//!
//! A saved state that refers to the file's rows keeps the name of the commit before it ([`CommitId`]), and a commit keeps
//! the name of the one that the last state was saved with. So a resumed run knows its file again, also where the process
//! was killed between a commit and the end of its save, and refuses a file that went on without its state.
//!
//! At any instant one of the two marks is whole, and a mark is written only after everything that it covers. The writer
//! never cuts off what a mark covers, even if it is damaged: damaged chunks are named and refused, and the rest is served.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use memsys::os::random_u64;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::codec;
use crate::store::file::checksum::checksum;
use crate::store::file::damage::Damage;
use crate::store::file::header;
use crate::store::file::header::Mark;
use crate::store::file::index::Index;
use crate::store::file::record::{Entry, HEADER_BYTES, Identity, IndexBlock};
use crate::store::file::{ChunkFile, Handle, length, load, parse_head, read_page};

/// Chunks per block of the index.
const INDEX_EVERY: usize = 256;

/// The failures that a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process by any signal.
    Process,
    /// A power cut too. The commit waits for the disk twice.
    Power,
}

/// A commit of a file. A saved state keeps it, so that it is never resumed beside another file or beside another commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitId {
    /// The file's random identity.
    file: u64,
    /// Number of commits up to this one.
    sequence: u64,
    /// The commit's random name.
    commit: u64,
}

/// What was found on opening a file for writing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opened {
    /// Whether the file is new.
    pub new: bool,
    /// Number of uncommitted bytes that were cut off.
    pub torn_bytes: u64,
    /// The damage found. Damage to the head was repaired from the other copy.
    pub damages: Vec<Damage>,
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.new, self.torn_bytes) {
            (true, _) => write!(f, "a new replay file")?,
            (false, 0) => write!(f, "nothing was torn")?,
            (false, torn_bytes) => write!(f, "{torn_bytes} bytes that were never committed were cut off")?,
        }
        self.damages.iter().try_for_each(|damage| write!(f, "; {damage}"))
    }
}

/// The writer of a file of chunks. A file has at most one. What it has not committed is lost when it is dropped.
#[derive(Debug)]
pub struct ChunkWriter {
    file: Arc<ChunkFile>,
    index: Index,
    mark: Mark,
    end: u64,
    /// The offset of the newest block of the index, committed or not.
    index_offset: u64,
    /// Headers of chunks that no block of the index lists yet.
    unlisted: Vec<[u8; HEADER_BYTES]>,
    /// A buffer for a record, kept from one to the next.
    record: Vec<u8>,
    /// Whether the next sync must sync the folder too.
    new: bool,
    /// The name of the commit that the last state was saved with; 0 if there is none.
    saved_commit: u64,
    /// The mark of the file that this one replaces, until it is committed.
    inherited: Option<Mark>,
}

impl ChunkWriter {
    /// Opens or creates a file for writing, and cuts off what was never committed.
    ///
    /// # Errors
    /// [`Error::Locked`] if another writer has the file; [`Error::Truncated`] if committed bytes are missing
    /// ([`copy_readable`] saves the rest); the errors of [`ChunkReader::open`](crate::store::ChunkReader::open);
    /// [`Error::DiskFull`].
    pub fn open(path: &Path) -> Result<(Self, Opened)> {
        Self::open_as(path, true)
    }

    /// Opens the file of a saved state as [`ChunkWriter::open`] does, and never creates it.
    ///
    /// # Errors
    /// [`Error::MissingFile`] if there is none; [`Error::OtherHistory`] if it belongs to another state: it is another file,
    /// or it is older than the state, or it went on and a later state was saved with it. As [`ChunkWriter::open`].
    pub fn open_saved(path: &Path, saved: CommitId) -> Result<(Self, Opened)> {
        let (mut writer, opened) = Self::open_as(path, false)?;
        require(path, writer.mark, saved)?;
        writer.saved_commit = saved.commit;
        Ok((writer, opened))
    }

    fn open_as(path: &Path, create: bool) -> Result<(Self, Opened)> {
        let io = |action| move |source| Error::io(path, action, source);
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path);
        let file = file.map_err(|source| match source.kind() {
            ErrorKind::NotFound if !create => Error::MissingFile { path: path.to_owned() },
            _ => io("open it for writing")(source),
        })?;
        let file = Handle::new(file);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(Error::io(path, "lock it", source)),
        }
        let mut opened = Opened::default();
        if create && length(path, &file)? == 0 {
            opened.new = true;
            let identity = random_u64().map_err(io("name it"))?;
            let page = header::page(Mark { file: identity, ..Mark::EMPTY });
            if let Err(source) = file.write_all_at(&page, 0) {
                shorten(&file, 0);
                return Err(Error::io(path, "begin it", source));
            }
        }
        let head = parse_head(path, &read_page(path, &file)?)?;
        let Some(mark) = head.mark else {
            return Err(Error::Damaged { path: path.to_owned(), damage: head.damages[0] });
        };
        let found_bytes = length(path, &file)?;
        if found_bytes < mark.committed_bytes {
            let committed_bytes = mark.committed_bytes;
            return Err(Error::Truncated { path: path.to_owned(), found_bytes, committed_bytes });
        }
        if head.marks_differ || !head.damages.is_empty() {
            file.write_all_at(&header::page(mark), 0).map_err(io("mend its head"))?;
        }
        if found_bytes > mark.committed_bytes {
            opened.torn_bytes = found_bytes - mark.committed_bytes;
            file.set_len(mark.committed_bytes).map_err(io("cut off what was never committed"))?;
        }
        let end = mark.committed_bytes;
        let file = Arc::new(ChunkFile::new(path.to_owned(), file, end));
        let (index, damages) = load(&file, mark, end)?;
        opened.damages = head.damages;
        opened.damages.extend(damages);
        // Chunks after the newest block are not listed yet. The next block lists them.
        let unlisted = index.entries().filter(|entry| entry.offset > mark.index_offset).copied();
        let mut unlisted: Vec<Entry> = unlisted.collect();
        unlisted.sort_by_key(|entry| entry.offset);
        let unlisted = unlisted.iter().map(Entry::header).collect();
        let new = opened.new;
        Ok((
            Self {
                file,
                index,
                mark,
                end,
                index_offset: mark.index_offset,
                unlisted,
                record: Vec::new(),
                new,
                saved_commit: mark.commit,
                inherited: None,
            },
            opened,
        ))
    }

    /// Creates a new file and replaces an existing one.
    ///
    /// # Errors
    /// [`Error::Locked`] if a writer has the existing file; as [`ChunkWriter::open`].
    pub fn create(path: &Path) -> Result<Self> {
        if let Ok(old) = File::open(path) {
            let old = Handle::new(old);
            if matches!(old.try_lock(), Err(TryLockError::WouldBlock)) {
                return Err(Error::Locked { path: path.to_owned() });
            }
            std::fs::remove_file(path)
                .map_err(|source| Error::io(path, "put a new one in its place", source))?;
        }
        Self::open(path).map(|(writer, _)| writer)
    }

    /// The file, for reading appended chunks.
    #[must_use]
    pub fn file(&self) -> &Arc<ChunkFile> {
        &self.file
    }

    /// The index of its chunks, uncommitted ones included.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Bytes appended since the last commit.
    #[must_use]
    pub fn uncommitted_bytes(&self) -> u64 {
        self.end - self.mark.committed_bytes
    }

    /// The file's length at the last commit.
    #[must_use]
    pub fn committed_bytes(&self) -> u64 {
        self.mark.committed_bytes
    }

    /// Renames the file, whose chunks are committed, and replaces another one. Nothing may be mapped from it yet.
    /// [`Self::sync_name`] makes the name durable.
    ///
    /// # Errors
    /// [`Error::Io`]. Both files stay unchanged.
    pub(crate) fn rename(&mut self, to: &Path) -> Result<()> {
        std::fs::rename(self.file.path(), to)
            .map_err(|source| Error::io(self.file.path(), "put it in the old one's place", source))?;
        let file = Arc::get_mut(&mut self.file).expect("nothing refers to a file that is being written anew");
        file.renamed(to);
        self.new = true;
        Ok(())
    }

    /// Makes the name of a file that was renamed survive a power cut.
    ///
    /// # Errors
    /// [`Error::Io`]. The next commit with [`Durability::Power`] tries it again.
    pub(crate) fn sync_name(&mut self) -> Result<()> {
        self.sync(Durability::Power)
    }

    /// The last commit, for the state that is saved after it.
    #[must_use]
    pub fn commit_id(&self) -> CommitId {
        let Mark { file, sequence, commit, .. } = self.mark;
        CommitId { file, sequence, commit }
    }

    /// Makes the next commit one of `old`, whose chunks this file holds and which it will replace.
    pub(crate) fn inherit(&mut self, old: &Self) {
        self.saved_commit = old.saved_commit;
        self.inherited = Some(old.mark);
    }

    /// Appends an encoded chunk. It replaces the stream's chunk of that number and all later ones.
    ///
    /// # Errors
    /// [`Error::Undecodable`] if `encoded` is not an encoded chunk or has more rows than `identity` allows;
    /// [`Error::Truncated`], [`Error::DiskFull`] and [`Error::Io`]. The file stays unchanged.
    pub fn append(&mut self, identity: Identity, encoded: &[u8]) -> Result<Entry> {
        self.require_whole()?;
        let header = codec::header(encoded)?;
        let entry = Entry {
            identity,
            shape: header.shape,
            n_rows: header.n_rows as u32,
            codec: header.codec,
            offset: self.end,
            stored_bytes: encoded.len() as u32,
            payload_checksum: 0,
        };
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        record.resize(HEADER_BYTES, 0);
        record.extend_from_slice(encoded);
        record.resize(HEADER_BYTES + encoded.len().next_multiple_of(8), 0);
        let entry = Entry { payload_checksum: checksum(&record[HEADER_BYTES..]), ..entry };
        let header = entry.header();
        if crate::store::file::record::read(&header, entry.offset).is_err() {
            return Err(Error::Undecodable { what: "it has more rows than a chunk of its stream" });
        }
        record[..HEADER_BYTES].copy_from_slice(&header);
        let written = self.write(&record, "append to it");
        self.record = record;
        written?;
        self.unlisted.push(header);
        self.index.insert(entry);
        Ok(entry)
    }

    /// A file that another program cut off would get a hole by the next write, and so hold zeros where chunks were.
    fn require_whole(&self) -> Result<()> {
        let path = self.file.path();
        let (found_bytes, committed_bytes) = (length(path, &self.file.file)?, self.end);
        if found_bytes < committed_bytes {
            return Err(Error::Truncated { path: path.to_owned(), found_bytes, committed_bytes });
        }
        Ok(())
    }

    /// Removes a stream's chunks before `number`, which will not be read again, from the index. They stay in the file.
    pub(crate) fn forget_before(&mut self, stream: u32, number: u64) {
        self.index.forget_before(stream, number);
    }

    /// Commits all that was appended. A state that is saved with the file is saved after each commit and before the next.
    ///
    /// # Errors
    /// [`Error::Io`]. What was committed before stays, and the commit may be tried again.
    pub fn commit(&mut self, durability: Durability) -> Result<()> {
        self.require_whole()?;
        // A block of the index only makes reading faster. If the disk has no room for it, the chunks are committed without.
        if self.unlisted.len() >= INDEX_EVERY
            && let Ok(offset) = self.append_index()
        {
            self.index_offset = offset;
        }
        let index_offset = self.index_offset;
        let named = match self.inherited {
            Some(old) => old,
            None => Mark {
                sequence: self.mark.sequence + 1,
                commit: random_u64().map_err(|source| Error::io(self.file.path(), "commit to it", source))?,
                saved_commit: self.saved_commit,
                ..self.mark
            },
        };
        let mark = Mark { committed_bytes: self.end, index_offset, ..named };
        let [first, second] = header::mark_offsets();
        self.sync(durability)?;
        self.put_mark(mark, first)?;
        self.sync(durability)?;
        self.put_mark(mark, second)?;
        (self.mark, self.inherited) = (mark, None);
        self.saved_commit = mark.commit;
        Ok(())
    }

    fn append_index(&mut self) -> Result<u64> {
        let payload = self.unlisted.concat();
        let block = IndexBlock {
            offset: self.end,
            before: self.index_offset,
            n_entries: self.unlisted.len() as u32,
            payload_checksum: checksum(&payload),
        };
        self.write(&[&block.header()[..], &payload].concat(), "append its index")?;
        self.unlisted.clear();
        Ok(block.offset)
    }

    fn write(&mut self, record: &[u8], action: &'static str) -> Result<()> {
        if let Err(source) = self.file.file.write_all_at(record, self.end) {
            shorten(&self.file.file, self.end);
            return Err(Error::io(self.file.path(), action, source));
        }
        self.end += record.len() as u64;
        self.file.grown_to(self.end);
        Ok(())
    }

    fn put_mark(&self, mark: Mark, offset: u64) -> Result<()> {
        let written = self.file.file.write_all_at(&mark.to_bytes(), offset);
        written.map_err(|source| Error::io(self.file.path(), "commit to it", source))
    }

    fn sync(&mut self, durability: Durability) -> Result<()> {
        if durability == Durability::Process {
            return Ok(());
        }
        let io = |source| Error::io(self.file.path(), "bring it to the disk", source);
        self.file.file.sync_data().map_err(io)?;
        if self.new {
            let folder = self.file.path().parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(io)?;
            self.new = false;
        }
        Ok(())
    }
}

/// Checks that a file is the one that a state was saved with, without opening it for writing.
///
/// # Errors
/// As [`ChunkWriter::open_saved`].
pub fn require_saved(path: &Path, saved: CommitId) -> Result<()> {
    let file = File::open(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::MissingFile { path: path.to_owned() },
        _ => Error::io(path, "open it", source),
    })?;
    let head = parse_head(path, &read_page(path, &file)?)?;
    head.mark.map_or(Ok(()), |mark| require(path, mark, saved))
}

fn require(path: &Path, mark: Mark, saved: CommitId) -> Result<()> {
    let Mark { file, sequence, commit, saved_commit, .. } = mark;
    // A process that was killed after a commit, and before the state of it was saved, leaves the commit after `saved`.
    if file == saved.file && [commit, saved_commit].contains(&saved.commit) {
        return Ok(());
    }
    let found = (file == saved.file).then_some(sequence);
    Err(Error::OtherHistory { path: path.to_owned(), found, wanted: saved.sequence })
}

/// Cuts off a partly written record. If that fails too, the next opening cuts it off.
fn shorten(file: &File, to: u64) {
    if file.set_len(to).is_err() {}
}

/// The result of [`copy_readable`].
#[derive(Debug, Default)]
pub struct Copied {
    /// Number of chunks copied.
    pub n_chunks: u64,
    /// The errors of the chunks that could not be read.
    pub refused: Vec<Error>,
}

/// Copies the readable chunks of an index to another file and commits it. It saves the rest of a damaged file, or compacts
/// a file by leaving out chunks that are not in the index.
///
/// # Errors
/// If the other file cannot be written.
pub fn copy_readable(
    from: &ChunkFile,
    index: &Index,
    to: &mut ChunkWriter,
    durability: Durability,
) -> Result<Copied> {
    let mut copied = Copied::default();
    for entry in index.entries() {
        match from.encoded(entry) {
            Ok(encoded) => {
                to.append(entry.identity, &encoded)?;
                copied.n_chunks += 1;
            }
            Err(refused) => copied.refused.push(refused),
        }
    }
    to.commit(durability)?;
    Ok(copied)
}
