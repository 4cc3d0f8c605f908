//! Files that are damaged, cut off, torn, of other kinds, or written twice.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::error::Error;
use crate::frames::FrameStream;
use crate::store::file::tests::crash::{chunk_rows, encoded, identity};
use crate::store::*;

const STREAMS: u32 = 2;

/// Writes `n` chunks of two streams in turn, with a commit after each. Returns where the head and each chunk end.
fn write(path: &Path, n: u64) -> Vec<u64> {
    let mut writer = ChunkWriter::open(path).unwrap().0;
    let mut ends = vec![4096];
    for i in 0..n {
        let (stream, number) = ((i % u64::from(STREAMS)) as u32, i / u64::from(STREAMS));
        let entry = writer.append(identity(stream, number), &encoded(stream, number)).unwrap();
        writer.commit(Durability::Process).unwrap();
        ends.push(entry.end());
    }
    ends
}

/// Compares each readable chunk with what was written. Returns how many there are, and the errors of the others.
fn readable(reader: &ChunkReader) -> (usize, Vec<Error>) {
    let mut refused = Vec::new();
    let mut n = 0;
    for entry in reader.index().entries() {
        match reader.file().rows(entry) {
            Ok(rows) => {
                assert_eq!(rows, chunk_rows(entry.identity.stream, entry.identity.number));
                n += 1;
            }
            Err(error) => refused.push(error),
        }
    }
    (n, refused)
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_named_and_the_rest_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, path) = (folder.path().join("whole"), folder.path().join("flipped"));
    let n = 4;
    write(&whole, n as u64);
    let bytes = fs::read(&whole).unwrap();
    assert!(verify(&whole).unwrap().is_clean());
    for at in 0..bytes.len() {
        let bit = (at * 5 % 8) as u8;
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        let found = read_bytes(&flipped).unwrap();
        assert_eq!(found.damages.len(), 1, "byte {at}: {found}");
        let damage = found.damages[0];
        assert_eq!((damage.offset, damage.n_bytes, damage.bit), (at as u64, 1, Some(bit)), "{found}");
        assert_eq!(damage.chunk.is_some(), at >= 4096, "{found}");
        assert_eq!(found.n_chunks, n as u64 - u64::from(at >= 4096));
        // Writing files is slow, so of the head only every 7th byte is tested through a file.
        if at < 4096 && at % 7 != 0 {
            continue;
        }
        fs::write(&path, &flipped).unwrap();
        assert_eq!(verify(&path).unwrap(), found);
        let reader = ChunkReader::open(&path).unwrap();
        let (served, refused) = readable(&reader);
        assert_eq!((served as u64, served + refused.len()), (found.n_chunks, n));
        let (stream, number) = damage.chunk.unwrap_or_default();
        for error in refused {
            let Error::Damaged { damage: named, .. } = &error else { panic!("{error}") };
            assert_eq!(named, &damage);
            assert!(error.to_string().contains(&format!("bit {bit} of byte {at} ")), "{error}");
            let restored = FrameStream::restore(&reader, stream).unwrap().unwrap().stream;
            let mut row = [0f32; 2];
            let first = number as usize * restored.chunk_rows();
            assert!(matches!(restored.try_copy_window(first, 1, 1, &mut row), Err(Error::Damaged { .. })));
            let other = if number == 0 { first + restored.chunk_rows() } else { 0 };
            restored.try_copy_window(other, 1, 1, &mut row).unwrap();
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_serves_what_lies_before_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, path) = (folder.path().join("whole"), folder.path().join("cut"));
    let ends = write(&whole, 4);
    let bytes = fs::read(&whole).unwrap();
    for length in 0..bytes.len() {
        let cut = &bytes[..length];
        let n_before = ends[1..].iter().filter(|end| **end <= length as u64).count();
        match read_bytes(cut) {
            Ok(found) => {
                assert!(length >= 4096 && !found.is_clean());
                assert_eq!(found.n_chunks, n_before as u64);
                assert_eq!(found.missing_bytes, (bytes.len() - length) as u64);
            }
            Err(error) => assert!(length < 4096 && matches!(error, Error::Truncated { .. }), "{error}"),
        }
        if length < 4096 && length % 61 != 0 {
            continue;
        }
        fs::write(&path, cut).unwrap();
        match ChunkReader::open(&path) {
            Ok(reader) => {
                let (served, refused) = readable(&reader);
                assert_eq!((served, refused.len()), (n_before, 0));
                assert_eq!(reader.missing_bytes(), (bytes.len() - length) as u64);
            }
            Err(error) => assert!(length < 4096 && matches!(error, Error::Truncated { .. }), "{error}"),
        }
        if length > 0 {
            assert!(matches!(ChunkWriter::open(&path), Err(Error::Truncated { .. })));
            assert_eq!(fs::read(&path).unwrap(), cut, "a refused file is left as it is");
        }
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_its_length_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let ends = write(&path, 3);
    let committed = fs::read(&path).unwrap();
    let mut writer = ChunkWriter::open(&path).unwrap().0;
    writer.append(identity(0, 9), &encoded(0, 9)).unwrap();
    drop(writer);
    let uncommitted = fs::read(&path).unwrap();
    for length in committed.len() + 1..=uncommitted.len() {
        fs::write(&path, &uncommitted[..length]).unwrap();
        assert_eq!(verify(&path).unwrap().uncommitted_bytes, (length - committed.len()) as u64);
        assert_eq!(readable(&ChunkReader::open(&path).unwrap()).0, 3);
        let (writer, opened) = ChunkWriter::open(&path).unwrap();
        assert_eq!(opened.torn_bytes, (length - committed.len()) as u64);
        assert!(opened.to_string().starts_with(&format!("{} bytes that were", opened.torn_bytes)));
        assert_eq!(writer.index().entries().count(), 3);
        assert_eq!(fs::metadata(&path).unwrap().len(), *ends.last().unwrap());
    }
    assert_eq!(fs::read(&path).unwrap(), committed);
}

#[test]
fn a_commit_that_wrote_one_mark_is_mended_on_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    write(&path, 2);
    let before = fs::read(&path).unwrap();
    write(&folder.path().join("more"), 3);
    let after = fs::read(folder.path().join("more")).unwrap();
    // The first mark of the later commit and the second mark of the one before.
    let between = [&after[..2048], &before[2048..4096], &after[4096..]].concat();
    fs::write(&path, &between).unwrap();
    assert!(verify(&path).unwrap().is_clean());
    let (writer, opened) = ChunkWriter::open(&path).unwrap();
    assert_eq!((opened.torn_bytes, writer.index().entries().count()), (0, 3));
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), after);
}

