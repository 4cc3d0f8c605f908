//! The window: the parts of a file that are read through mappings, bounded and counted.
//!
//! A page of a mapping becomes resident when it is touched, and reading single rows all over a large file touches every
//! page. So the window counts touched pages in grains of 64 KiB, which is what the system maps around a page fault. Beyond
//! the limit each row takes a read call; inside the window it takes none.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, RwLock};

use memsys::ledger::Owner;
use memsys::ledger::reservation::Reservation;
use memsys::os::prefetch;
use memsys::os::{Access, Map};

/// Bytes that a page fault may make resident.
const GRAIN_BYTES: u64 = 64 << 10;
/// Bytes of a mapping. The last mapping of a file is shorter.
const SEGMENT_BYTES: u64 = 4 << 20;
const _: () = assert!(SEGMENT_BYTES / GRAIN_BYTES == u64::BITS as u64, "one bit per grain");
/// The step in which bytes are reserved.
const STEP_BYTES: u64 = 1 << 20;
/// The last mapping is replaced when the file has grown by this much.
const GROWN_BYTES: usize = 256 << 10;
/// After this many misses per grain of its limit the window is cleared, because it does not hold what is read.
const MISSES_PER_GRAIN: u64 = 64;

/// A mapped part of the file, and a bit for each touched grain of it.
#[derive(Debug)]
struct Segment {
    map: Map,
    touched: AtomicU64,
}

/// The window of one file.
#[derive(Debug)]
pub(super) struct Window {
    limit_bytes: AtomicU64,
    segments: RwLock<Vec<Option<Segment>>>,
    n_grains: AtomicU64,
    n_misses: AtomicU64,
    reservation: Mutex<Reservation>,
}

impl Default for Window {
    /// A window with a limit of 0 bytes.
    fn default() -> Self {
        Self {
            limit_bytes: AtomicU64::new(0),
            segments: RwLock::new(Vec::new()),
            n_grains: AtomicU64::new(0),
            n_misses: AtomicU64::new(0),
            reservation: Mutex::new(Reservation::declared(Owner::named("run/replay/window"))),
        }
    }
}

impl Window {
    /// Limits the bytes that may be resident.
    pub(super) fn limit_to(&self, bytes: u64) {
        self.limit_bytes.store(bytes, Relaxed);
        if bytes < self.bytes() {
            self.clear();
        }
    }

    /// Bytes that may be resident.
    pub(super) fn bytes(&self) -> u64 {
        self.n_grains.load(Relaxed) * GRAIN_BYTES
    }

