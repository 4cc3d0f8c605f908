//! Rows of the replay and of the market hot, compressed or mapped: one result to the bit, and a mapped run that was killed
//! goes on from the file.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::{plimsoll, run_well, short_train, summary};

const STEPS: &str = "2400";

/// Nothing that can go down stays hot.
fn all_in<'a>(tier: &'a str, out: &'a str) -> Vec<&'a str> {
    let settings =
        ["--set", tier, "--set", "replay.memory_budget=0", "--set", "replay.mmap_above=0", "--steps", STEPS];
    short_train(&[&settings[..], &["--out", out]].concat())
}

fn weights(out: &Path) -> String {
    summary(out)["weights_sha256"].as_str().unwrap().to_owned()
}

fn rows(out: &Path) -> usize {
    std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

#[test]
fn hot_compressed_and_mapped_give_one_sha_and_so_does_a_mapped_run_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let of = |out: &str| weights(&folder.path().join(out));
    for tier in ["hot", "compressed", "mapped"] {
        run_well(folder.path(), &all_in(&format!("replay.tier={tier}"), tier));
    }
    assert_eq!((of("compressed"), of("mapped")), (of("hot"), of("hot")));
    let file = folder.path().join("mapped/replay.plr");
    assert!(file.metadata().unwrap().len() > 32 * 2000, "transitions and rows are in the file");

    let out = folder.path().join("killed");
    for (kill, n_rows) in [45, 95, 150].into_iter().enumerate() {
        let mut arguments = vec!["train", "--resume", "killed"];
        if kill == 0 {
            arguments = all_in("replay.tier=mapped", "killed");
        }
        let mut child = plimsoll(folder.path(), &arguments).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while rows(&out) < n_rows {
            assert!(began.elapsed() < Duration::from_secs(300), "the run does not go on");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run_well(folder.path(), &["train", "--resume", "killed"]);
    assert_eq!(of("killed"), of("hot"));
    assert_eq!(summary(&out)["test"], summary(&folder.path().join("hot"))["test"]);
}
