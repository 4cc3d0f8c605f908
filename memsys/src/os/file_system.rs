//! What a file system is made of.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that a process without privileges can still write to the file system of a folder.
///
/// # Errors
/// The kernel's error if it does not say.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let folder = CString::new(folder.as_os_str().as_bytes())?;
    let mut of_kernel = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends in a NUL and outlives the call, and the C library writes one `statvfs` into the room for it.
    if unsafe { libc::statvfs(folder.as_ptr(), of_kernel.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every bit pattern of its integers is valid, and the C library has filled it.
    let of_kernel = unsafe { of_kernel.assume_init() };
    Ok(of_kernel.f_bavail.saturating_mul(of_kernel.f_frsize))
}

/// The kernel's numbers of the file systems whose files lie in memory.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// Whether the bytes of a file lie in memory, as those of /dev/shm do. Such bytes count to the process's control group like
/// its own.
///
/// # Errors
/// The kernel's error if it does not say.
pub fn lies_in_memory(file: &File) -> io::Result<bool> {
    let mut of_kernel = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the descriptor is open for the length of the call, and the kernel writes one `statfs` into the room for it.
    if unsafe { libc::fstatfs(file.as_raw_fd(), of_kernel.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every bit pattern of its integers is valid, and the kernel has filled it.
    let kind = unsafe { of_kernel.assume_init() }.f_type as u64;
    Ok(kind == TMPFS || kind == RAMFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_tells_its_free_bytes_and_a_missing_folder_none() {
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert!(free_bytes(Path::new("/no/such/folder")).is_err());
    }

    #[test]
    fn a_file_of_shared_memory_lies_in_memory_and_one_on_a_disk_does_not() {
        let of = |folder: &str| lies_in_memory(&tempfile::tempfile_in(folder).unwrap()).unwrap();
        assert!(of("/dev/shm"));
        assert!(!of(env!("CARGO_MANIFEST_DIR")));
    }
}
