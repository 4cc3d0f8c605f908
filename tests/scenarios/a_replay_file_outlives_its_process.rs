//! What a process committed to a replay file outlives the process, however it ended. A damaged chunk is named and
//! refused; all others are served.
//!
//! The scenario binary starts itself again as the process that writes, and `plimsoll replay` reads what it leaves.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use buffers::Error;
use buffers::frames::FrameStream;
use buffers::store::verify;
use buffers::store::{ChunkReader, ChunkWriter, Durability};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tests::{run, run_well, short_train, skip};

const FILE: &str = "PLIMSOLL_SCENARIO_FILE";
const THIS: &str = "a_replay_file_outlives_its_process::writing_process";
const WIDTHS: [usize; 2] = [3, 40];
/// The rows of each stream that one write appends.
const ROWS: usize = 200;
/// Several writes precede each commit, so that most kills find rows that are not committed yet.
const WRITES_PER_COMMIT: usize = 5;
const ATTEMPTS: usize = 50;

/// Row `at` of a stream: every other value is `at`, which compresses, and the rest are random.
fn row(stream: usize, at: usize) -> Vec<f32> {
    let mut rng = Pcg64Mcg::seed_from_u64((at * 2 + stream) as u64);
    (0..WIDTHS[stream]).map(|i| if i % 2 == 0 { at as f32 } else { rng.random() }).collect()
}

/// The two streams as the file holds them; a stream that the file does not hold is empty.
fn restored(path: &Path) -> [FrameStream; 2] {
    let reader = ChunkReader::open(path).unwrap();
    [0, 1].map(|stream| match FrameStream::restore(&reader, stream as u32).unwrap() {
        Some(restored) => {
            assert!(restored.lost_tail.is_none());
            restored.stream
        }
        None => FrameStream::new(WIDTHS[stream]),
    })
}

/// Appends rows, moves full chunks to the file, and writes the unfinished ones too.
fn append(streams: &mut [FrameStream; 2], writer: &mut ChunkWriter, n_rows: usize) -> buffers::Result<()> {
    for (number, stream) in streams.iter_mut().enumerate() {
        let first = stream.n_rows();
        (first..first + n_rows).for_each(|at| {
            stream.append(&row(number, at));
        });
        stream.map_before(stream.n_rows(), writer, number as u32, 1)?;
        stream.file_all(writer, number as u32, 1)?;
    }
    Ok(())
}

/// The process that the scenarios kill. After each commit it prints how many rows are committed.
#[test]
#[ignore = "no promise of its own: the scenarios of this file start it"]
fn writing_process() {
    let path = PathBuf::from(std::env::var_os(FILE).expect("a scenario says where to write"));
    let (mut writer, _) = ChunkWriter::open(&path).unwrap();
    let mut streams = restored(&path);
    let mut out = std::io::stdout().lock();
    for i in 0.. {
        let durability = if i % 8 == 7 { Durability::Power } else { Durability::Process };
        let mut writes = (0..WRITES_PER_COMMIT).map(|_| append(&mut streams, &mut writer, ROWS));
        let written = writes.find(Result::is_err).unwrap_or(Ok(()));
        if let Err(error) = written.and_then(|()| writer.commit(durability)) {
            writeln!(out, "refused: {error}").unwrap();
            return;
        }
        writeln!(out, "committed {}", streams[0].n_rows()).unwrap();
    }
}

fn writing(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", THIS, "--nocapture"]).env(FILE, path);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn committed(line: &str) -> Option<usize> {
    line.split_once("committed ")?.1.trim().parse().ok()
}

/// Writes a file with `n_rows` rows of both streams in this process.
fn written(folder: &Path, n_rows: usize) -> PathBuf {
    let path = folder.join("replay");
    let (mut writer, opened) = ChunkWriter::open(&path).unwrap();
    assert!(opened.new);
    let mut streams = WIDTHS.map(FrameStream::new);
    append(&mut streams, &mut writer, n_rows).unwrap();
    writer.commit(Durability::Process).unwrap();
    path
}

