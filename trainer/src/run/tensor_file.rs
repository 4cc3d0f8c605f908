//! Files of named f32 tensors, in the format of safetensors, written and read a part at a time.
//!
//! A part is a mebibyte, and nothing holds more than one of them beside the tensors themselves. So a run that fills its
//! memory limit can be saved, and a checkpoint can be restored at that limit: each tensor of the file goes straight into
//! the tensor that it restores.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use memsys::os::Map;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::run::summed_file::{FileSum, SummedFile, map_checked};

/// Numbers per part: 1 MiB.
const PART: usize = 1 << 18;
/// The header's length is a multiple of this, so that the numbers after it are aligned.
const HEADER_STEP: usize = 8;

/// Facts about the tensors of a file, by name. They stand in its header as `__metadata__`.
pub type Metadata = BTreeMap<String, String>;

/// Writes tensors, which must be f32, to a new file, makes it durable, and returns its sum. The file is a function of the
/// numbers and the metadata: tensors stand in it in the order of their names.
///
/// # Errors
/// If the file cannot be written, or libtorch refuses a call.
pub fn write(path: &Path, tensors: &[(&str, &Tensor)], metadata: &Metadata) -> Result<FileSum> {
    let tensors: BTreeMap<&str, &Tensor> = tensors.iter().copied().collect();
    let mut end = 0;
    let mut entry = |(name, tensor): (&&str, &&Tensor)| {
        let begin = end;
        end += tensor.numel() * 4;
        ((*name).to_owned(), json!({ "dtype": "F32", "shape": tensor.size(), "data_offsets": [begin, end] }))
    };
    let mut header: serde_json::Map<String, Value> = tensors.iter().map(&mut entry).collect();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut header = Value::from(header).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(HEADER_STEP) - header.len()));
    let mut out = SummedFile::create(path)?;
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(Error::io(path))?;
    out.write_all(header.as_bytes()).map_err(Error::io(path))?;
    for tensor in tensors.values() {
        in_parts(tensor, |part| out.write_all(part).map_err(Error::io(path)))?;
    }
    out.finish()
}

/// Gives the numbers of a contiguous f32 tensor to `use_part`, part by part, as little-endian bytes.
///
/// # Errors
/// If libtorch refuses a call, or with the error of `use_part`.
pub fn in_parts(tensor: &Tensor, mut use_part: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let flat = tensor.f_detach()?.f_view([-1])?;
    let n = tensor.numel();
    let mut bytes = vec![0u8; n.min(PART) * 4];
    for start in (0..n).step_by(PART) {
        let n_part = PART.min(n - start);
        let part = flat.f_narrow(0, start as i64, n_part as i64)?.f_to_device(Device::Cpu)?;
        part.f_copy_data_u8(&mut bytes[..n_part * 4], n_part)?;
        use_part(&bytes[..n_part * 4])?;
    }
    Ok(())
}

/// A file of tensors, of which nothing is resident but the part that is being read.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Map,
}

impl TensorFile {
    /// Opens a file with this sum and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] if it is damaged or not a file of tensors.
    pub fn open(path: &Path, sum: &FileSum) -> Result<Self> {
        let opened = Self { path: path.to_owned(), map: map_checked(path, sum)? };
        opened.header()?;
        Ok(opened)
    }

    fn header(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(self.map.bytes()).map_err(|error| self.damaged(&error.to_string()))
    }

    fn damaged(&self, what: &str) -> Error {
        Error::File { path: self.path.clone(), problem: format!("the checkpoint is damaged: {what}") }
    }

    /// Whether the file holds a tensor of this name.
    ///
    /// # Errors
    /// [`Error::File`] if the header cannot be read.
    pub fn holds(&self, name: &str) -> Result<bool> {
        Ok(self.header()?.names().contains(&name))
    }

