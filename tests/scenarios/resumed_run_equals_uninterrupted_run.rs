//! A run that was killed or interrupted and resumed is the run that never stopped.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tests::{plimsoll, run_well, short_train, summary};

const STEPS: &str = "2400";

fn weights(out: &Path) -> String {
    summary(out)["weights_sha256"].as_str().unwrap().to_owned()
}

fn rows(out: &Path) -> usize {
    std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// Waits until the run in `out` has written `n_rows` rows. The rows are what the run itself shows of its progress.
fn wait_for_rows(out: &Path, n_rows: usize) {
    let began = Instant::now();
    while rows(out) < n_rows {
        assert!(began.elapsed() < Duration::from_secs(300), "the run does not go on");
        std::thread::yield_now();
    }
}

#[test]
fn killed_at_three_random_moments_the_weights_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &short_train(&["--steps", STEPS, "--out", "whole"]));
    let mut rng = Pcg64Mcg::seed_from_u64(11);
    let out = folder.path().join("killed");
    let mut n_rows = 0;
    for kill in 0..3 {
        let mut arguments = vec!["train", "--resume", "killed"];
        if kill == 0 {
            arguments = short_train(&["--steps", STEPS, "--out", "killed"]);
        }
        let mut child = plimsoll(folder.path(), &arguments).stderr(Stdio::null()).spawn().unwrap();
        n_rows += rng.random_range(35..55);
        wait_for_rows(&out, n_rows);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run_well(folder.path(), &["train", "--resume", "killed"]);
    assert_eq!(weights(&out), weights(&folder.path().join("whole")));
    let whole = summary(&folder.path().join("whole"));
    assert_eq!(summary(&out)["test"], whole["test"]);
    assert_eq!(rows(&out), rows(&folder.path().join("whole")), "rows after a checkpoint are written once");
}

#[test]
fn interrupted_it_saves_exits_130_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &short_train(&["--steps", STEPS, "--out", "whole"]));
    let arguments = short_train(&["--steps", STEPS, "--out", "stopped"]);
    let mut child = plimsoll(folder.path(), &arguments).stderr(Stdio::null()).spawn().unwrap();
    let out = folder.path().join("stopped");
    wait_for_rows(&out, 90);
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!out.join("summary.json").exists(), "an interrupted run has no summary");
    run_well(folder.path(), &["train", "--resume", "stopped"]);
    assert_eq!(weights(&out), weights(&folder.path().join("whole")));
}

#[test]
fn stopped_before_its_first_checkpoint_it_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &short_train(&["--steps", "600", "--out", "whole"]));
    let out = folder.path().join("killed");
    let arguments = short_train(&["--steps", "600", "--out", "killed"]);
    let mut child = plimsoll(folder.path(), &arguments).stderr(Stdio::null()).spawn().unwrap();
    wait_for_rows(&out, 2);
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(out.join("checkpoint")).unwrap_or_default();
    run_well(folder.path(), &["train", "--resume", "killed"]);
    assert_eq!(weights(&out), weights(&folder.path().join("whole")));
}