/// Opens the file for writing as the next process would, compares every row, and gives their number.
fn check_rows(path: &Path, at_least: usize) -> usize {
    let (writer, opened) = ChunkWriter::open(path).unwrap();
    assert!(opened.damages.is_empty(), "{opened}");
    drop(writer);
    let streams = restored(path);
    let n_rows = streams[0].n_rows();
    assert!(n_rows >= at_least, "{n_rows} rows are left, {at_least} were committed");
    assert_eq!(streams[1].n_rows(), n_rows, "a commit is whole");
    for (number, stream) in streams.iter().enumerate() {
        let mut out = vec![0f32; WIDTHS[number]];
        for at in 0..n_rows {
            stream.try_copy_window(at, 1, 1, &mut out).unwrap();
            assert_eq!(out, row(number, at));
        }
    }
    n_rows
}

/// Checks that `plimsoll verify` refuses the file with status 2 and one line that holds each of `words`, and gives
/// what it printed.
fn check_refused(path: &Path, words: &[&str]) -> String {
    let output = run(path.parent().unwrap(), &["verify", path.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("plimsoll: "), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn check_clean(path: &Path) {
    let output = run(path.parent().unwrap(), &["verify", path.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), text.as_str()), (Some(0), ""));
    assert!(String::from_utf8_lossy(&output.stdout).contains("chunks in"));
}

#[test]
fn a_process_killed_at_fifty_random_moments_loses_nothing_that_it_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replay");
    let mut rng = Pcg64Mcg::seed_from_u64(50);
    let (mut last, mut n_torn) = (0, 0);
    for attempt in 0..ATTEMPTS {
        let mut child = writing(&path);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // It is killed some commits later, and then part of the way to the next one.
        for _ in 0..rng.random_range(1..4) {
            let mut line = String::new();
            while committed(&line).is_none() {
                line.clear();
                assert!(lines.read_line(&mut line).unwrap() > 0, "the process ended by itself");
            }
            last = last.max(committed(&line).unwrap());
        }
        (0..rng.random_range(0..20_000_000u32)).for_each(|i| {
            std::hint::black_box(i);
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        // A line that was cut short may hold only the first digits of its number.
        let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
        last = last.max(whole.lines().filter_map(committed).max().unwrap_or(0));
        let found = verify(&path).unwrap();
        assert!(found.is_clean(), "{found}");
        n_torn += u32::from(found.uncommitted_bytes > 0);
        if attempt % 10 == 0 {
            check_clean(&path);
        }
        // Only the number of rows here: comparing every row fifty times takes minutes.
        let n_rows = restored(&path).map(|stream| stream.n_rows());
        assert!(n_rows[0] == n_rows[1] && n_rows[0] >= last, "{n_rows:?}, {last} were committed");
    }
    check_rows(&path, last);
    check_clean(&path);
    println!("{n_torn} of {ATTEMPTS} kills left a tail that was not committed; {last} rows were committed");
    assert!(n_torn > 0, "no kill fell between a write and its commit, so only whole files were opened");
}

#[test]
fn a_flipped_bit_is_named_its_chunk_refused_and_the_rest_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), 2000);
    let whole = fs::read(&path).unwrap();
    let n_chunks = verify(&path).unwrap().n_chunks;
    let mut rng = Pcg64Mcg::seed_from_u64(8);
    for attempt in 0..60 {
        let (byte, bit) = (rng.random_range(4096..whole.len()), rng.random_range(0..8u8));
        let byte = if attempt % 6 == 0 { byte % 4096 } else { byte };
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << bit;
        fs::write(&path, &flipped).unwrap();
        let found = verify(&path).unwrap();
        assert_eq!(found.damages.len(), 1, "byte {byte}: {found}");
        let damage = found.damages[0];
        assert!(
            (damage.offset..damage.offset + damage.n_bytes).contains(&(byte as u64)),
            "byte {byte}: {damage}"
        );
        if attempt % 10 == 0 {
            let text = damage.to_string();
            let said = check_refused(&path, &[&text, path.to_str().unwrap()]);
            assert!(said.contains(&text), "{said}");
            assert!(damage.bit.is_none() || text.contains(&format!("bit {bit} of byte {byte}")), "{text}");
        }
        // The named chunk is refused and all others are served.
        let reader = ChunkReader::open(&path).unwrap();
        let entries: Vec<_> = reader.index().entries().copied().collect();
        let is_read = |entry: &buffers::store::Entry| match reader.file().rows(entry) {
            Ok(_) => true,
            Err(Error::Damaged { .. }) => false,
            Err(error) => panic!("{error}"),
        };
        let refused: Vec<_> = entries
            .iter()
            .filter(|entry| !is_read(entry))
            .map(|entry| (entry.identity.stream, entry.identity.number))
            .collect();
        assert!(refused.iter().all(|chunk| damage.chunk == Some(*chunk)), "{refused:?}: {damage}");
        let n_served = (entries.len() - refused.len()) as u64;
        assert!(n_served >= n_chunks - 1, "byte {byte}: {n_served} of {n_chunks} chunks are served");
        assert!(damage.chunk.is_none() || n_served == n_chunks - 1, "byte {byte}: {damage}");
    }
}

