//! Reading any bytes as a replay file gives an answer or an error: it does not panic and does not allocate without bound.
//! The target reads the bytes in memory and as a file, chunk by chunk, and windows of every stream.
#![no_main]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use buffers::frames::FrameStream;
use buffers::store::{self, ChunkReader};
use buffers_fuzz::file_of;

/// A file without a name, in `/dev/shm` if there is one, and the path by which this process opens it. Each input
/// overwrites it.
static FILE: LazyLock<(File, PathBuf)> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let path = folder.join(format!("plimsoll-fuzz-{}", std::process::id()));
    let file = File::create(&path).expect("a file can be made");
    std::fs::remove_file(&path).expect("what was made can be removed");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    (file, path.into())
});
/// The most rows of a window.
const LONGEST_WINDOW: usize = 20;
/// The most bytes of the file that may be resident through mappings.
const WINDOW_BYTES: u64 = 1 << 20;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let file = file_of(input);
    let answered = read_bytes(&file);
    let (on_disk, path) = &*FILE;
    on_disk.set_len(0).and_then(|()| on_disk.write_all_at(&file, 0)).expect("a small file can be written");
    let opened = read_file(path);
    assert_eq!(opened, answered, "bytes and files are read alike");
});

/// Whether the bytes are a replay file. Checks that every damage lies inside it.
fn read_bytes(file: &[u8]) -> bool {
    let Ok(found) = store::read_bytes(file) else { return false };
    assert_eq!(found.file_bytes, file.len() as u64);
    assert!(found.uncommitted_bytes <= found.file_bytes);
    for damage in &found.damages {
        let end = damage.offset.checked_add(damage.n_bytes);
        assert!(end.is_some_and(|end| end <= found.file_bytes.max(4096)), "{damage} lies outside the file");
    }
    assert!(!found.to_string().is_empty());
    true
}

/// Whether the file can be opened. Reads all that it holds.
fn read_file(path: &Path) -> bool {
    let Ok(reader) = ChunkReader::open(path) else { return false };
    for entry in reader.index().entries() {
        if let Ok(rows) = reader.file().rows(entry) {
            assert_eq!(rows.len() as u64, entry.raw_bytes());
        }
    }
    for window_bytes in [0, WINDOW_BYTES] {
        reader.file().limit_window(window_bytes);
        for stream in reader.index().streams() {
            let restored = FrameStream::restore(&reader, stream).expect("damage is no error here");
            let stream = restored.expect("a stream of the index has chunks").stream;
            read_windows(&stream);
        }
    }
    true
}

/// Reads windows over the first and the last rows of a stream, with and without a stride.
fn read_windows(stream: &FrameStream) {
    let (first, after) = (stream.first_row(), stream.n_rows());
    let n_rows = after.saturating_sub(first).min(LONGEST_WINDOW);
    let row_bytes = stream.width() * stream.kind().number_bytes();
    if n_rows == 0 || row_bytes > 1 << 20 {
        return;
    }
    let mut rows = vec![0; n_rows * row_bytes];
    for end in [first + n_rows - 1, after - 1] {
        for (length, stride) in [(n_rows, 1), (1, 1), (n_rows.div_ceil(3), 3)] {
            let out = &mut rows[..length * row_bytes];
            if let Err(error) = stream.copy_window_bytes(end, length, stride, out) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}
