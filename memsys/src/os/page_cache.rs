//! The system's cache of a file's pages.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Tells the system that the file's pages are not needed in its cache. Pages that are dirty or mapped by a process stay.
///
/// # Errors
/// What the system says.
pub fn forget_cached(file: &File) -> io::Result<()> {
    // SAFETY: takes no pointers; the descriptor is open for the length of the call.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Has the system begin to read a part of a file that will be read soon, without waiting for it. Returns whether it
/// took the advice; where not, the read waits.
pub fn will_need(file: &File, offset: u64, n_bytes: usize) -> bool {
    let (offset, n_bytes) = (offset as libc::off_t, n_bytes as libc::off_t);
    // SAFETY: takes no pointers; the descriptor is open for the length of the call.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, n_bytes, libc::POSIX_FADV_WILLNEED) == 0 }
}

/// Tells the system that a file is read here and there, so that it reads nothing ahead by itself. Returns whether
/// it took the advice.
pub fn read_randomly(file: &File) -> bool {
    // SAFETY: takes no pointers; the descriptor is open for the length of the call.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) == 0 }
}

/// Bytes that disks have read for this thread since it began; 0 where the system does not say.
#[must_use]
pub fn bytes_read_by_this_thread() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` has room for what the system writes, and a zeroed one is a valid one.
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
    fn a_file_whose_pages_were_forgotten_reads_the_same() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
        forget_cached(&file).unwrap();
        assert!(read_randomly(&file));
        let before = bytes_read_by_this_thread();
        assert!(will_need(&file, 5000, 30_000));
        assert!(bytes_read_by_this_thread() >= before);
        let mut read = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }
}