#[test]
fn a_full_disk_is_named_and_what_was_committed_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let path = disk.join("replay");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        skip("no small disk can be mounted here (it takes root)");
        return;
    }
    let child = writing(&path);
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let checked = std::panic::catch_unwind(|| {
        let last = said.lines().filter_map(committed).max().expect("something was committed");
        let kept = "what was committed before is kept";
        for word in ["refused: ", "No space left on device", kept, path.to_str().unwrap()] {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
        check_clean(&path);
        check_rows(&path, last);
    });
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// CRC-32 as the header of a file holds it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[test]
fn a_file_that_cannot_be_used_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), 1000);
    let whole = fs::read(&path).unwrap();
    let with_headers = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = whole.clone();
        for at in [0, 512] {
            change(&mut bytes[at..at + 64]);
            let sum = crc32(&bytes[at..at + 60]);
            bytes[at + 60..at + 64].copy_from_slice(&sum.to_le_bytes());
        }
        fs::write(&path, bytes).unwrap();
    };
    fs::write(&path, &whole[..whole.len() - 1000]).unwrap();
    check_refused(&path, &["was cut off", "committed bytes are missing"]);
    fs::write(&path, &whole[..1000]).unwrap();
    check_refused(&path, &["was cut off", "1000 bytes"]);
    with_headers(&|header| header[12..16].copy_from_slice(&9u32.to_le_bytes()));
    check_refused(&path, &["version 9", "reads version 2"]);
    with_headers(&|header| header[8..12].reverse());
    check_refused(&path, &["big-endian"]);
    fs::write(&path, "timestamp,open,high,low,close\n".repeat(200)).unwrap();
    check_refused(&path, &["not a replay file"]);
    fs::write(&path, "").unwrap();
    check_refused(&path, &["was cut off", "0 bytes"]);
    fs::remove_file(&path).unwrap();
    check_refused(&path, &["cannot open it"]);
    check_refused(folder.path(), &["no replay file in this folder"]);
}

#[test]
fn two_processes_cannot_write_one_file_and_it_can_be_read_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replay");
    let mut child = writing(&path);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while committed(&lines.next().unwrap().unwrap()).is_none() {}
    let refused = ChunkWriter::open(&path).map(drop).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    assert!(refused.to_string().ends_with("is being written by another process"), "{refused}");
    // Nobody reads the pipe any more, so the writer soon waits, and the file stands still while it is verified.
    check_clean(&path);
    child.kill().unwrap();
    child.wait().unwrap();
    check_rows(&path, ROWS * WRITES_PER_COMMIT);
}

#[test]
fn what_a_file_holds_is_told_to_people_and_to_programs() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), 1000);
    let text = run_well(folder.path(), &["replay", "inspect", ".", "--json", "out.json"]).stdout;
    let text = String::from_utf8(text).unwrap();
    for word in ["replay", "2 streams", "f32", "1,000", "mapped", "oldest age", "ratio"] {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    let file = &json["files"][0];
    assert_eq!(file["streams"][1]["n_rows"], 1000);
    assert_eq!(file["streams"][1]["width"], 40);
    assert_eq!(file["file_bytes"], fs::metadata(&path).unwrap().len());
    assert!(file["ratio"].as_f64().unwrap() > 1.0);
}

