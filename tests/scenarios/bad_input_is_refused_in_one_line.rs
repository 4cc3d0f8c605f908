//! Bad input is refused in one clear line with status 2, before anything is begun.

use std::path::Path;

use tests::run;

const HEADER: &str = "timestamp,open,high,low,close,volume\n";

/// Checks that the program refuses `arguments` with status 2, and that its last line holds each of `words`.
fn check(folder: &Path, arguments: &[&str], words: &[&str]) {
    let output = run(folder, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    let complaint = text.lines().last().unwrap_or_default();
    assert!(complaint.starts_with("plimsoll: "), "{arguments:?}: {text}");
    for word in words {
        assert!(complaint.contains(word), "{arguments:?}: `{word}` is not in: {complaint}");
    }
}

fn bars(n: usize) -> String {
    let row = |i: usize| {
        format!("2024-01-{:02} {:02}:{:02}:00,1.0,1.1,0.9,1.0,5\n", i / 1440 + 1, i / 60 % 24, i % 60)
    };
    HEADER.to_owned() + &(0..n).map(row).collect::<String>()
}

#[test]
fn bad_files_are_named_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("empty.csv", "");
    write("header.csv", HEADER);
    write("column.csv", "timestamp,open,high,Llow,close,volume\n2024-01-01 00:00:00,1,1,1,1,1\n");
    write("text.csv", &format!("{HEADER}2024-01-01 00:00:00,1,1,1,1,1\n2024-01-01 00:01:00,1,dear,1,1,1\n"));
    let minutes = [1, 0, 2].map(|minute| format!("2024-01-01 00:0{minute}:00,1,1,1,1,1\n")).concat();
    write("back.csv", &format!("{HEADER}{minutes}"));
    write("few.csv", &bars(3000));
    write("cut.parquet", "PAR1 and then nothing");
    std::fs::create_dir(folder.path().join("folder.csv")).unwrap();
    let check = |file: &str, words: &[&str]| {
        let mut all = vec![file];
        all.extend(words);
        check(folder.path(), &["train", "--data", file, "--out", "out"], &all);
    };
    check("empty.csv", &["empty"]);
    check("header.csv", &[]);
    check("column.csv", &["Llow", "low"]);
    check("text.csv", &["text.csv:3", "dear"]);
    check("back.csv", &["back.csv:3"]);
    check("folder.csv", &[]);
    check("cut.parquet", &[]);
    check("missing.csv", &[]);
    let few = run(folder.path(), &["train", "--data", "few.csv", "--out", "few"]);
    let text = String::from_utf8_lossy(&few.stderr).into_owned();
    assert_eq!(few.status.code(), Some(2), "{text}");
    for word in ["few.csv: holds 600 five-minute bars", "1,268"] {
        assert!(text.lines().last().unwrap().contains(word), "{text}");
    }
}

#[test]
fn bad_settings_are_named_with_their_key() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.toml"), "[agent]\nlerning_rate = 0.1\n").unwrap();
    let check = |arguments: &[&str], words: &[&str]| check(folder.path(), arguments, words);
    check(&["train", "--config", "mine.toml"], &["mine.toml:2", "lerning_rate", "agent.learning_rate"]);
    check(&["train", "--set", "agent.bach=3"], &["agent.bach", "agent.batch"]);
    check(&["train", "--set", "account.commission_bps=-1"], &["account.commission_bps", "-1"]);
    check(&["train", "--steps", "0"], &["run.environment_steps", "0"]);
    check(&["train", "--steps", "many"], &["run.environment_steps", "many"]);
    check(&["train", "--memory", "0"], &["memory.limit"]);
    check(&["train", "--memory", "-1GiB"], &["memory.limit", "-1GiB"]);
    check(&["train", "--memory", "12parsecs"], &["memory.limit", "parsecs"]);
    check(&["train", "--memory", "200%"], &["memory.limit", "200%"]);
    check(&["train", "--device", "cuda:7"], &["run.device", "CUDA device 7"]);
    check(&["train", "--workers", "2"], &["--workers"]);
    check(&["train", "--resume", "nowhere"], &["nowhere", "holds no run"]);
    check(&["train", "--out", "/proc/plimsoll"], &["/proc/plimsoll"]);
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], words: &[&str]| {
        check(folder.path(), arguments, words);
        let said = run(folder.path(), arguments).stderr;
        assert_eq!(String::from_utf8(said).unwrap().lines().count(), 1, "{arguments:?}");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "{arguments:?}: something was begun"
        );
    };
    for more in [&[][..], &["--set", "memory.managed=false"]] {
        check(&[&["train", "--data", "nofile"], more].concat(), &["nofile", "no such file"]);
    }
    check(&["plan", "--data", "nofile"], &["nofile", "no such file"]);
    let nowhere = folder.path().join("nowhere").display().to_string();
    let spill = format!("memory.spill_folder={nowhere}");
    check(&["train", "--set", "memory.activations=spill", "--set", &spill], &[&nowhere, "No such file"]);
    check(&["bench", "replay", "--folder", &nowhere], &[&nowhere, "No such file"]);
    let json = format!("{nowhere}/figures.json");
    check(&["bench", "replay", "--json", &json], &[&json, "no folder"]);
    for limits in ["0", "-5", "100.5", "50,NaN"] {
        check(&["bench", "memory", "--limits", limits], &["--limits", "percent of the unmanaged peak"]);
    }
}

#[test]
fn a_run_is_not_resumed_over_other_settings_or_other_bars() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = tests::short_train(&["--steps", "500", "--out", "out"]);
    tests::run_well(folder.path(), &arguments);
    let check = |arguments: &[&str], words: &[&str]| check(folder.path(), arguments, words);
    check(&["train", "--resume", "out", "--set", "agent.batch=64"], &["agent.batch", "resumed"]);
    let text = std::fs::read_to_string(folder.path().join("out/config.toml")).unwrap();
    std::fs::write(folder.path().join("out/config.toml"), text.replace("days = 30", "days = 31")).unwrap();
    let way_out = "cp out/checkpoint/config.toml out/config.toml";
    check(
        &["train", "--resume", "out", "--steps", "900"],
        &["out/config.toml: is not what the run wrote", way_out],
    );
}

#[test]
fn a_limit_below_what_the_program_itself_holds_is_status_3() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["train", "--memory", "1", "--out", "out"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("memory.limit") && text.contains("the smallest that can is"), "{text}");
    assert!(!folder.path().join("out").exists(), "nothing was begun");
}
