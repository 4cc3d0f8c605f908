//! The loops' state as a file: one postcard value, written straight from the run and read without a copy of the file.
//!
//! The file is mapped, and what was read is forgotten behind the reader. So of a replay that the file holds, little more
//! is resident than the replay that is made of it.

use std::path::Path;

use memsys::os::Map;
use postcard::de_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::run::summed_file::{FileSum, SummedFile, map_checked};

/// Bytes that stay resident behind the reader, apart from a longer run of bytes that is taken as a whole.
const BEHIND_BYTES: usize = 1 << 20;

/// Writes a value to a new file, makes it durable, and returns its sum.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<FileSum> {
    let mut file = SummedFile::create(path)?;
    match postcard::to_io(value, &mut file) {
        Ok(_) => file.finish(),
        Err(error) => {
            let failure = file.take_failure();
            Err(failure.map_or_else(|| damaged(path, &error), Error::io(path)))
        }
    }
}

/// Reads a value back from a file with this sum.
///
/// # Errors
/// [`Error::Io`], or [`Error::File`] if the file is damaged or holds no such value.
pub(super) fn read<T: DeserializeOwned>(path: &Path, sum: &FileSum) -> Result<T> {
    let map = map_checked(path, sum)?;
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
        let sum = write(&path, &value).unwrap();
        assert!(read::<(Vec<u64>, String, Vec<f32>)>(&path, &sum).unwrap() == value);
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() > 4 * BEHIND_BYTES);
        for n_bytes in [0, 1, whole.len() / 2, whole.len() - 1] {
            let cut = &whole[..n_bytes];
            std::fs::write(&path, cut).unwrap();
            // Also where the sum is that of the cut file.
            let of_cut = FileSum { n_bytes: n_bytes as u64, crc32: crc32fast::hash(cut) };
            for sum in [sum, of_cut] {
                let error = read::<(Vec<u64>, String, Vec<f32>)>(&path, &sum).unwrap_err();
                assert!(matches!(error, Error::File { .. }), "{n_bytes}: {error}");
            }
        }
    }
}
