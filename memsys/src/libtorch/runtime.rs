//! The libtorch that this process has loaded: its folder, its version, and its CUDA library if it has one.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The version of libtorch that this program is built for.
pub const LIBTORCH_VERSION: &str = "2.11.0";

/// The loaded libtorch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// The folder that libtorch was loaded from.
    pub folder: PathBuf,
    /// The version that its folder states, such as `2.11.0+cu130`; empty if the folder does not state one.
    pub version: String,
    /// Whether CUDA can be used.
    pub cuda: bool,
}

/// The folder of the `libtorch_cpu.so` that this process has loaded.
#[must_use]
pub fn resident_libtorch() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = &line[line.find('/')?..];
    Path::new(path).parent().map(Path::to_path_buf)
}

fn stated_version(folder: &Path) -> Option<String> {
    let root = folder.parent()?;
    if let Ok(text) = std::fs::read_to_string(root.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = std::fs::read_to_string(root.join("version.py")).ok()?;
    let line = text.lines().find(|line| line.starts_with("__version__"))?;
    Some(line.split('\'').nth(1)?.to_owned())
}

/// Checks the loaded libtorch and opens its CUDA library if that is present and usable.
///
/// # Errors
/// [`Error::WrongLibtorch`] if libtorch states another version than this program is built for.
pub fn open() -> Result<Runtime> {
    let folder = resident_libtorch().unwrap_or_default();
    let version = stated_version(&folder).unwrap_or_default();
    if !version.is_empty() && version.split('+').next() != Some(LIBTORCH_VERSION) {
        return Err(Error::WrongLibtorch { folder, found: version, wanted: LIBTORCH_VERSION });
    }
    // The linker drops libtorch_cuda.so from a program that uses none of its symbols, so it is opened here; its
    // initialisers register the CUDA kernels. Without a driver its 450 MB would be of no use.
    let cuda = open_library(Path::new("libcuda.so.1"))
        && open_library(&folder.join("libtorch_cuda.so"))
        && tch::Cuda::is_available();
    Ok(Runtime { folder, version, cuda })
}

fn open_library(path: &Path) -> bool {
    let Ok(name) = CString::new(path.as_os_str().as_encoded_bytes()) else { return false };
    // SAFETY: `name` is NUL-terminated. The library's initialisers run; they are libtorch's or the driver's own,
    // made to be loaded so. The handle is never closed, so nothing of the library can dangle.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    !handle.is_null()
}
