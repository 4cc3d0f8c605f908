//! A run that was killed or interrupted and then resumed gives the result of the run that never stopped.

use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;
use tests::{
    interrupt, kill, n_metric_rows, run_well, short_train, start, summary, wait_until, weights_sha256,
};

const STEPS: &str = "2400";

#[test]
fn killed_at_three_random_moments_the_weights_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &short_train(&["--steps", STEPS, "--out", "whole"]));
    let mut rng = Pcg64Mcg::seed_from_u64(11);
    let out = folder.path().join("killed");
    let mut n_rows = 0;
    for attempt in 0..3 {
        let mut arguments = vec!["train", "--resume", "killed"];
        if attempt == 0 {
            arguments = short_train(&["--steps", STEPS, "--out", "killed"]);
        }
        let mut process = start(folder.path(), &arguments);
        n_rows += rng.random_range(35..55);
        wait_until(&mut process, || n_metric_rows(&out) >= n_rows);
        kill(process);
    }
    run_well(folder.path(), &["train", "--resume", "killed"]);
    assert_eq!(weights_sha256(&out), weights_sha256(&folder.path().join("whole")));
    let whole = summary(&folder.path().join("whole"));
    assert_eq!(summary(&out)["test"], whole["test"]);
    assert_eq!(
        measured(&out),
        measured(&folder.path().join("whole")),
        "rows after a checkpoint are written once"
    );
}

/// The metrics rows of a run, without clocks and bytes.
fn measured(out: &Path) -> Vec<Value> {
    let is_clock =
        |key: &str| key.ends_with("_seconds") || key.ends_with("_per_second") || key.ends_with("_bytes");
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row.as_object_mut().unwrap().retain(|key, _| !is_clock(key));
        row
    };
    std::fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().map(row).collect()
}

#[test]
fn interrupted_it_saves_exits_130_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &short_train(&["--steps", STEPS, "--out", "whole"]));
    let arguments = short_train(&["--steps", STEPS, "--out", "stopped"]);
    let mut process = start(folder.path(), &arguments);
    let out = folder.path().join("stopped");
    wait_until(&mut process, || n_metric_rows(&out) >= 90);
    assert_eq!(interrupt(process), Some(130));
    assert!(!out.join("summary.json").exists(), "an interrupted run has no summary");
    run_well(folder.path(), &["train", "--resume", "stopped"]);
    assert_eq!(weights_sha256(&out), weights_sha256(&folder.path().join("whole")));
}

#[test]
fn stopped_before_its_first_checkpoint_it_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &short_train(&["--steps", "600", "--out", "whole"]));
    let out = folder.path().join("killed");
    let arguments = short_train(&["--steps", "600", "--out", "killed"]);
    let mut process = start(folder.path(), &arguments);
    wait_until(&mut process, || n_metric_rows(&out) >= 2);
    kill(process);
    std::fs::remove_dir_all(out.join("checkpoint")).unwrap_or_default();
    run_well(folder.path(), &["train", "--resume", "killed"]);
    assert_eq!(weights_sha256(&out), weights_sha256(&folder.path().join("whole")));
}
