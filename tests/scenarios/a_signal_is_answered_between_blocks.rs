//! A signal is answered in the middle of a validation, of the report's test, of an import and of `features`, not after
//! them: what was left undone is done by the run that is resumed, with the result of one that never stopped.

use std::path::Path;
use std::process::{Child, Command};

use tests::{n_metric_rows, plimsoll, read_json, run_well, start, wait_until, weights_sha256};

/// A run with a large network, whose validation and test take seconds each and whose learning takes few.
const WORK: [&str; 20] = [
    "train",
    "--threads",
    "1",
    "--steps",
    "96",
    "--set",
    "embedders.preset=full",
    "--set",
    "synthetic.days=21",
    "--set",
    "agent.learning_starts=16",
    "--set",
    "agent.batch=8",
    "--set",
    "agent.samples_per_insert=1",
    "--set",
    "run.evaluation_interval_steps=1000000",
    "--set",
    "data.validation_fraction=0.3",
    "--out",
];

fn work(out: &str) -> Vec<&str> {
    WORK.iter().copied().chain([out]).collect()
}

fn terminate(mut process: Child) -> Option<i32> {
    let sent = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
    process.wait().unwrap().code()
}

/// Whether the last vector step is saved with work that is left to do; `None` between two checkpoints.
fn is_unfinished(out: &Path) -> Option<bool> {
    let text = std::fs::read(out.join("checkpoint/counters.json")).ok()?;
    let counters: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(!counters["unfinished"].is_null())
}

#[test]
fn a_run_is_saved_in_the_middle_of_its_validation_and_of_its_test() {
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &work("whole"));
    let whole = n_metric_rows(&folder.path().join("whole"));
    let out = folder.path().join("stopped");

    // The row of the last step is written before the validation of the same step.
    let mut validating = start(folder.path(), &work("stopped"));
    wait_until(&mut validating, || n_metric_rows(&out) + 1 == whole);
    assert_eq!(terminate(validating), Some(130));
    assert_eq!(is_unfinished(&out), Some(true), "it was answered after the validation");
    assert_eq!(n_metric_rows(&out) + 1, whole);

    let mut testing = start(folder.path(), &["train", "--resume", "stopped"]);
    wait_until(&mut testing, || n_metric_rows(&out) == whole);
    // The last state is saved before the test.
    wait_until(&mut testing, || is_unfinished(&out) == Some(false));
    assert_eq!(terminate(testing), Some(130));
    assert!(!out.join("summary.json").exists(), "it was answered after the test");

    run_well(folder.path(), &["train", "--resume", "stopped"]);
    assert_eq!(weights_sha256(&out), weights_sha256(&folder.path().join("whole")));
    let test = |out: &Path| read_json(&out.join("summary.json"))["test"].clone();
    assert_eq!(test(&out), test(&folder.path().join("whole")));
}

fn minutes(n: usize) -> String {
    let row = |i: usize| format!("{},1.0,1.1,0.9,1.0,5\n", 1_577_836_800 + 60 * i as u64);
    "timestamp,open,high,low,close,volume\n".to_owned() + &(0..n).map(row).collect::<String>()
}

#[test]
fn an_import_and_the_writing_of_features_end_without_a_rest() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bars.csv"), minutes(400_000)).unwrap();
    let begun = |process: &mut Child| {
        let status = format!("/proc/{}/status", process.id());
        wait_until(process, || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
            // SIGUSR1, the last that is caught.
            u64::from_str_radix(mask.trim(), 16).unwrap_or(0) & 1 << 9 != 0
        });
    };
    let mut importing = start(folder.path(), &["train", "--data", "bars.csv", "--out", "out"]);
    begun(&mut importing);
    assert_eq!(terminate(importing), Some(130));
    assert!(!folder.path().join("out/checkpoint").exists());

    let features = ["features", "--data", "bars.csv", "--out", "rows.csv"];
    let mut writing = plimsoll(folder.path(), &features).spawn().unwrap();
    begun(&mut writing);
    let aside = folder.path().join(".rows.csv.aside");
    wait_until(&mut writing, || aside.exists());
    assert_eq!(terminate(writing), Some(130));
    assert!(!aside.exists() && !folder.path().join("rows.csv").exists(), "half a table is left");
}
