//! Parts of a file as read-only memory.

use std::fs::File;
use std::io::Result;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};

use crate::os::guarded_read::read_guarded;

/// How mapped bytes will be read, as advice to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// At random positions: the kernel reads nothing ahead.
    Random,
    /// From front to back: the kernel reads ahead.
    Sequential,
}

/// A read-only mapping of a part of a file, which ends when it is dropped.
#[derive(Debug)]
pub struct Map {
    map: Mmap,
    /// Whether some of the bytes were found to be gone.
    is_lost: AtomicBool,
}

impl Map {
    /// Maps `n_bytes` of `file` from `offset` on.
    ///
    /// The caller must guarantee that the mapped bytes are written already, and that neither this process nor another one
    /// overwrites them while the map lives. A file of append-only records under a writer's lock keeps to this, as long as
    /// the mapping ends where the records end. Read through [`guarded`](Self::guarded) where another program may truncate
    /// the file.
    ///
    /// # Errors
    /// The kernel's error if it refuses the mapping.
    pub fn of(file: &File, offset: u64, n_bytes: usize) -> Result<Self> {
        // SAFETY: the mapping is read-only and shared. Its bytes do not change while it lives: they are records
        // that are appended once and never rewritten, the mapping ends where the records end, and a writer, which
        // holds the file's exclusive lock, cuts off only what lies behind the last committed record.
        unsafe { MmapOptions::new().offset(offset).len(n_bytes).map(file) }
            .map(|map| Self { map, is_lost: AtomicBool::new(false) })
    }

    /// The mapped bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Calls `read`, which may read the mapped [`bytes`](Self::bytes), also where the file was cut off or its disk fails:
    /// elsewhere such a read ends the process. What was read before that was found is thrown away.
    ///
    /// # Errors
    /// If some of the bytes are gone or cannot be read. The mapping is then of no use any more.
    pub fn guarded<T>(&self, read: impl FnOnce() -> T) -> Result<T> {
        read_guarded(&self.map, &self.is_lost, read)
    }

    /// Tells the kernel how the bytes will be read.
    ///
    /// # Errors
    /// The kernel's error if it refuses the advice.
    pub fn advise(&self, access: Access) -> Result<()> {
        self.map.advise(match access {
            Access::Random => Advice::Random,
            Access::Sequential => Advice::Sequential,
        })
    }

    /// Makes the pages of a range of bytes no longer resident. They can still be read: the kernel then takes them from the
    /// file again. Whoever reads a large file once calls this behind its position, so that it never holds the whole file.
    ///
    /// # Errors
    /// The kernel's error if it refuses the advice.
    pub fn forget(&self, range: Range<usize>) -> Result<()> {
        let end = range.end.min(self.map.len());
        let Some(n_bytes) = end.checked_sub(range.start).filter(|n| *n > 0) else { return Ok(()) };
        // SAFETY: the mapping is read-only and shared, so its pages hold nothing that the file does not hold, and a read
        // after this gives the same bytes as before.
        unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, n_bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_map_holds_the_bytes_of_the_file_under_every_advice() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        let map = Map::of(&file, 4096, 15_000).unwrap();
        for access in [Access::Random, Access::Sequential] {
            map.advise(access).unwrap();
            assert_eq!(map.bytes(), &bytes[4096..19_096]);
        }
    }

    #[test]
    fn forgotten_bytes_are_not_resident_and_read_the_same() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        let map = Map::of(&file, 0, bytes.len()).unwrap();
        let resident_bytes = || {
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let address = format!("{:x}-", map.bytes().as_ptr() as usize);
            let of_map = smaps.lines().skip_while(|line| !line.starts_with(&address));
            let line = of_map.into_iter().find(|line| line.starts_with("Rss:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
        };
        assert_eq!(map.bytes(), bytes);
        assert!(resident_bytes() >= bytes.len());
        map.forget(0..4_000_000).unwrap();
        assert!(resident_bytes() <= bytes.len() - 3_900_000);
        map.forget(4_000_000..usize::MAX).unwrap();
        assert_eq!(resident_bytes(), 0);
        assert_eq!(map.bytes(), bytes);
    }
}