#[test]
fn many_chunks_are_found_by_the_index_and_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let n = 1200;
    write(&path, n);
    let reader = ChunkReader::open(&path).unwrap();
    assert_eq!(readable(&reader).0, n as usize);
    let bytes = fs::read(&path).unwrap();
    let blocks: Vec<usize> =
        (4096..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"INDX")).collect();
    assert_eq!(blocks.len(), 4);
    for (block, offset) in
        blocks.iter().flat_map(|block| [(block, 3), (block, 20), (block, 63), (block, 900)])
    {
        let mut flipped = bytes.clone();
        flipped[block + offset] ^= 4;
        fs::write(&path, &flipped).unwrap();
        let reader = ChunkReader::open(&path).unwrap();
        let (served, refused) = readable(&reader);
        assert_eq!((served, refused.len()), (n as usize, 0));
        let found = verify(&path).unwrap();
        assert_eq!(found.n_chunks, n);
        assert_eq!(found.damages.len(), 1, "{found}");
        assert_eq!(
            (found.damages[0].part, found.damages[0].offset),
            (FilePart::Index, (block + offset) as u64)
        );
    }
    // More than one bit of a header is damaged: the index names its chunk, and the walk continues after it.
    let entry = *reader.index().chunk(1, 7).unwrap();
    let mut broken = bytes.clone();
    broken[entry.offset as usize..][..40].fill(0xAA);
    let found = read_bytes(&broken).unwrap();
    assert_eq!((found.n_chunks, found.damages.len()), (n - 1, 1));
    assert_eq!((found.damages[0].chunk, found.damages[0].offset), (Some((1, 7)), entry.offset));
    fs::write(&path, &broken).unwrap();
    let (served, refused) = readable(&ChunkReader::open(&path).unwrap());
    assert_eq!((served as u64, refused.len()), (n - 1, 1));
    // If the index is damaged too, only that chunk is lost, and its stream reports it.
    broken[*blocks.last().unwrap() + 70] ^= 1;
    fs::write(&path, &broken).unwrap();
    let reader = ChunkReader::open(&path).unwrap();
    assert_eq!(readable(&reader).0 as u64, n - 1);
    let restored = FrameStream::restore(&reader, 1).unwrap().unwrap().stream;
    let mut row = [0f32; 2];
    let error = restored.try_copy_window(7 * restored.chunk_rows(), 1, 1, &mut row).unwrap_err();
    assert!(error.to_string().ends_with("a record is lost: chunk 7 of stream 1 is refused"), "{error}");
    restored.try_copy_window(8 * restored.chunk_rows(), 1, 1, &mut row).unwrap();
}

#[test]
fn the_newest_history_of_a_stream_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    write(&path, 10);
    let mut writer = ChunkWriter::open(&path).unwrap().0;
    writer.append(identity(0, 2), &encoded(0, 2)).unwrap();
    let numbers =
        |index: &Index, stream| index.chunks(stream).map(|entry| entry.identity.number).collect::<Vec<_>>();
    assert_eq!(
        (numbers(writer.index(), 0), numbers(writer.index(), 1)),
        (vec![0, 1, 2], vec![0, 1, 2, 3, 4])
    );
    writer.commit(Durability::Power).unwrap();
    drop(writer);
    let reader = ChunkReader::open(&path).unwrap();
    assert_eq!(
        (numbers(reader.index(), 0), numbers(reader.index(), 1)),
        (vec![0, 1, 2], vec![0, 1, 2, 3, 4])
    );
    let inspection = inspect(&path).unwrap();
    assert_eq!(inspection.streams.len(), 2);
    assert_eq!((inspection.streams[0].n_chunks, inspection.streams[0].n_rows), (3, 3 * 16));
    let used: u64 = inspection.streams.iter().map(|stream| stream.stored_bytes).sum();
    assert_eq!(used + inspection.other_bytes, fs::metadata(&path).unwrap().len());
    assert_eq!((inspection.streams[1].oldest_millis, inspection.streams[1].newest_millis), (1000, 1004));
    assert!(inspection.ratio() > 0.1);
}

