//! A run that is killed before any of its durable operations, or in the middle of a write, once or twice in a row, goes on
//! and ends with the weights of the run that never stopped.
//!
//! `tests/fixtures/kill_at.c` is preloaded into the program and counts what the run does to the files of its folder. A run
//! with saves, compactions of its replay's file and a resumption is killed before one operation after another. `make crash`
//! tries all of them; the tests try a sample.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tests::{program, root, skip, weights_sha256};

/// The run: its beginning, and its extension.
const BEGIN: [&str; 27] = [
    "train",
    "--threads",
    "1",
    "--steps",
    "320",
    "--set",
    "run.environment=cartpole",
    "--set",
    "agent.learning_starts=64",
    "--set",
    "agent.batch=16",
    "--set",
    "agent.samples_per_insert=1",
    "--set",
    "run.checkpoint_interval_steps=80",
    "--set",
    "run.evaluation_interval_steps=200",
    "--set",
    "replay.tier=mapped",
    "--set",
    "replay.mmap_above=0",
    "--set",
    "replay.compact_above=0",
    "--set",
    "replay.capacity=1000",
    "--memory",
    "2GiB",
];
const EXTEND: [&str; 4] = ["train", "--steps", "400", "--resume"];

/// Where a process is killed.
#[derive(Debug, Clone, Copy)]
struct Kill {
    /// The operation that is not done, counted from 1.
    at: usize,
    /// Whether half of the write is done.
    is_torn: bool,
}

struct Harness {
    folder: tempfile::TempDir,
    shim: PathBuf,
    n_processes: usize,
}

impl Harness {
    /// `None` where no C compiler is here.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let shim = folder.path().join("kill_at.so");
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .args([&shim, &root().join("tests/fixtures/kill_at.c")])
            .arg("-ldl")
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            skip("there is no C compiler `cc` here, which builds what kills the run");
            return None;
        }
        Some(Self { folder, shim, n_processes: 0 })
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Runs the program on the run's folder. What it did to the folder is in the log.
    fn run(&mut self, arguments: &[&str], kill: Option<Kill>) -> Output {
        self.n_processes += 1;
        let _ = fs::remove_file(self.log());
        let mut command = Command::new(program());
        command.current_dir(self.folder.path()).args(arguments).arg(self.out());
        command.env("LD_PRELOAD", &self.shim).env("KILL_FOLDER", self.out()).env("KILL_LOG", self.log());
        if let Some(Kill { at, is_torn }) = kill {
            command.env("KILL_AT", at.to_string());
            if is_torn {
                command.env("KILL_TORN", "1");
            }
        }
        command.output().unwrap()
    }

    fn operations(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap();
        log.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// Begins the run, or goes on with it where its folder holds one.
    fn begin(&mut self, kill: Option<Kill>) -> Output {
        let resume = ["train", "--resume"];
        let begin = [&BEGIN[..], &["--out"]].concat();
        let is_run = self.out().join("config.toml").exists();
        self.run(if is_run { &resume } else { &begin }, kill)
    }

    /// Takes the run to its end in two parts, of which `part` is killed at each of `kills`, one process after another.
    /// Returns the operations of each whole part.
    fn whole(&mut self, part: usize, kills: &[Kill]) -> [Vec<String>; 2] {
        let _ = fs::remove_dir_all(self.out());
        let mut operations = [Vec::new(), Vec::new()];
        for (number, of_part) in operations.iter_mut().enumerate() {
            let step = |harness: &mut Self, kill| match number {
                0 => harness.begin(kill),
                _ => harness.run(&EXTEND, kill),
            };
            for kill in kills.iter().filter(|_| part == number) {
                let killed = step(self, Some(*kill));
                // A process that has less to do than the kill waits for ends by itself.
                let said = String::from_utf8_lossy(&killed.stderr).into_owned();
                assert!(
                    killed.status.code().is_none_or(|code| code == 0),
                    "part {number}, {kills:?}: {said}"
                );
            }
            let output = step(self, None);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "part {number} after {kills:?}: {said}");
            assert!(!said.contains("panicked"), "{kills:?}: {said}");
            *of_part = self.operations();
        }
        operations
    }
}

