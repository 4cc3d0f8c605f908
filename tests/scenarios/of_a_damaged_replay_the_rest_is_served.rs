//! When a bit of a run's replay file is flipped, `verify` names it. A resumed run says so when it first samples from that
//! chunk, learns from no row of it, and goes on with the rest.

use std::fs;

use buffers::store::ChunkReader;
use tests::{run, run_well, short_train};

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