    /// Unmaps all pages and returns the most bytes that they can have had.
    pub(super) fn clear(&self) -> u64 {
        self.clear_segments(&mut self.segments.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// As [`Self::clear`], or nothing while a thread reads. The thread that asks may be that one.
    pub(super) fn try_clear(&self) -> Option<u64> {
        Some(self.clear_segments(&mut *self.segments.try_write().ok()?))
    }

    fn clear_segments(&self, segments: &mut Vec<Option<Segment>>) -> u64 {
        segments.clear();
        self.n_misses.store(0, Relaxed);
        let bytes = self.n_grains.swap(0, Relaxed) * GRAIN_BYTES;
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner).set(0);
        bytes
    }

    /// Calls `take` with the bytes from `offset` on and returns true, if they are in the window or fit into it. `written` is
    /// the length of the file that may be mapped.
    ///
    /// # Errors
    /// If the file was cut off or cannot be read. What `take` was given is then wrong.
    pub(super) fn read(
        &self,
        file: &File,
        offset: u64,
        n_bytes: usize,
        written: u64,
        take: &mut dyn FnMut(&[u8]),
    ) -> std::io::Result<bool> {
        let limit = self.limit_bytes.load(Relaxed);
        let number = offset / SEGMENT_BYTES;
        let start = offset - number * SEGMENT_BYTES;
        let end = start + n_bytes as u64;
        if limit == 0 || n_bytes == 0 || end > SEGMENT_BYTES || offset + n_bytes as u64 > written {
            return Ok(false);
        }
        let index = number as usize;
        loop {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            let mappable = (written - number * SEGMENT_BYTES).min(SEGMENT_BYTES) as usize;
            let mapped = segments
                .get(index)
                .and_then(Option::as_ref)
                .map(|segment| (segment, segment.map.bytes().len()));
            let is_due = |n_bytes: usize| {
                mappable >= n_bytes + GROWN_BYTES || (n_bytes < mappable && mappable as u64 == SEGMENT_BYTES)
            };
            if let Some((segment, n_bytes)) =
                mapped.filter(|(_, n_bytes)| *n_bytes as u64 >= end || !is_due(*n_bytes))
            {
                if (n_bytes as u64) < end {
                    return Ok(false);
                }
                let is_in = self.touch(segment, start / GRAIN_BYTES..=(end - 1) / GRAIN_BYTES, limit);
                if is_in {
                    let bytes = &segment.map.bytes()[start as usize..end as usize];
                    let taken = segment.map.guarded(|| take(bytes));
                    drop(segments);
                    if taken.is_err() {
                        // A later read maps the file anew, and finds what is there then.
                        self.clear();
                    }
                    return taken.map(|()| true);
                }
                drop(segments);
                if self.n_misses.fetch_add(1, Relaxed) > MISSES_PER_GRAIN * (limit / GRAIN_BYTES) {
                    self.clear();
                }
                return Ok(false);
            }
            drop(segments);
            if !self.map(file, index, mappable) {
                return Ok(false);
            }
        }
    }

    /// Prefetches the bytes from `offset` on into the processor's cache, if they are in the window.
    pub(super) fn prefetch(&self, offset: u64, n_bytes: usize) {
        let number = offset / SEGMENT_BYTES;
        let start = offset - number * SEGMENT_BYTES;
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Some(segment)) = segments.get(number as usize) else { return };
        let Some(bytes) = segment.map.bytes().get(start as usize..start as usize + n_bytes) else { return };
        let touched = segment.touched.load(Relaxed);
        let mut grains = start / GRAIN_BYTES..=(start + n_bytes as u64).saturating_sub(1) / GRAIN_BYTES;
        if grains.all(|grain| touched >> grain & 1 == 1) {
            prefetch(bytes);
        }
    }

    /// Marks `grains` as touched. Returns false if the limit has no room for them.
    fn touch(&self, segment: &Segment, mut grains: std::ops::RangeInclusive<u64>, limit: u64) -> bool {
        let touched = segment.touched.load(Relaxed);
        if grains.clone().all(|grain| touched >> grain & 1 == 1) {
            return true;
        }
        grains.all(|grain| {
            if segment.touched.fetch_or(1 << grain, Relaxed) >> grain & 1 == 1 {
                return true;
            }
            let n_grains = self.n_grains.fetch_add(1, Relaxed) + 1;
            let is_in = n_grains * GRAIN_BYTES <= limit && self.reserve(n_grains * GRAIN_BYTES);
            if !is_in {
                segment.touched.fetch_and(!(1 << grain), Relaxed);
                self.n_grains.fetch_sub(1, Relaxed);
            }
            is_in
        })
    }

