//! What scenarios share: the program as its users run it, where the real bars lie, and what a skipped test says.

pub mod circles;
pub mod control_group;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The path of the program, which the first call builds from the sources as they are now, in the profile of the tests.
///
/// # Panics
/// Where it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        // `--examples` builds none, as there are none, but gives the dependencies the features that they have in tests.
        // Without it some lack a feature that only tests ask for, and half of the dependencies are built a second time.
        build.args(["build", "--quiet", "--workspace", "--bins", "--examples"]).current_dir(root());
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().is_ok_and(|status| status.success()), "plimsoll cannot be built");
        let test = std::env::current_exe().unwrap_or_default();
        let folder = test.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_path_buf);
        folder.join("plimsoll")
    })
}

/// A command of the program in `folder`.
#[must_use]
pub fn plimsoll(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.current_dir(folder).args(arguments);
    command
}

/// Runs a command of the program to its end.
///
/// # Panics
/// Where it cannot be started.
#[must_use]
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    plimsoll(folder, arguments).output().expect("the program starts")
}

/// Runs a command of the program that has to succeed.
///
/// # Panics
/// Where it fails.
pub fn run_well(folder: &Path, arguments: &[&str]) -> Output {
    let output = run(folder, arguments);
    assert!(output.status.success(), "plimsoll {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Starts a command of the program and hides what it says.
///
/// # Panics
/// Where it cannot be started.
#[must_use]
pub fn start(folder: &Path, arguments: &[&str]) -> Child {
    plimsoll(folder, arguments).stderr(Stdio::null()).spawn().expect("the program starts")
}

/// Waits until the process has come so far.
///
/// # Panics
/// Where the process ends before, or needs more than five minutes.
pub fn wait_until(process: &mut Child, has_come: impl Fn() -> bool) {
    let began = Instant::now();
    while !has_come() {
        assert!(process.try_wait().is_ok_and(|status| status.is_none()), "the process ended by itself");
        assert!(began.elapsed() < Duration::from_secs(300), "the process does not go on");
        // A loop without a pause would take a core from the process that it waits for.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills a process with `SIGKILL`.
///
/// # Panics
/// Where it has ended before.
pub fn kill(mut process: Child) {
    process.kill().expect("a process can be killed");
    let status = process.wait().expect("a killed process ends");
    assert!(!status.success(), "the process ended before it was killed");
}

/// Interrupts a process as Ctrl-C does, waits for its end, and gives its exit status.
///
/// # Panics
/// Where it cannot be interrupted.
pub fn interrupt(mut process: Child) -> Option<i32> {
    let sent = Command::new("kill").args(["-INT", &process.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "the process cannot be interrupted");
    process.wait().expect("an interrupted process ends").code()
}

/// Reads a JSON file.
///
/// # Panics
/// Where it is missing or is not JSON.
#[must_use]
pub fn read_json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads the `summary.json` of a finished run.
///
/// # Panics
/// Where it is missing or is not JSON.
#[must_use]
pub fn summary(run: &Path) -> Value {
    read_json(&run.join("summary.json"))
}

/// The SHA-256 of the weights that a finished run was judged by, and that of its last ones.
///
/// # Panics
/// Where its summary names none.
#[must_use]
pub fn weights_sha256(run: &Path) -> [String; 2] {
    let summary = summary(run);
    ["weights_sha256", "last_weights_sha256"]
        .map(|key| summary[key].as_str().expect("a summary names the weights").to_owned())
}

/// The rows of `metrics.jsonl` that a run has written so far, which show how far it has come.
#[must_use]
pub fn n_metric_rows(run: &Path) -> usize {
    std::fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// Says why a test does nothing. Where the environment variable `CI` is set it fails the test instead: CI has all that a
/// test needs, or has to hear that it does not.
///
/// # Panics
/// Where `CI` is set and not empty.
pub fn skip(reason: &str) {
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!is_ci, "CI skips no test, and this one lacks what it needs: {reason}");
    // The test harness hides what a passing test prints, but not what it writes to the stream itself.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

/// A file of real bars, from the folder that `PLIMSOLL_DATA` names or from `../shared/data` beside the checkout. Where
/// there is none the test is to be skipped, and [`skip`] has said so.
#[must_use]
pub fn real_bars(name: &str) -> Option<PathBuf> {
    let folder =
        std::env::var_os("PLIMSOLL_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    skip(&format!("no real bars at {} (PLIMSOLL_DATA may name their folder)", path.display()));
    None
}

/// The settings of a run that takes a few seconds over a short synthetic market.
pub const SHORT: [&str; 14] = [
    "--threads",
    "1",
    "--set",
    "synthetic.days=30",
    "--set",
    "agent.learning_starts=300",
    "--set",
    "agent.batch=32",
    "--set",
    "agent.samples_per_insert=1",
    "--set",
    "run.checkpoint_interval_steps=400",
    "--set",
    "run.evaluation_interval_steps=1000",
];

/// The arguments of `train` with the settings of [`SHORT`] and more after them.
#[must_use]
pub fn short_train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["train"].into_iter().chain(SHORT).chain(more.iter().copied()).collect()
}
