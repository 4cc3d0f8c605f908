//! Advice to the kernel about its cache of a file's pages.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Drops the file's pages from the kernel's cache. Pages that are dirty, or that a process maps, stay.
///
/// # Errors
/// The kernel's error if it refuses.
pub fn forget_cached(file: &File) -> io::Result<()> {
    // SAFETY: takes no pointers; the descriptor is open for the length of the call.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Makes the kernel begin to read a part of a file into its cache, without waiting for it. Returns whether the kernel
/// took the advice; if not, a later read waits for the disk.
pub fn will_need(file: &File, offset: u64, n_bytes: usize) -> bool {
    let (offset, n_bytes) = (offset as libc::off_t, n_bytes as libc::off_t);
    // SAFETY: takes no pointers; the descriptor is open for the length of the call.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, n_bytes, libc::POSIX_FADV_WILLNEED) == 0 }
}

/// Tells the kernel that a file is read at random positions, so that it reads nothing ahead. Returns whether the kernel
/// took the advice.
pub fn read_randomly(file: &File) -> bool {
    // SAFETY: takes no pointers; the descriptor is open for the length of the call.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) == 0 }
}

/// Bytes that disks have read for this thread since it began; 0 if the kernel does not tell.
#[must_use]
pub fn bytes_read_by_this_thread() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` has room for what the kernel writes, and a zeroed `rusage` is valid.
    let inblock = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_inblock
    };
    u64::try_from(inblock).unwrap_or(0) * 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_file_whose_pages_were_dropped_reads_the_same() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
        forget_cached(&file).unwrap();
        assert!(read_randomly(&file));
        assert!(will_need(&file, 5000, 30_000));
        let mut read = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }

    #[test]
    fn advice_about_a_pipe_is_refused() {
        let (reader, _writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        assert_eq!(forget_cached(&file).unwrap_err().raw_os_error(), Some(libc::ESPIPE));
        assert!(!will_need(&file, 0, 4096) && !read_randomly(&file));
    }
}
