//! A file that may not grow any more keeps what was committed, and can be written again once there is room. The scenario
//! `a_replay_file_outlives_its_process` tests killed processes, full disks and two writers.
//!
//! The test starts its own binary as the writing process.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::store::*;

const FILE: &str = "CRASH_TEST_FILE";
const ROWS: usize = 16;

/// The rows of a chunk. Those of streams 2 and higher are long and do not compress.
pub(super) fn chunk_rows(stream: u32, number: u64) -> Vec<u8> {
    let mut rng = Pcg64Mcg::seed_from_u64(number * 1000 + u64::from(stream));
    (0..ROWS * shape(stream).row_bytes())
        .map(|at| if at % 4 == 3 && stream < 2 { 7 } else { rng.random() })
        .collect()
}

fn shape(stream: u32) -> RowShape {
    RowShape { kind: RowKind::F32, width: if stream < 2 { 2 } else { 2000 } }
}

pub(super) fn encoded(stream: u32, number: u64) -> Vec<u8> {
    let codec = Codec { transform: Transform::ByteShuffle, predictor: Predictor::None, level: 1 };
    codec::encode(codec, shape(stream), &chunk_rows(stream, number))
}

pub(super) fn identity(stream: u32, number: u64) -> Identity {
    Identity { stream, number, chunk_rows: ROWS as u32, stamp_millis: 1000 + number }
}

/// Not a test of its own but the process that has no room. It appends chunks for ever, and prints after each commit the
/// last committed chunk.
#[test]
#[ignore = "no promise of its own: the test below starts it"]
fn writing_process() {
    let path = std::env::var_os(FILE).expect("the test that starts this process says where to write");
    let mut writer = ChunkWriter::open(Path::new(&path)).unwrap().0;
    let mut out = std::io::stdout().lock();
    for number in 0.. {
        let error = match writer.append(identity(2, number), &encoded(2, number)) {
            Ok(_) if number % 3 != 0 => continue,
            Ok(_) => writer.commit(Durability::Process).err(),
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            writer.commit(Durability::Process).unwrap();
            writeln!(out, "committed {}\nrefused: {error}", number - 1).unwrap();
            return;
        }
        writeln!(out, "committed {number}").unwrap();
    }
}

/// Opens the file as the next process would, and compares its `n` chunks with what was written.
fn check(path: &Path, n: u64) {
    let (writer, opened) = ChunkWriter::open(path).unwrap();
    assert!(opened.damages.is_empty(), "{opened}");
    assert_eq!(writer.index().chunks(2).count() as u64, n);
    for (number, entry) in (0..).zip(writer.index().chunks(2)) {
        assert_eq!(entry.identity.number, number);
        assert_eq!(writer.file().rows(entry).unwrap(), chunk_rows(2, number));
    }
    drop(writer);
    let found = verify(path).unwrap();
    assert!(found.is_clean() && found.uncommitted_bytes == 0, "{found}");
    assert_eq!(found.n_chunks, n);
}

#[test]
fn a_file_that_may_not_grow_keeps_what_was_committed_and_grows_when_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    // `ulimit -f` counts blocks of 512 or 1,024 bytes.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\""]);
    shell.arg(std::env::current_exe().unwrap());
    shell
        .args(["--ignored", "--exact", "store::file::tests::crash::writing_process", "--nocapture"])
        .env(FILE, &path);
    let said = shell.stderr(Stdio::null()).output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let committed = |line: &str| line.split_once("committed ")?.1.trim().parse::<u64>().ok();
    let last = said.lines().filter_map(committed).max().unwrap();
    assert!(last > 1 && said.contains("refused: "), "{said}");
    assert!(said.contains("cannot append to it: File too large") && said.contains("is kept"), "{said}");
    check(&path, last + 1);
    let length = fs::metadata(&path).unwrap().len();
    let mut writer = ChunkWriter::open(&path).unwrap().0;
    writer.append(identity(2, last + 1), &encoded(2, last + 1)).unwrap();
    writer.commit(Durability::Process).unwrap();
    drop(writer);
    assert!(fs::metadata(&path).unwrap().len() > length);
    check(&path, last + 2);
}
