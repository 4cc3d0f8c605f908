//! What scenarios share: the program as its users run it, and where the real bars lie.

pub mod control_group;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The program, built from the sources as they are now, in the profile of the tests.
///
/// # Panics
/// Where it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(root());
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().is_ok_and(|status| status.success()), "plimsoll cannot be built");
        let test = std::env::current_exe().unwrap_or_default();
        let folder = test.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_path_buf);
        folder.join("plimsoll")
    })
}

/// A command of the program, on one thread, in `folder`.
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

/// Runs a command that must succeed.
///
/// # Panics
/// Where it does not.
pub fn run_well(folder: &Path, arguments: &[&str]) -> Output {
    let output = run(folder, arguments);
    assert!(output.status.success(), "plimsoll {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Reads a run's `summary.json`.
///
/// # Panics
/// Where it is not there or no JSON.
#[must_use]
pub fn summary(run: &Path) -> serde_json::Value {
    let text = std::fs::read(run.join("summary.json")).expect("a finished run has a summary");
    serde_json::from_slice(&text).expect("a summary is JSON")
}

/// A file of real bars: in `PLIMSOLL_DATA`, or in `../shared/data` beside the checkout. Says so where it is not there.
#[must_use]
pub fn real_bars(name: &str) -> Option<PathBuf> {
    let folder =
        std::env::var_os("PLIMSOLL_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: no real bars at {} (PLIMSOLL_DATA may name their folder)", path.display());
    None
}

/// Settings of a run of a few seconds over a short synthetic market.
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

/// `train` with the settings of [`SHORT`] and some more.
#[must_use]
pub fn short_train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["train"].into_iter().chain(SHORT).chain(more.iter().copied()).collect()
}