#[test]
fn killed_before_any_durable_operation_once_or_twice_it_ends_as_the_run_that_never_stopped() {
    let Some(mut harness) = Harness::new() else { return };
    let is_whole = std::env::var_os("CRASH_WHOLE").is_some();
    let operations = harness.whole(0, &[]);
    let wanted = weights_sha256(&harness.out());
    let n_of = |what: &str| operations.iter().flatten().filter(|operation| operation.contains(what)).count();
    let n_saves = n_of(&format!("rename {}", harness.out().join("checkpoint.part").display()));
    let n_compactions = n_of(&format!("rename {}", harness.out().join("replay.new").display()));
    assert!(n_saves >= 5 && n_compactions >= 1, "{n_saves} saves, {n_compactions} compactions");

    let mut rng = Pcg64Mcg::seed_from_u64(7);
    let (mut n_once, mut n_torn, mut n_twice) = (0, 0, 0);
    for (part, of_part) in operations.iter().enumerate() {
        for (at, operation) in (1..).zip(of_part) {
            let is_write = operation.starts_with("write") || operation.starts_with("pwrite");
            // A save is renames: those are tried always.
            let is_rename = operation.starts_with("rename") && operation.contains("/checkpoint");
            let is_tried = |rng: &mut Pcg64Mcg, one_in: u32| is_whole || rng.random_range(0..one_in) == 0;
            let check = |harness: &mut Harness, kills: &[Kill]| {
                harness.whole(part, kills);
                assert_eq!(weights_sha256(&harness.out()), wanted, "part {part}, {kills:?} at {operation}");
            };
            let clean = Kill { at, is_torn: false };
            if is_tried(&mut rng, 60) {
                check(&mut harness, &[clean]);
                n_once += 1;
            }
            if is_write && is_tried(&mut rng, 120) {
                check(&mut harness, &[Kill { at, is_torn: true }]);
                n_torn += 1;
            }
            if is_tried(&mut rng, 60) || is_rename && rng.random_range(0..3) == 0 {
                let again = Kill { at: rng.random_range(1..=of_part.len()), is_torn: rng.random() };
                check(&mut harness, &[clean, again]);
                n_twice += 1;
            }
        }
    }
    // The harness of the tests hides what a passing test prints, but not what it writes to the stream itself.
    let _ = writeln!(
        std::io::stderr(),
        "of {} durable operations with {n_saves} saves and {n_compactions} compactions, {n_once} kills before one, {n_torn} \
         in the middle of a write and {n_twice} twice in a row, in {} processes: every run ended with the same weights",
        operations.iter().map(Vec::len).sum::<usize>(),
        harness.n_processes
    );
}

/// The two kills of the same save that lost a run.
#[test]
fn killed_between_the_renames_of_two_saves_in_a_row_it_loses_nothing() {
    let Some(mut harness) = Harness::new() else { return };
    let operations = harness.whole(0, &[]);
    let wanted = weights_sha256(&harness.out());
    let second_rename = |operations: &[String], out: &Path, n: usize| {
        let rename = format!("rename {}", out.join("checkpoint.part").display());
        (1..).zip(operations).filter(|(_, operation)| **operation == rename).nth(n).unwrap().0
    };
    let out = harness.out();
    let first = Kill { at: second_rename(&operations[0], &out, 2), is_torn: false };
    // The resumed process saves at other operations: those of its own log.
    let _ = fs::remove_dir_all(&out);
    assert!(harness.begin(Some(first)).status.code().is_none());
    assert!(!out.join("checkpoint").exists() && out.join("checkpoint.old").exists());
    // The new one is whole: it is lost here, as where its last bytes never reached the disk.
    fs::remove_dir_all(out.join("checkpoint.part")).unwrap();
    let copy = harness.folder.path().join("copy");
    assert!(Command::new("cp").arg("-r").args([&out, &copy]).status().unwrap().success());
    let whole = harness.begin(None);
    assert!(whole.status.success());
    let second = Kill { at: second_rename(&harness.operations(), &out, 0), is_torn: false };
    fs::remove_dir_all(&out).unwrap();
    fs::rename(&copy, &out).unwrap();
    assert!(harness.begin(Some(second)).status.code().is_none());
    fs::remove_dir_all(out.join("checkpoint.part")).unwrap();
    let output = harness.begin(None);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("resumed at environment step 160"), "{said}");
    assert!(harness.run(&EXTEND, None).status.success());
    assert_eq!(weights_sha256(&out), wanted);
}
