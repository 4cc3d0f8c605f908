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
        let mut read = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }
}
