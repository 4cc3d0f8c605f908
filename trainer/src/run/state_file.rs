//! The loops' state as a file: one postcard value, written straight from the run and read without a copy of the file.
//!
//! The file is mapped, and what was read is forgotten behind the reader. So of a replay that the file holds, little more
//! is resident than the replay that is made of it.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use memsys::os::Map;
use postcard::de_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Bytes that stay resident behind the reader, apart from a longer run of bytes that is taken as a whole.
const BEHIND_BYTES: usize = 1 << 20;
/// Bytes that wait to be written.
const WAITING_BYTES: usize = 256 << 10;

/// Writes a value to a new file and makes it durable.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let file = File::create(path).map_err(Error::io(path))?;
    let out = BufWriter::with_capacity(WAITING_BYTES, file);
    let out = postcard::to_io(value, out).map_err(|error| damaged(path, &error))?;
    let file = out.into_inner().map_err(|error| Error::io(path)(error.into_error()))?;
    file.sync_all().map_err(Error::io(path))
}

/// Reads a value back.
///
/// # Errors
/// [`Error::Io`], or [`Error::File`] if the file holds no such value.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = File::open(path).map_err(Error::io(path))?;
    let n_bytes = file.metadata().map_err(Error::io(path))?.len();
    // A checkpoint is written under another name and never changed under this one, so the mapped bytes stay as they are.
    let map = Map::of(&file, 0, n_bytes as usize).map_err(Error::io(path))?;
    let mut reader = postcard::Deserializer::from_flavor(Forgetting { map: &map, at: 0, forgotten: 0 });
    T::deserialize(&mut reader).map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &postcard::Error) -> Error {
    Error::File { path: path.to_path_buf(), problem: format!("the checkpoint is damaged: {error}") }
}

/// Reads a map from front to back, and forgets what lies behind.
struct Forgetting<'a> {
    map: &'a Map,
    at: usize,
    /// Bytes before this are not resident.
    forgotten: usize,
}

impl<'a> Flavor<'a> for Forgetting<'a> {
    type Remainder = ();
    type Source = &'a Map;

    fn pop(&mut self) -> postcard::Result<u8> {
        self.try_take_n(1).map(|bytes| bytes[0])
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.map.bytes().len() - self.at)
    }

    fn try_take_n(&mut self, n_bytes: usize) -> postcard::Result<&'a [u8]> {
        let end = self.at.checked_add(n_bytes).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        let taken = self.map.bytes().get(self.at..end).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        if self.at - self.forgotten >= BEHIND_BYTES {
            // The advice spares memory and nothing else: without it the bytes are read all the same.
            let _ = self.map.forget(self.forgotten..self.at);
            self.forgotten = self.at;
        }
        self.at = end;
        Ok(taken)
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_many_mebibytes_comes_back_and_a_cut_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.postcard");
        let value: (Vec<u64>, String, Vec<f32>) =
            ((0..500_000).map(|i| i * i).collect(), "between".to_owned(), vec![1.5; 500_000]);
        write(&path, &value).unwrap();
        assert!(read::<(Vec<u64>, String, Vec<f32>)>(&path).unwrap() == value);
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() > 4 * BEHIND_BYTES);
        for n_bytes in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..n_bytes]).unwrap();
            let error = read::<(Vec<u64>, String, Vec<f32>)>(&path).unwrap_err();
            assert!(matches!(error, Error::File { .. }), "{n_bytes}: {error}");
        }
    }
}
