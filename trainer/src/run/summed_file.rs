//! Files whose length and CRC-32 stand elsewhere, so that a flipped bit in them is found before they are used.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use memsys::os::Map;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Bytes that wait to be written.
const WAITING_BYTES: usize = 256 << 10;
/// Bytes that are summed at once, and then forgotten.
const PART_BYTES: usize = 1 << 20;

/// Length and CRC-32 of a file.
#[must_use = "the sum belongs into the counters of the checkpoint"]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// Length of the file.
    pub n_bytes: u64,
    /// CRC-32 (IEEE 802.3) of all its bytes.
    pub crc32: u32,
}

/// A new file that is summed while it is written.
#[derive(Debug)]
pub(super) struct SummedFile {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: crc32fast::Hasher,
    n_bytes: u64,
    /// What the system said of a write that failed.
    failure: Option<io::Error>,
}

impl SummedFile {
    /// Creates a file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io(path))?;
        let file = BufWriter::with_capacity(WAITING_BYTES, file);
        Ok(Self { path: path.to_owned(), file, hasher: crc32fast::Hasher::new(), n_bytes: 0, failure: None })
    }

    /// What the system said of a write that failed, for a serializer that does not pass it on.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Makes the file durable and returns its sum.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn finish(self) -> Result<FileSum> {
        let Self { path, file, hasher, n_bytes, .. } = self;
        let file = file.into_inner().map_err(|error| Error::io(&path)(error.into_error()))?;
        file.sync_all().map_err(Error::io(&path))?;
        Ok(FileSum { n_bytes, crc32: hasher.finalize() })
    }
}

impl Write for SummedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match self.file.write(bytes) {
            Ok(n) => n,
            Err(error) => {
                let copy =
                    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
                self.failure = Some(copy);
                return Err(error);
            }
        };
        self.hasher.update(&bytes[..n]);
        self.n_bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Maps a file of a checkpoint and compares it with its sum. Nothing of it is resident afterwards.
///
/// # Errors
/// [`Error::File`] if it is missing or differs; [`Error::Io`].
pub(super) fn map_checked(path: &Path, sum: &FileSum) -> Result<Map> {
    let way_out = "put it back from a copy of the run's folder, or start a new run";
    let differs = |what: String| Error::File { path: path.to_owned(), problem: format!("{what}: {way_out}") };
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => differs("is missing from the checkpoint".to_owned()),
        _ => Error::io(path)(error),
    })?;
    let n_bytes = file.metadata().map_err(Error::io(path))?.len();
    if n_bytes != sum.n_bytes {
        return Err(differs(format!("is damaged: it has {n_bytes} bytes, and {} were saved", sum.n_bytes)));
    }
    // A checkpoint is written under another name and never changed under this one, so the mapped bytes stay as they are.
    let map = Map::of(&file, 0, n_bytes as usize).map_err(Error::io(path))?;
    let mut hasher = crc32fast::Hasher::new();
    let mut at = 0;
    for part in map.bytes().chunks(PART_BYTES) {
        hasher.update(part);
        // The advice spares memory and nothing else: without it the bytes are read all the same.
        let _ = map.forget(at..at + part.len());
        at += part.len();
    }
    let crc32 = hasher.finalize();
    if crc32 != sum.crc32 {
        let what =
            format!("is damaged: its CRC-32 is {crc32:08x}, and that of what was saved {:08x}", sum.crc32);
        return Err(differs(what));
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_again_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some");
        let mut file = SummedFile::create(&path).unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 253) as u8).collect();
        bytes.chunks(70_001).for_each(|part| file.write_all(part).unwrap());
        let sum = file.finish().unwrap();
        assert_eq!(sum, FileSum { n_bytes: 3_000_000, crc32: crc32fast::hash(&bytes) });
        assert!(map_checked(&path, &sum).unwrap().bytes() == bytes);
        let check = |bytes: &[u8], word: &str| {
            std::fs::write(&path, bytes).unwrap();
            let said = map_checked(&path, &sum).unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        };
        check(&bytes[..2_999_999], "has 2999999 bytes");
        check(&[], "has 0 bytes");
        let mut flipped = bytes.clone();
        flipped[2_000_000] ^= 16;
        check(&flipped, "its CRC-32 is");
        std::fs::remove_file(&path).unwrap();
        let said = map_checked(&path, &sum).unwrap_err().to_string();
        assert!(said.contains("is missing from the checkpoint"), "{said}");
    }
}