#[test]
fn of_a_folder_every_file_is_told_of_and_one_damaged_file_hides_none() {
    let folder = tempfile::tempdir().unwrap();
    let written = written(folder.path(), 1000);
    let [replay, streams] = ["replay.plr", "streams.plr"].map(|name| folder.path().join(name));
    fs::copy(&written, &replay).unwrap();
    fs::copy(&written, &streams).unwrap();
    fs::rename(&written, folder.path().join("replay.new")).unwrap();
    let inspect = || {
        let output = run(folder.path(), &["replay", "inspect", ".", "--json", "out.json"]);
        let json = serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), json)
    };
    let (status, text, json): (_, _, serde_json::Value) = inspect();
    assert_eq!(
        (status, json["files"].as_array().unwrap().len()),
        (Some(0), 2),
        "one written aside is none yet"
    );
    for word in
        ["./replay.plr: ", "transitions", "local rows 0", "./streams.plr: ", "structure 0", "tactical 0"]
    {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert_eq!(json["files"][1]["streams"][1]["of"], "tactical 0");
    assert!(run(folder.path(), &["verify", "."]).status.success());

    let mut bytes = fs::read(&replay).unwrap();
    bytes[..8].fill(0);
    bytes[512..520].fill(0);
    fs::write(&replay, &bytes).unwrap();
    let (status, text, json) = inspect();
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("replay.plr: ") && text.contains("./streams.plr: "), "{text}");
    assert!(json["files"][0]["error"].is_string() && json["files"][1]["error"].is_null());
    let mut bytes = fs::read(&streams).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&streams, &bytes).unwrap();
    let verified = run(folder.path(), &["verify", ".", "--json", "out.json"]);
    let said = String::from_utf8(verified.stderr).unwrap();
    assert_eq!((verified.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("2 files are damaged; the first: ./replay.plr"), "{said}");
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    assert_eq!((&json["clean"], &json["files"][1]["clean"]), (&false.into(), &false.into()));
    assert_eq!(json["files"][1]["damages"].as_array().unwrap().len(), 1);
}

#[test]
fn what_can_be_read_of_a_damaged_file_is_copied_to_a_new_one_and_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), 2000);
    let n_chunks = verify(&path).unwrap().n_chunks;
    let entry = *ChunkReader::open(&path).unwrap().index().chunk(1, 2).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[entry.offset as usize + 100] ^= 8;
    fs::write(&path, &bytes).unwrap();
    let salvage = || {
        let output = run(folder.path(), &["verify", "replay", "--salvage", "saved.plr"]);
        assert_eq!(output.status.code(), Some(2), "the file is as damaged as before");
        [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap())
    };
    let [said, _] = salvage();
    for word in
        [&format!("{} chunks were copied to saved.plr", n_chunks - 1), "not copied: ", "chunk 2 of stream 1"]
    {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    let saved = folder.path().join("saved.plr");
    check_clean(&saved);
    let reader = ChunkReader::open(&saved).unwrap();
    assert_eq!(reader.index().entries().count() as u64, n_chunks - 1);
    let stream = FrameStream::restore(&reader, 1).unwrap().unwrap().stream;
    let mut out = vec![0f32; WIDTHS[1]];
    for at in [0, 2 * stream.chunk_rows() - 1, 3 * stream.chunk_rows(), 1999] {
        stream.try_copy_window(at, 1, 1, &mut out).unwrap();
        assert_eq!(out, row(1, at));
    }
    assert!(stream.try_copy_window(2 * stream.chunk_rows(), 1, 1, &mut out).is_err());
    let before = fs::read(&saved).unwrap();
    let [_, error] = salvage();
    assert!(error.contains("saved.plr: is there already, and is not written over"), "{error}");
    assert_eq!(fs::read(&saved).unwrap(), before);
    let several = run(folder.path(), &["verify", ".", "--salvage", "more.plr"]);
    assert_eq!(several.status.code(), Some(2));
    assert!(String::from_utf8(several.stderr).unwrap().contains("one file is copied to one file"));
    assert!(!folder.path().join("more.plr").exists());
}

#[test]
fn a_run_without_a_replay_file_shows_the_priorities_of_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &short_train(&["--steps", "500", "--out", "out"]));
    let shown = run_well(folder.path(), &["replay", "inspect", "out", "--json", "out.json"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    for word in ["transitions in the checkpoint", "priorities: least", "hot"] {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    assert!(json["n_transitions"].as_u64().unwrap() > 300);
    assert_eq!(json["priorities"]["n"], json["n_transitions"]);
}
