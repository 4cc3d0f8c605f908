//! `--quiet` leaves results and errors, `--verbose` adds details, and the help begins with what the program is for.

use std::path::Path;
use std::process::Output;

use tests::{run, run_well, short_train};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(arguments: &[&str]) -> String {
    String::from_utf8(run_well(Path::new("."), arguments).stdout).unwrap()
}

#[test]
fn a_quiet_run_tells_its_result_and_a_quiet_error_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let quiet = run_well(folder.path(), &short_train(&["--steps", "600", "--out", "quiet", "-q"]));
    let text = said(&quiet);
    assert!(text.starts_with("done: "), "{text}");
    assert!(text.contains("weights_sha256 "), "{text}");
    let refused = run(folder.path(), &["--quiet", "train", "--resume", "nowhere"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).starts_with("plimsoll: nowhere: "), "{}", said(&refused));
    let both = run(folder.path(), &["config", "-q", "-v"]);
    assert_eq!(both.status.code(), Some(2), "{}", said(&both));
}

#[test]
fn a_verbose_command_names_the_settings_that_were_changed() {
    let changed = ["config", "--set", "agent.batch=32"];
    assert_eq!(said(&run_well(Path::new("."), &changed)), "");
    let verbose = run_well(Path::new("."), &[&changed[..], &["-v"]].concat());
    assert_eq!(said(&verbose), "agent.batch = 32 (default 128)\n");
}

#[test]
fn the_help_begins_with_what_the_program_is_for() {
    assert!(printed(&["--help"]).starts_with("Plimsoll trains reinforcement-learning agents"));
    let train = printed(&["train", "--help"]);
    assert!(train.contains("SIGTERM") && train.contains("--resume"), "{train}");
}

#[test]
fn shells_and_man_are_given_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("plimsoll") && script.contains("evaluate"), "{shell}: {script}");
    }
    assert!(printed(&["man"]).contains(".TH plimsoll 1"));
    run_well(folder.path(), &["man", "--out", "man1"]);
    for page in ["plimsoll.1", "plimsoll-train.1", "plimsoll-verify.1", "plimsoll-bench-memory.1"] {
        let text = std::fs::read_to_string(folder.path().join("man1").join(page)).unwrap();
        assert!(text.contains("Example"), "{page}: {text}");
    }
}