    /// Writes the numbers of a saved tensor into `tensor`, which is contiguous, f32 and of the same shape, on any device.
    ///
    /// # Errors
    /// [`Error::File`] if there is no such tensor, or it is of another size; or if libtorch refuses a call.
    pub fn copy_into(&self, name: &str, tensor: &Tensor) -> Result<()> {
        let file = self.header()?;
        let saved = file
            .tensor(name)
            .map_err(|_| self.damaged(&format!("it holds no tensor `{name}`, so another agent wrote it")))?;
        let n = tensor.numel();
        if saved.dtype() != Dtype::F32 || saved.data().len() != n * 4 {
            return Err(self.damaged(&format!("`{name}` has another size than in this run")));
        }
        let _no_grad = tch::no_grad_guard();
        let first = saved.data().as_ptr() as usize - self.map.bytes().as_ptr() as usize;
        let flat = tensor.f_detach()?.f_view([-1])?;
        for (index, part) in saved.data().chunks(PART * 4).enumerate() {
            let numbers = Tensor::f_from_data_size(part, &[part.len() as i64 / 4], Kind::Float)?;
            let start = index * PART;
            flat.f_narrow(0, start as i64, numbers.size()[0])?.f_copy_(&numbers)?;
            let behind = first + start * 4;
            self.map.forget(behind..behind + part.len()).map_err(Error::io(&self.path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    fn numbers(n: usize) -> Tensor {
        Tensor::f_from_slice(&(0..n).map(|i| (i as f32).sin()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn tensors_of_many_parts_come_back_in_other_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.safetensors");
        let (long, short) = (numbers(2 * PART + 17), numbers(12).view([3, 4]));
        let sum = write(&path, &[("long", &long), ("a.short", &short)], &Metadata::new()).unwrap();
        let file = TensorFile::open(&path, &sum).unwrap();
        let (mut to_long, mut to_short) = (long.zeros_like(), short.zeros_like());
        file.copy_into("long", &to_long).unwrap();
        file.copy_into("a.short", &to_short).unwrap();
        assert!(to_long == long && to_short == short);
        assert!(file.holds("long").unwrap() && !file.holds("other").unwrap());
        for (name, tensor, problem) in
            [("other", &mut to_long, "holds no tensor `other`"), ("long", &mut to_short, "another size")]
        {
            let said = file.copy_into(name, tensor).unwrap_err().to_string();
            assert!(said.contains(problem), "{said}");
        }
    }

    #[test]
    fn the_file_is_what_the_crate_of_safetensors_writes() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (numbers(6).view([2, 3]), numbers(5));
        let facts = Metadata::from([("environment".to_owned(), "market \"1\"".to_owned())]);
        let _ = write(&folder.path().join("ours"), &[("two", &two), ("one", &one)], &facts).unwrap();
        let bytes = |tensor: &Tensor| {
            let mut bytes = Vec::new();
            in_parts(tensor, |part| {
                bytes.extend_from_slice(part);
                Ok(())
            })
            .unwrap();
            bytes
        };
        let (of_one, of_two) = (bytes(&one), bytes(&two));
        let view = |shape: &[usize], bytes| TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
        let views = [("one", view(&[2, 3], &of_one)), ("two", view(&[5], &of_two))];
        let facts = Some(facts.into_iter().collect());
        safetensors::serialize_to_file(views, facts, &folder.path().join("theirs")).unwrap();
        let read = |name: &str| {
            let bytes = std::fs::read(folder.path().join(name)).unwrap();
            let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            (serde_json::from_slice::<Value>(&bytes[8..8 + n]).unwrap(), bytes[8 + n..].to_vec())
        };
        assert_eq!(read("ours"), read("theirs"));
    }

    #[test]
    fn a_file_that_was_cut_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.safetensors");
        let sum = write(&path, &[("one", &numbers(100))], &Metadata::new()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for n_bytes in [0, 7, 30, whole.len() - 1] {
            let cut = &whole[..n_bytes];
            std::fs::write(&path, cut).unwrap();
            // Also where the sum is that of the cut file.
            let of_cut = FileSum { n_bytes: n_bytes as u64, crc32: crc32fast::hash(cut) };
            for sum in [sum, of_cut] {
                let error = TensorFile::open(&path, &sum).unwrap_err();
                assert!(matches!(error, Error::File { .. }), "{n_bytes}: {error}");
            }
        }
    }
}