    fn reserve(&self, bytes: u64) -> bool {
        let mut reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner);
        bytes <= reservation.bytes() || reservation.set_if_room(bytes.next_multiple_of(STEP_BYTES))
    }

    /// Maps a segment and replaces a shorter mapping of it.
    fn map(&self, file: &File, index: usize, n_bytes: usize) -> bool {
        let mapped = Map::of(file, index as u64 * SEGMENT_BYTES, n_bytes)
            .and_then(|map| map.advise(Access::Random).map(|()| map));
        let Ok(map) = mapped else { return false };
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if segments.len() <= index {
            segments.resize_with(index + 1, || None);
        }
        if segments[index].as_ref().is_none_or(|segment| segment.map.bytes().len() < n_bytes) {
            let shorter = segments[index].replace(Segment { map, touched: AtomicU64::new(0) });
            let n_grains = shorter.map_or(0, |segment| segment.touched.load(Relaxed).count_ones());
            self.n_grains.fetch_sub(u64::from(n_grains), Relaxed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_read_through_the_window_is_the_file_and_never_more_than_its_limit() {
        let mut file = tempfile::tempfile().unwrap();
        let n_bytes = 3 * SEGMENT_BYTES + 1000;
        let byte = |at: u64| (at * 31 / 7) as u8;
        file.write_all(&(0..n_bytes).map(byte).collect::<Vec<_>>()).unwrap();
        let window = Window::default();
        let read = |offset: u64, n: usize| {
            let mut found = None;
            let take = &mut |bytes: &[u8]| found = Some(bytes.to_vec());
            let is_in = window.read(&file, offset, n, n_bytes, take).unwrap();
            assert_eq!(is_in, found.is_some());
            if let Some(found) = found {
                assert_eq!(found, (offset..offset + n as u64).map(byte).collect::<Vec<_>>());
            }
            is_in
        };
        assert!(!read(0, 10), "nothing is read through a window of no bytes");
        window.limit_to(4 * GRAIN_BYTES);
        assert!(read(0, 100) && read(GRAIN_BYTES - 50, 100) && read(SEGMENT_BYTES + 5, 1));
        assert!(!read(SEGMENT_BYTES - 5, 10), "over a border");
        assert!(!read(3 * SEGMENT_BYTES + 995, 10), "over the end");
        assert!(read(2 * SEGMENT_BYTES, 1) && !read(2 * SEGMENT_BYTES + GRAIN_BYTES, 1));
        assert_eq!(window.bytes(), 4 * GRAIN_BYTES);
        assert!(read(0, 1), "what is in the window stays");
        let reading = window.segments.read().unwrap();
        assert_eq!(window.try_clear(), None, "a thread that reads may itself ask for memory");
        drop(reading);
        assert_eq!((window.try_clear(), window.bytes()), (Some(4 * GRAIN_BYTES), 0));
        let n_in = (0..2000).filter(|i| read(i * 7919 % (3 * SEGMENT_BYTES - 64), 64)).count();
        assert!(n_in > 0 && window.bytes() <= 4 * GRAIN_BYTES);
        window.clear();
        assert!(read(3 * SEGMENT_BYTES, 1000));
        window.limit_to(0);
        assert_eq!(window.bytes(), 0);
    }

    #[test]
    fn a_read_of_what_was_cut_off_is_an_error_and_the_window_goes_on_with_the_rest() {
        let file = tempfile::tempfile().unwrap();
        let n_bytes = 2 * SEGMENT_BYTES;
        file.set_len(n_bytes).unwrap();
        let window = Window::default();
        window.limit_to(u64::MAX);
        let read =
            |offset: u64| window.read(&file, offset, 100, n_bytes, &mut |bytes| assert_eq!(bytes, [0; 100]));
        assert!(read(0).unwrap() && read(SEGMENT_BYTES + 500_000).unwrap());
        file.set_len(SEGMENT_BYTES).unwrap();
        assert!(read(SEGMENT_BYTES + 500_000).is_err());
        assert!(read(SEGMENT_BYTES + 5).is_err() && read(0).unwrap());
        file.set_len(n_bytes).unwrap();
        assert!(read(SEGMENT_BYTES + 500_000).unwrap());
    }

    #[test]
    fn what_a_file_grows_by_comes_into_the_window_a_step_at_a_time() {
        let mut file = tempfile::tempfile().unwrap();
        let window = Window::default();
        window.limit_to(u64::MAX);
        let (mut n_bytes, mut n_in) = (0u64, 0);
        for step in 0..80u8 {
            file.write_all(&[step; 64 << 10]).unwrap();
            n_bytes += 64 << 10;
            let is_in = window
                .read(&file, n_bytes - 10, 10, n_bytes, &mut |bytes| assert_eq!(bytes, [step; 10]))
                .unwrap();
            n_in += u32::from(is_in);
            let first = window.read(&file, 0, 10, n_bytes, &mut |bytes| assert_eq!(bytes, [0; 10]));
            assert!(first.unwrap());
        }
        assert!((20..40).contains(&n_in), "{n_in}");
        assert!(window.bytes() <= n_bytes.next_multiple_of(GRAIN_BYTES) + GRAIN_BYTES);
    }
}
