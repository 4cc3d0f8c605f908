//! Processes that die while they write, and disks that are full: what was committed is there.
//!
//! The tests run their own binary again as the process that writes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::*;
use crate::error::Error;

const FILE: &str = "CRASH_TEST_FILE";
const ROWS: usize = 16;

/// The rows of a chunk of these tests; those of the higher streams are long and do not compress.
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

/// Not a promise of its own: the process that the other tests kill. It appends chunks for ever and says, after each
/// commit, up to which.
#[test]
fn writing_process() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let path = Path::new(&path);
    let mut writer = ChunkWriter::open(path).unwrap().0;
    let first = writer.index().chunks(2).next_back().map_or(0, |entry| entry.identity.number + 1);
    let mut out = std::io::stdout().lock();
    for number in first.. {
        let error = match writer.append(identity(2, number), &encoded(2, number)) {
            Ok(_) if number % 3 != 0 => continue,
            Ok(_) => {
                writer.commit(if number % 2 == 0 { Durability::Process } else { Durability::Power }).err()
            }
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

fn spawn(command: &mut Command, path: &Path) -> Child {
    command.env(FILE, path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn arguments() -> [&'static str; 3] {
    ["--exact", "store::crash::writing_process", "--nocapture"]
}

fn committed(line: &str) -> Option<u64> {
    line.split_once("committed ")?.1.trim().parse().ok()
}

/// Opens the file as the next process would, and compares all that is in it with what should be.
fn check(path: &Path, at_least: Option<u64>) -> u64 {
    let (writer, opened) = ChunkWriter::open(path).unwrap();
    assert!(opened.damages.is_empty(), "{opened}");
    let n = writer.index().chunks(2).count() as u64;
    assert!(n > at_least.map_or(0, |number| number), "{n} chunks are left, {at_least:?} was committed");
    for (number, entry) in (0..).zip(writer.index().chunks(2)) {
        assert_eq!(entry.identity.number, number);
    }
    // The bytes of all are under checksums; the newest are compared themselves.
    let newest: Vec<Entry> = writer.index().chunks(2).rev().take(5).copied().collect();
    for entry in newest {
        assert_eq!(writer.file().rows(&entry).unwrap(), chunk_rows(2, entry.identity.number));
    }
    drop(writer);
    let found = verify(path).unwrap();
    assert!(found.is_clean() && found.uncommitted_bytes == 0, "{found}");
    assert_eq!(found.n_chunks, n);
    n
}

#[test]
fn a_process_killed_at_any_moment_loses_nothing_that_it_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let mut rng = Pcg64Mcg::seed_from_u64(50);
    let (mut last, mut torn) = (None, 0);
    for _ in 0..50 {
        let mut child = spawn(Command::new(std::env::current_exe().unwrap()).args(arguments()), &path);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // A number of commits, and then some part of the work between two of them.
        for _ in 0..rng.random_range(1..5) {
            let mut line = String::new();
            while committed(&line).is_none() {
                line.clear();
                assert!(lines.read_line(&mut line).unwrap() > 0, "the process ended by itself");
            }
            last = last.max(committed(&line));
        }
        (0..rng.random_range(0..10_000_000u32)).for_each(|i| {
            std::hint::black_box(i);
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        // A line that was cut short may name a smaller number than it would have.
        let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
        last = last.max(whole.lines().filter_map(committed).max());
        torn += u64::from(verify(&path).unwrap().uncommitted_bytes > 0);
        check(&path, last);
    }
    println!("{torn} of 50 kills left a tail that was not committed");
}

#[test]
fn a_full_disk_is_named_and_what_was_committed_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    // A limit on the size of files, which needs no right to mount a small disk: blocks of 512 or 1,024 bytes.
    let mut shell = Command::new("sh");
    let program = std::env::current_exe().unwrap();
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\""]).arg(program).args(arguments());
    let child = spawn(&mut shell, &path);
    let said = child.wait_with_output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let last = said.lines().filter_map(committed).max();
    assert!(last.is_some_and(|last| last > 1) && said.contains("refused: "), "{said}");
    assert!(said.contains("cannot append to it: File too large") && said.contains("is kept"), "{said}");
    assert_eq!(check(&path, last), last.unwrap() + 1);
    let length = fs::metadata(&path).unwrap().len();
    let mut writer = ChunkWriter::open(&path).unwrap().0;
    writer.append(identity(2, last.unwrap() + 1), &encoded(2, last.unwrap() + 1)).unwrap();
    writer.commit(Durability::Process).unwrap();
    drop(writer);
    assert!(fs::metadata(&path).unwrap().len() > length);
    check(&path, last.map(|last| last + 1));
}

#[test]
fn two_processes_cannot_write_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let mut child = spawn(Command::new(std::env::current_exe().unwrap()).args(arguments()), &path);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while committed(&lines.next().unwrap().unwrap()).is_none() {}
    let refused = ChunkWriter::open(&path).map(drop).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    assert!(refused.to_string().ends_with("is being written by another process"));
    assert!(ChunkReader::open(&path).unwrap().index().chunks(2).count() > 0, "it can be read meanwhile");
    child.kill().unwrap();
    child.wait().unwrap();
    check(&path, None);
}
