//! Prices that no market has, too few threads, too little address space, names that are not UTF-8, a working folder that is
//! gone, a full disk: each is answered in one line that says what to do, never by a panic and never by waiting.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::{
    n_metric_rows, plimsoll, program, run, run_well, short_train, skip, start, wait_until, weights_sha256,
};

/// Checks that a command ended with `status` and one line on its error stream that holds `words`.
fn check(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is not in: {said}"));
}

/// A file of minutes in whose middle one high is `high`.
fn with_spike(folder: &Path, high: &str) -> PathBuf {
    let row = |i: u64| {
        let high = if i == 4_000 { high } else { "1.1" };
        format!("{},1.0,{high},0.9,{},5\n", 1_577_836_800 + 60 * i, 1.0 + 0.01 * (i % 7) as f64)
    };
    let rows: String = (0..12_000).map(row).collect();
    let path = folder.join("spike.csv");
    std::fs::write(&path, "timestamp,open,high,low,close,volume\n".to_owned() + &rows).unwrap();
    path
}

#[test]
fn a_price_that_no_market_has_is_refused_and_a_huge_one_is_worked_with() {
    let folder = tempfile::tempdir().unwrap();
    let features = ["-q", "features", "--data", "spike.csv", "--out", "rows.parquet", "--check"];
    for high in ["1.7976931348623157e308", "1e100"] {
        let _ = with_spike(folder.path(), high);
        check(&run(folder.path(), &features), 2, &["spike.csv:4002", "`high` is", "mend the row"]);
    }
    let _ = with_spike(folder.path(), "1e20");
    run_well(folder.path(), &features);
}

#[test]
fn a_name_that_is_not_utf8_is_refused_where_a_configuration_would_hold_it() {
    let folder = tempfile::tempdir().unwrap();
    let strange = OsStr::from_bytes(b"b\xff.csv");
    std::fs::copy(with_spike(folder.path(), "1.2"), folder.path().join(strange)).unwrap();
    for (command, flag) in [
        ("train", "--data"),
        ("train", "--out"),
        ("train", "--resume"),
        ("plan", "--data"),
        ("features", "--data"),
    ] {
        let mut told = plimsoll(folder.path(), &["-q", command, flag]);
        if command == "features" {
            told.arg(strange).args(["--out", "rows.csv"]);
        } else {
            told.arg(strange);
        }
        check(&told.output().unwrap(), 2, &[flag, "is not UTF-8", "rename it"]);
    }
}

#[test]
fn too_little_address_space_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("prlimit");
    command.args(["--as=500000000"]).arg(program()).arg("-q").args(short_train(&["--out", "out"]));
    let output = command.current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|status| status != 0 && status != 101), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
fn too_few_threads_are_counted_before_the_run_begins() {
    let folder = tempfile::tempdir().unwrap();
    let group = Path::new("/sys/fs/cgroup/pids").join(format!("plimsoll-test-{}", std::process::id()));
    if std::fs::create_dir(&group).is_err() {
        return skip("no control group of processes can be made here");
    }
    for (most, threads) in [("1", "1"), ("2", "1"), ("3", "1"), ("3", "4"), ("5", "4")] {
        std::fs::write(group.join("pids.max"), most).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(group.join("cgroup.procs"))
            .arg(program());
        command.args(["-q", "train", "--threads", threads, "--out", "out"]);
        let output = command.current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{most} {threads}: {said}");
        assert!(said.contains("run.threads") && said.contains("pids.max"), "{most} {threads}: {said}");
        assert!(!folder.path().join("out").exists());
    }
    let _ = std::fs::remove_dir(&group);
}

#[test]
fn a_working_folder_that_is_gone_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let out = folder.path().join("out");
    let name = out.display().to_string();
    std::fs::create_dir(&gone).unwrap();
    let mut process = start(&gone, &short_train(&["--steps", "900", "--out", &name]));
    wait_until(&mut process, || n_metric_rows(&out) > 10);
    std::fs::remove_dir(&gone).unwrap();
    assert!(process.wait().unwrap().success());
    assert!(out.join("summary.json").exists());

    std::fs::create_dir(&gone).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "rmdir \"$PWD\" && exec \"$0\" \"$@\""]).arg(program());
    command.args(["-q", "train", "--resume", &name]).current_dir(&gone);
    // A library that looks for its parts from there ends the process while it is loaded, before any of ours runs.
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.trim_end().lines().count() <= 1 && output.status.code() != Some(101), "{said}");
}

#[test]
fn a_disk_without_room_for_two_checkpoints_is_refused_before_the_run_begins() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "small"]).arg(&disk).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        return skip("no file system can be mounted here");
    }
    let output = run(folder.path(), &[&["-q"][..], &short_train(&["--out", "disk/out"])].concat());
    let is_begun = disk.join("out").exists();
    let _ = Command::new("umount").arg(&disk).status();
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim_end().lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(last.contains("disk/out: its disk has") && last.contains("for its checkpoints"), "{said}");
    assert!(!is_begun, "something was begun");
}

#[test]
fn a_disk_that_is_full_at_a_save_leaves_the_last_checkpoint_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let train = |out| short_train(&["--steps", "2000", "--out", out]);
    run_well(folder.path(), &train("whole"));
    let out = folder.path().join("out");
    let said = folder.path().join("said.txt");
    let mut command = plimsoll(folder.path(), &[&["-q"][..], &train("out")].concat());
    let mut process = command.stderr(std::fs::File::create(&said).unwrap()).spawn().unwrap();
    wait_until(&mut process, || out.join("checkpoint/counters.json").exists());
    // The limit on the length of files stands for a disk that is full. It would end the process where its signal did.
    let limit = ["--fsize=100000", "--pid", &process.id().to_string()].map(str::to_owned);
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    let status = process.wait().unwrap();
    let said = std::fs::read_to_string(said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(
        said.contains("File too large") && said.contains("go on with: plimsoll train --resume"),
        "{said}"
    );
    assert!(!out.join("checkpoint.part").exists(), "its half takes the room of the next save");
    let mut resumed = start(folder.path(), &["train", "--resume", "out"]);
    assert!(resumed.wait().unwrap().success());
    assert_eq!(weights_sha256(&out), weights_sha256(&folder.path().join("whole")));
}
