//! However many signals ask a run to stop, it saves once and goes on later; only Ctrl-C that is repeated ends it at once.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::{program, run_well, short_train, summary};

const HUP: u64 = 1;
const USR1: u64 = 1 << 9;
/// How `env` lets a program begin: as from a terminal, and as from `nohup`.
const USUAL: &str = "--default-signal=HUP";
const IGNORED: &str = "--ignore-signal=HUP";
/// How long a step of the program may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Settings under which a run saves where it is asked to stop, and nowhere else.
const NO_OTHER_SAVE: [&str; 4] = ["--steps", "2400", "--set", "run.checkpoint_interval_steps=1000000"];

fn program_with(hangup: &str) -> Command {
    let mut command = Command::new("env");
    command.arg(hangup).arg(program());
    command
}

fn send(child: &Child, signal: &str) {
    // The last of several signals may find that the run has ended.
    let _ =
        Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

fn rows(out: &Path) -> usize {
    std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

fn saved_steps(out: &Path) -> u64 {
    let text = std::fs::read(out.join("checkpoint/counters.json")).unwrap();
    let counters: serde_json::Value = serde_json::from_slice(&text).unwrap();
    counters["environment_steps"].as_u64().unwrap()
}

#[test]
fn the_run_saves_and_its_resumption_is_the_run_that_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let train = |out| short_train(&[&NO_OTHER_SAVE[..], &["--out", out]].concat());
    run_well(folder.path(), &train("whole"));
    let out = folder.path().join("stopped");
    let volleys: [&[&str]; 4] = [
        &["-TERM", "-TERM"],
        &["-HUP", "-HUP"],
        &["-USR1", "-XCPU"],
        &["-INT", "-USR1", "-TERM", "-INT", "-HUP", "-TERM"],
    ];
    let mut n_steps = 0;
    for (i, volley) in volleys.iter().enumerate() {
        let arguments = if i == 0 { train("stopped") } else { vec!["train", "--resume", "stopped"] };
        let mut command = program_with(USUAL);
        command.current_dir(folder.path()).args(&arguments).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let n_rows = rows(&out);
        wait_until("the run writes rows", || rows(&out) > n_rows + 25);
        for signal in *volley {
            send(&child, signal);
            // As launchers do: the second request finds the run at its save.
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(child.wait().unwrap().code(), Some(130), "{volley:?}");
        assert!(saved_steps(&out) > n_steps, "{volley:?}: nothing was saved");
        n_steps = saved_steps(&out);
    }
    run_well(folder.path(), &["train", "--resume", "stopped"]);
    let weights =
        |out: &str| summary(&folder.path().join(out))["weights_sha256"].as_str().unwrap().to_owned();
    assert_eq!(weights("stopped"), weights("whole"));
}

/// A run that has asked for its bars and never gets them, so that it cannot save, and the signals that it catches: bit
/// `signal - 1` of each. It begins with SIGHUP as `hangup` says.
fn waiting_run(folder: &Path, hangup: &str) -> (Child, u64) {
    assert!(Command::new("mkfifo").arg(folder.join("bars.csv")).status().unwrap().success());
    let mut command = program_with(hangup);
    command.current_dir(folder).args(["train", "--data", "bars.csv", "--out", "out"]);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut caught = 0;
    wait_until("signals are caught", || {
        let text = std::fs::read_to_string(&status).unwrap();
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        caught = u64::from_str_radix(mask.trim(), 16).unwrap();
        // The last of them to be caught.
        caught & USR1 != 0
    });
    (child, caught)
}

#[test]
fn two_interrupts_more_than_a_second_apart_end_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, caught) = waiting_run(folder.path(), USUAL);
    assert!(caught & HUP != 0);
    for signal in ["-TERM", "-HUP", "-USR1", "-TERM"] {
        send(&child, signal);
    }
    let first = Instant::now();
    wait_until("a repeated interrupt ends the run", || {
        send(&child, "-INT");
        child.try_wait().unwrap().is_some()
    });
    assert!(first.elapsed() > Duration::from_secs(1), "interrupts within a second are one");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.ends_with("plimsoll: ended at once, without a save\n"), "{said}");
    assert_eq!(said.matches("asked to stop").count(), 1, "{said}");
    assert!(!folder.path().join("out/checkpoint").exists());
}

#[test]
fn under_nohup_a_run_outlives_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, caught) = waiting_run(folder.path(), IGNORED);
    assert_eq!(caught & HUP, 0, "SIGHUP stays ignored");
    child.kill().unwrap();
    child.wait().unwrap();
}