#[test]
fn what_is_left_of_a_broken_file_can_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    let (path, saved) = (folder.path().join("rows"), folder.path().join("saved"));
    let ends = write(&path, 6);
    let mut bytes = fs::read(&path).unwrap();
    bytes[ends[1] as usize + 70] ^= 1;
    bytes.truncate(ends[5] as usize + 20);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(ChunkWriter::open(&path), Err(Error::Truncated { .. })));
    let mut writer = ChunkWriter::open(&saved).unwrap().0;
    let reader = ChunkReader::open(&path).unwrap();
    let copied = copy_readable(reader.file(), reader.index(), &mut writer, Durability::Process).unwrap();
    assert_eq!((copied.n_chunks, copied.refused.len()), (4, 1));
    drop(writer);
    assert!(verify(&saved).unwrap().is_clean());
    assert_eq!(readable(&ChunkReader::open(&saved).unwrap()).0, 4);
}

#[test]
fn a_second_writer_is_refused_while_the_first_or_its_chunks_live() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    write(&path, 2);
    let writer = ChunkWriter::open(&path).unwrap().0;
    assert!(matches!(ChunkWriter::open(&path), Err(Error::Locked { .. })));
    let entry = *writer.index().chunk(0, 0).unwrap();
    let chunk = Chunk::Mapped(Box::new(MappedChunk::new(writer.file().clone(), entry)));
    drop(writer);
    assert!(matches!(ChunkWriter::open(&path), Err(Error::Locked { .. })));
    assert_eq!(readable(&ChunkReader::open(&path).unwrap()).0, 2, "readers are not refused");
    drop(chunk);
    ChunkWriter::open(&path).unwrap();
}

#[test]
fn a_file_cut_off_under_a_reader_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let ends = write(&path, 2);
    let reader = ChunkReader::open(&path).unwrap();
    assert_eq!(readable(&reader).0, 2);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(ends[2] - 8).unwrap();
    let (served, refused) = readable(&reader);
    assert_eq!((served, refused.len()), (1, 1));
    assert!(matches!(refused[0], Error::Truncated { .. }));
}

#[test]
fn files_of_other_kinds_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    fs::write(&path, vec![b'x'; 9000]).unwrap();
    for error in [ChunkReader::open(&path).unwrap_err(), ChunkWriter::open(&path).map(drop).unwrap_err()] {
        assert!(matches!(error, Error::NotAReplayFile { .. }), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), vec![b'x'; 9000]);
    assert!(matches!(ChunkReader::open(&folder.path().join("none")), Err(Error::Io { .. })));
    let full = ChunkWriter::open(Path::new("/dev/full")).map(drop).unwrap_err();
    assert!(matches!(full, Error::DiskFull { .. }), "{full}");
}

/// Overwrites bytes of the 64 bytes at `block` and corrects their checksum.
fn forge(image: &mut [u8], block: usize, at: usize, bytes: &[u8]) {
    for (to, byte) in image[block + at % 60..block + 60].iter_mut().zip(bytes) {
        *to = *byte;
    }
    let sum = crate::store::file::checksum::checksum(&image[block..block + 60]);
    image[block + 60..block + 64].copy_from_slice(&sum.to_le_bytes());
}

proptest! {
    #[test]
    fn bytes_that_no_writer_wrote_are_read_without_a_panic(
        forged in proptest::collection::vec((0usize..7, any::<usize>(), proptest::collection::vec(any::<u8>(), 1..9)), 0..4),
        noise in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4), cut in any::<usize>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let ends = write(&path, 4);
        let mut image = fs::read(&path).unwrap();
        for (which, at, bytes) in &forged {
            match which {
                0..2 => [1024, 2048].into_iter().for_each(|mark| forge(&mut image, mark, *at, bytes)),
                2 => [0, 512].into_iter().for_each(|header| forge(&mut image, header, *at, bytes)),
                record => forge(&mut image, ends[record - 3] as usize, *at, bytes),
            }
        }
        let length = image.len();
        noise.iter().for_each(|(at, byte)| image[at % length] = *byte);
        image.truncate(length - cut % (2 * length) % length);
        let found = read_bytes(&image);
        fs::write(&path, &image).unwrap();
        prop_assert_eq!(verify(&path).is_ok(), found.is_ok());
        if let Ok(reader) = ChunkReader::open(&path) {
            reader.index().entries().for_each(|entry| drop(reader.file().rows(entry)));
            for stream in reader.index().streams() {
                FrameStream::restore(&reader, stream).unwrap();
            }
        }
        drop(ChunkWriter::open(&path));
    }
}
