//! Compacting a replay's file: the live chunks go to a new file beside it, which then takes its place.
//!
//! Nothing depends on it. Where it fails, what it wrote is removed, and the file stays as it is committed. It is tried again
//! at a later commit. Each failure doubles the commits until then, because an attempt may write as much as the disk takes.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::store::{ChunkWriter, Durability, copy_readable};

/// The most commits between two attempts, as a power of two.
const MOST_COMMITS_SHIFT: u32 = 6;

/// The attempts to compact one file.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    /// Failures in a row.
    n_failures: u32,
    /// Commits until the next attempt.
    n_commits_to_wait: u32,
}

impl Compaction {
    /// Compacts a file whose garbage exceeds both `garbage_bytes` and the bytes of the chunks in use. Returns the writer of
    /// the new file, which has taken the old one's place, or `None` if the file is not compacted now.
    ///
    /// # Errors
    /// If the new file cannot be written. The old one is as it was.
    pub(super) fn attempt(&mut self, old: &ChunkWriter, garbage_bytes: u64) -> Result<Option<ChunkWriter>> {
        let used_bytes: u64 = old.index().entries().map(|entry| entry.end() - entry.offset).sum();
        if old.committed_bytes() < used_bytes.max(garbage_bytes) + used_bytes {
            return Ok(None);
        }
        if self.n_commits_to_wait > 0 {
            self.n_commits_to_wait -= 1;
            return Ok(None);
        }
        let written = write_anew(old);
        match &written {
            Ok(_) => *self = Self::default(),
            Err(_) => {
                remove_left(old.file().path());
                self.n_commits_to_wait = 1 << self.n_failures.min(MOST_COMMITS_SHIFT);
                self.n_failures += 1;
            }
        }
        written.map(Some)
    }

    /// Whether the last attempt failed and the one before did not.
    pub(super) fn is_first_failure(&self) -> bool {
        self.n_failures == 1
    }
}

fn write_anew(old: &ChunkWriter) -> Result<ChunkWriter> {
    let mut writer = ChunkWriter::create(&aside(old.file().path()))?;
    writer.inherit(old);
    let copied = copy_readable(old.file(), old.index(), &mut writer, Durability::Power)?;
    // A damaged chunk is lost in either file. What cannot be read for another reason may be readable later.
    let is_passing = |error: &Error| !matches!(error, Error::Damaged { .. });
    if let Some(error) = copied.refused.into_iter().find(is_passing) {
        return Err(error);
    }
    writer.rename(old.file().path())?;
    Ok(writer)
}

/// Where a file is compacted to.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Removes what a compaction of the file at `path` left behind.
pub(super) fn remove_left(path: &Path) {
    // The next compaction replaces what cannot be removed.
    let _ = std::fs::remove_file(aside(path));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Codec, Identity, RowKind, RowShape, codec};

    #[test]
    fn a_half_written_file_is_removed_and_the_next_attempt_waits_twice_as_long_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.plr");
        let mut writer = ChunkWriter::create(&path).unwrap();
        let encoded = codec::encode(Codec::STORED, RowShape { kind: RowKind::U8, width: 32 }, &[7; 32 * 64]);
        for number in [0, 0, 0, 0, 0, 1, 2] {
            let identity = Identity { stream: 0, number, chunk_rows: 64, stamp_millis: 0 };
            writer.append(identity, &encoded).unwrap();
        }
        writer.commit(Durability::Process).unwrap();
        // The last chunk cannot be read now, so that two chunks are written when the attempt fails.
        let length = std::fs::metadata(&path).unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length - 100).unwrap();
        let mut compaction = Compaction::default();
        let attempts: Vec<bool> =
            (0..12).map(|_| compaction.attempt(&writer, 0).map(drop).is_err()).collect();
        let failed: Vec<usize> = (0..12).filter(|i| attempts[*i]).collect();
        assert_eq!(failed, [0, 2, 5, 10]);
        assert!(!compaction.is_first_failure() && !aside(&path).exists());
        file.set_len(length).unwrap();
        let found = (0..20).find_map(|_| compaction.attempt(&writer, 0).unwrap());
        // The bytes are zeros now, and damage is not repaired by waiting.
        assert_eq!(found.unwrap().index().entries().count(), 2);
    }
}
