//! When a bit of a run's replay file is flipped, `verify` names it. A resumed run says so when it first samples from that
//! chunk, learns from no row of it, and goes on with the rest.

use std::fs;
use std::process::Stdio;

use buffers::store::ChunkReader;
use tests::{n_metric_rows, plimsoll, run, run_well, short_train, wait_until};

#[test]
fn a_flipped_bit_is_named_by_verify_and_by_the_run_that_meets_it() {
    let folder = tempfile::tempdir().unwrap();
    let mapped =
        ["--set", "replay.tier=mapped", "--set", "replay.mmap_above=0", "--steps", "1600", "--out", "out"];
    run_well(folder.path(), &short_train(&mapped));
    run_well(folder.path(), &["verify", "out"]);

    let path = folder.path().join("out/replay.plr");
    let entry = *ChunkReader::open(&path).unwrap().index().chunk(0, 0).unwrap();
    assert_eq!(entry.n_rows, 1024, "the first transitions are a full chunk, which every batch samples from");
    let byte = entry.offset + 64 + u64::from(entry.stored_bytes) / 2;
    let mut bytes = fs::read(&path).unwrap();
    bytes[byte as usize] ^= 1 << 5;
    fs::write(&path, bytes).unwrap();

    let named = [format!("bit 5 of byte {byte}"), "chunk 0 of stream 0 is refused".to_owned()];
    let output = run(folder.path(), &["verify", "out"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("plimsoll: ") && last.contains("out/replay.plr: "), "{said}");
    assert!(named.iter().all(|word| last.contains(word)), "{said}");

    let output = run(folder.path(), &["train", "--resume", "out", "--steps", "2400"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let told: Vec<&str> =
        said.lines().filter(|line| line.contains("transitions are not drawn any more")).collect();
    assert_eq!(told.len(), 1, "{said}");
    assert!(
        told[0].contains("out/replay.plr: ") && named.iter().all(|word| told[0].contains(word)),
        "{said}"
    );
    assert!(told[0].contains("1024 transitions"), "{said}");
}

#[test]
fn a_replay_file_that_is_cut_under_a_run_ends_it_with_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mapped =
        ["--set", "replay.tier=mapped", "--set", "replay.mmap_above=0", "--steps", "20000", "--out", "out"];
    let mut command = plimsoll(folder.path(), &short_train(&mapped));
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let out = folder.path().join("out");
    // By then rows are in the file, and more will follow.
    wait_until(&mut process, || n_metric_rows(&out) >= 30);
    let file = fs::OpenOptions::new().write(true).open(out.join("replay.plr")).unwrap();
    file.set_len(8192).unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code().is_some_and(|code| code > 0), "{:?}: {said}", output.status);
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("plimsoll: ") && last.contains("out/replay.plr: "), "{said}");
}
