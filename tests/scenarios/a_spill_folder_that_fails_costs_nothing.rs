//! A spill folder that cannot be used, that lies in memory, that is removed or whose disk is full ends no run and changes no
//! result.

use std::path::Path;
use std::process::Command;

use tests::{n_metric_rows, program, run, run_well, short_train, start, summary, wait_until, weights_sha256};

const STEPS: [&str; 6] =
    ["--steps", "900", "--set", "memory.spill_threshold=4096", "--set", "memory.smallest_micro_batch=32"];

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    short_train(&[&STEPS[..], more].concat())
}

#[test]
fn a_folder_that_cannot_be_used_is_not_offered_and_said_once() {
    let folder = tempfile::tempdir().unwrap();
    for (out, spill_folder, problem) in [
        ("missing", "memory.spill_folder=missing/folder", "missing/folder: No such file"),
        ("in-memory", "memory.spill_folder=/dev/shm", "/dev/shm lies in memory (tmpfs)"),
    ] {
        let output = run_well(folder.path(), &train(&["--set", spill_folder, "--out", out]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.matches(problem).count(), 1, "{said}");
        assert_eq!(said.matches("activations are not spilled").count(), 1, "{said}");
        // A run that would not spill is told nothing.
        let quiet = ["--set", spill_folder, "--set", "memory.activations=keep", "--out"];
        let output = run_well(folder.path(), &train(&[&quiet[..], &[&format!("{out}-kept")]].concat()));
        assert!(!String::from_utf8_lossy(&output.stderr).contains("spill"));
        // Where it is the only mode there is no other way.
        let only = ["--set", spill_folder, "--set", "memory.activations=spill", "--out", "only"];
        let output = run(folder.path(), &train(&only));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("memory.spill_folder: ") && said.contains("memory.activations=auto"), "{said}");
    }
    assert!(!folder.path().join("only").exists());
}

fn kept(folder: &Path) -> String {
    run_well(folder, &train(&["--set", "memory.activations=keep", "--out", "kept"]));
    weights_sha256(&folder.join("kept"))
}

#[test]
fn removed_in_the_middle_of_a_run_it_changes_no_weight() {
    let folder = tempfile::tempdir().unwrap();
    let kept = kept(folder.path());
    std::fs::create_dir(folder.path().join("spilled")).unwrap();
    let spills =
        ["--set", "memory.activations=spill", "--set", "memory.spill_folder=spilled", "--out", "removed"];
    let mut process = start(folder.path(), &train(&spills));
    let out = folder.path().join("removed");
    wait_until(&mut process, || n_metric_rows(&out) >= 100);
    std::fs::remove_dir_all(folder.path().join("spilled")).unwrap();
    assert!(process.wait().unwrap().success());
    assert_eq!(weights_sha256(&out), kept);
}

#[test]
fn a_full_disk_under_it_changes_no_weight() {
    let folder = tempfile::tempdir().unwrap();
    let kept = kept(folder.path());
    // A limit on the length of files stands for the disk: units of 512 bytes, and the signal for it is ignored.
    let limited = "trap '' XFSZ; ulimit -f 6144; exec \"$0\" \"$@\"";
    let spills = ["--set", "memory.activations=spill", "--out", "full"];
    let mut command = Command::new("sh");
    command.args(["-c", limited]).arg(program()).args(train(&spills)).current_dir(folder.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("activations are computed again from here on").count(), 1, "{said}");
    assert!(!said.contains("frame #"), "{said}");
    assert_eq!(weights_sha256(&folder.path().join("full")), kept);
    assert_eq!(summary(&folder.path().join("full"))["denied_allocations"], 0);
}
