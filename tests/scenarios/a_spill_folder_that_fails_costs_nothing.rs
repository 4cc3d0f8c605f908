//! A spill folder that cannot be used, that lies in memory, that is removed or whose disk is full ends no run and changes no
//! result.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use tests::{n_metric_rows, program, run, run_well, short_train, summary, wait_until, weights_sha256};

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

/// A run that spills, of which `fail` makes the folder fail when it has taken some learner steps. What it said.
fn run_through(folder: &Path, out: &str, spill_folder: &str, fail: impl Fn(u32)) -> String {
    let setting = format!("memory.spill_folder={spill_folder}");
    let spills = ["--set", "memory.activations=spill", "--set", &setting, "--out", out];
    let said = folder.join(format!("{out}.txt"));
    // A write past the limit on the length of files is to fail and not to end the process.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program()).args(train(&spills));
    command.current_dir(folder).stderr(File::create(&said).unwrap());
    let mut process = command.spawn().unwrap();
    wait_until(&mut process, || n_metric_rows(&folder.join(out)) >= 30);
    fail(process.id());
    let status = process.wait().unwrap();
    let said = std::fs::read_to_string(said).unwrap();
    assert!(status.success(), "{said}");
    assert!(!said.contains("frame #"), "{said}");
    said
}

#[test]
fn a_folder_that_fails_in_the_middle_of_a_run_changes_no_weight() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run_well(folder, &train(&["--set", "memory.activations=keep", "--out", "kept"]));
    let kept = weights_sha256(&folder.join("kept"));
    std::fs::create_dir(folder.join("spilled")).unwrap();
    let removed = run_through(folder, "removed", "spilled", |_| {
        std::fs::remove_dir_all(folder.join("spilled")).unwrap();
    });
    // The limit on the length of files stands for a disk that is full.
    let full = run_through(folder, "full", ".", |process| {
        let limit = ["--fsize=8000000", "--pid", &process.to_string()].map(str::to_owned);
        assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    });
    for (out, said) in [("removed", removed), ("full", full)] {
        assert_eq!(said.matches("from now on activations are recomputed").count(), 1, "{out}: {said}");
        assert_eq!(weights_sha256(&folder.join(out)), kept, "{out}");
        assert_eq!(summary(&folder.join(out))["denied_allocations"], 0, "{out}");
    }
}
