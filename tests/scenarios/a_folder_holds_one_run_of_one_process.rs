//! A run's folder is made for one run, and one process at a time uses it. What the run needs of its folder is there, or is
//! missed in one line.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tests::{
    kill, n_metric_rows, plimsoll, run, run_well, short_train, start, summary, wait_until, weights_sha256,
};

/// Checks that the program refuses `arguments` with status 2, and that its last line holds each of `words`.
fn check_refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let output = run(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    let complaint = said.lines().last().unwrap_or_default();
    assert!(complaint.starts_with("plimsoll: "), "{arguments:?}: {said}");
    for word in words {
        assert!(complaint.contains(word), "{arguments:?}: `{word}` is not in: {complaint}");
    }
}

#[test]
fn runs_that_begin_in_one_second_have_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let start = |seed: &str| {
        let arguments = short_train(&["--steps", "320", "--seed", seed]);
        plimsoll(folder.path(), &arguments).stderr(Stdio::null()).spawn().unwrap()
    };
    for mut process in ["1", "2", "3"].map(start) {
        assert!(process.wait().unwrap().success());
    }
    let runs: Vec<_> =
        fs::read_dir(folder.path().join("runs")).unwrap().map(|run| run.unwrap().path()).collect();
    assert_eq!(runs.len(), 3);
    let mut seeds: Vec<u64> = runs.iter().map(|run| summary(run)["seed"].as_u64().unwrap()).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [1, 2, 3]);
    for run in runs {
        let config = fs::read_to_string(run.join("config.toml")).unwrap();
        assert!(config.contains(&format!("seed = {}", summary(&run)["seed"])), "{config}");
    }
}

#[test]
fn a_second_process_is_told_who_uses_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut process = start(folder.path(), &short_train(&["--steps", "100000", "--out", "out"]));
    wait_until(&mut process, || n_metric_rows(&out) >= 1);
    let holder = format!("out: is in use by process {} on ", process.id());
    check_refused(folder.path(), &["train", "--resume", "out"], &[&holder, " since 2", " UTC"]);
    check_refused(folder.path(), &short_train(&["--out", "out"]), &["holds a run already"]);
    kill(process);
    // The lock ended with its process.
    let mut process = start(folder.path(), &["train", "--resume", "out"]);
    wait_until(&mut process, || n_metric_rows(&out) >= 3);
    kill(process);
}

#[test]
fn refused_data_leaves_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bars.csv"), "timestamp,open,high,low,close,volume\n").unwrap();
    for more in
        [&[][..], &["--out", "deep/out"], &["--set", "replay.tier=mapped", "--set", "replay.mmap_above=0"]]
    {
        let arguments = [&["train", "--data", "bars.csv"], more].concat();
        check_refused(folder.path(), &arguments, &["bars.csv"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{arguments:?}");
    }
}

#[test]
fn a_checkpoint_or_a_folder_that_is_gone_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    run_well(folder.path(), &short_train(&["--steps", "900", "--out", "out"]));
    // Without its checkpoint the run does not begin anew over what it had done.
    let (checkpoint, aside) = (out.join("checkpoint"), out.join("aside"));
    fs::rename(&checkpoint, &aside).unwrap();
    let rows = fs::read(out.join("metrics.jsonl")).unwrap();
    let words =
        ["out/checkpoint: is missing", "rows up to environment step 9", "the first checkpoint at 400"];
    check_refused(folder.path(), &["train", "--resume", "out", "--steps", "1200"], &words);
    assert_eq!(fs::read(out.join("metrics.jsonl")).unwrap(), rows);
    // A run is not made shorter than it is, and what is said to do instead works.
    fs::rename(&aside, &checkpoint).unwrap();
    let words = ["run.environment_steps: the run has taken 912 environment steps", "--steps 912"];
    check_refused(folder.path(), &["train", "--resume", "out", "--steps", "500"], &words);
    let weights = weights_sha256(&out);
    run_well(folder.path(), &["train", "--resume", "out", "--steps", "912"]);
    assert_eq!(weights_sha256(&out), weights);

    // Another program moves the folder away while the run goes on.
    let mut process = plimsoll(folder.path(), &["train", "--resume", "out", "--steps", "3000"]);
    let mut process = process.stderr(Stdio::piped()).spawn().unwrap();
    let n_rows = n_metric_rows(&out);
    wait_until(&mut process, || n_metric_rows(&out) > n_rows);
    fs::rename(&out, folder.path().join("moved")).unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.lines().last().unwrap().contains("out: another program moved or removed the run's folder"),
        "{said}"
    );
    assert!(!out.exists());
    run_well(folder.path(), &["train", "--resume", "moved", "--steps", "1000"]);
}

#[test]
fn settings_that_change_no_bit_may_change_on_resume() {
    let folder = tempfile::tempdir().unwrap();
    let mapped = ["--set", "replay.tier=mapped", "--set", "replay.mmap_above=0", "--steps", "800", "--out"];
    for out in ["same", "other"] {
        run_well(folder.path(), &short_train(&[&mapped[..], &[out]].concat()));
    }
    run_well(folder.path(), &["train", "--resume", "same", "--steps", "1200"]);
    let spill = format!("memory.spill_folder={}", folder.path().display());
    let mut resume = vec!["train", "--resume", "other", "--steps", "1200", "--memory", "3GiB"];
    for set in [
        "memory.activations=recompute",
        "memory.monitoring_interval=1",
        "memory.memory_warning_threshold=0.7",
        &spill,
        "replay.mmap_above=10MB",
        "replay.mmap_window=0",
        "replay.compact_above=0",
        "replay.compress_at=0.5",
        "replay.tier=compressed",
    ] {
        resume.extend(["--set", set]);
    }
    run_well(folder.path(), &resume);
    let [same, other] = ["same", "other"].map(|out| weights_sha256(&folder.path().join(out)));
    assert_eq!(same, other);
    run_well(folder.path(), &["verify", "other"]);
    // Threads may round sums in another way, and that is said.
    let resumed =
        run_well(folder.path(), &["train", "--resume", "other", "--steps", "1300", "--threads", "2"]);
    let said = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(said.contains("with 2 thread(s), and the run had 1 before"), "{said}");
}

#[test]
fn a_run_that_diverged_says_what_can_be_done() {
    let folder = tempfile::tempdir().unwrap();
    let environment = ["train", "--set", "run.environment=cartpole", "--threads", "1", "--steps", "300"];
    let diverges = ["--set", "agent.learning_starts=64", "--set", "agent.reward_scale=3e38", "--out", "out"];
    let output = run(folder.path(), &[&environment[..], &diverges].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaint = said.lines().last().unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in [
        "learning has diverged",
        "start a new run with a lower agent.learning_rate",
        "resumed, this run would",
    ] {
        assert!(complaint.contains(word), "`{word}` is not in: {complaint}");
    }
}
