//! Files for spilled activations. They have no name in their folder, so none outlives the process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::libtorch::{self, Spill};
use crate::os;

/// How often no file could be made in a spill folder.
static N_NOT_MADE: AtomicU64 = AtomicU64::new(0);

/// What all scopes of the process hold in spill files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpilledBytes {
    /// Bytes of storages that wait for backward.
    pub live_bytes: u64,
    /// Total length of the spill files.
    pub file_bytes: u64,
}

/// Reads the counts, which are two atomics.
#[must_use]
pub fn spilled_bytes() -> SpilledBytes {
    let (live_bytes, file_bytes) = libtorch::spilled_bytes();
    SpilledBytes { live_bytes, file_bytes }
}

/// Checks that activations can be spilled into a folder: a file can be made there, and its bytes go to a disk. In a file
/// system that lies in memory, spilled bytes would still be the process's, and no limit but the kernel's would hold them.
///
/// # Errors
/// [`Error::SpillFolder`] if no file can be made there, [`Error::SpillFolderInMemory`].
pub fn check_spill_folder(folder: &Path) -> Result<()> {
    let named = |source| Error::SpillFolder { folder: folder.to_path_buf(), source };
    let file = make(folder).map_err(named)?;
    if os::lies_in_memory(&file).map_err(named)? {
        return Err(Error::SpillFolderInMemory { folder: folder.to_path_buf() });
    }
    Ok(())
}

/// How often a spill file of the process could not be made, written or read. A step that failed for this reason can be
/// made again without a spill.
#[must_use]
pub fn n_failed_spills() -> u64 {
    N_NOT_MADE.load(Ordering::Relaxed) + libtorch::n_failed_spills()
}

pub(super) fn open(folder: &Path, threshold_bytes: u64) -> Result<Spill<'_>> {
    match make(folder) {
        Ok(file) => Ok(Spill { file: file.into(), folder, threshold_bytes }),
        Err(source) => {
            N_NOT_MADE.fetch_add(1, Ordering::Relaxed);
            Err(Error::SpillFolder { folder: folder.to_path_buf(), source })
        }
    }
}

fn make(folder: &Path) -> io::Result<File> {
    nameless(folder).or_else(|error| match error.raw_os_error() {
        // The errors of file systems and kernels that do not support O_TMPFILE.
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL) => unlinked(folder),
        _ => Err(error),
    })
}

fn nameless(folder: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(folder)
}

fn unlinked(folder: &Path) -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".activations-{}-{number}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
