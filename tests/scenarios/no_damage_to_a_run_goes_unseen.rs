//! Whatever is flipped, cut, removed or exchanged in a run's folder is named, or changes nothing: a resumed run never panics
//! and never ends with other numbers as if nothing were wrong.
//!
//! `make flip-run` tries every file at many places; the tests try a sample.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;
use tests::{run, run_well, short_train, summary};

const TRAIN: [&str; 24] = [
    "train",
    "--threads",
    "1",
    "--steps",
    "1300",
    "--set",
    "run.environment=cartpole",
    "--set",
    "agent.learning_starts=1000",
    "--set",
    "agent.batch=16",
    "--set",
    "agent.samples_per_insert=1",
    "--set",
    "run.checkpoint_interval_steps=500",
    "--set",
    "run.evaluation_interval_steps=650",
    "--set",
    "replay.tier=mapped",
    "--set",
    "replay.mmap_above=0",
    "--memory",
    "2GiB",
    "--seed",
];

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip { byte: usize, bit: u8 },
    Cut { n_bytes: usize },
    Removed,
    OfAnotherRun,
}

/// What became of the damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Refused,
    Named,
    Harmless,
}

struct Runs {
    folder: tempfile::TempDir,
    /// What the undamaged run ends with.
    wanted: [Value; 4],
}

impl Runs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (out, seed) in [("run", "1"), ("other", "2")] {
            run_well(folder.path(), &[&TRAIN[..], &[seed, "--out", out]].concat());
        }
        let mut runs = Self { folder, wanted: Default::default() };
        let copy = runs.copy();
        run_well(runs.folder.path(), &["train", "--resume", "copy", "--steps", "1400"]);
        runs.wanted = ends_with(&copy);
        runs
    }

    /// A new copy of the run.
    fn copy(&self) -> PathBuf {
        let [run, copy] = ["run", "copy"].map(|name| self.folder.path().join(name));
        let _ = fs::remove_dir_all(&copy);
        assert!(Command::new("cp").arg("-r").args([&run, &copy]).status().unwrap().success());
        copy
    }

    /// The files of the run, relative to its folder.
    fn files(&self) -> Vec<PathBuf> {
        let run = self.folder.path().join("run");
        let of = |folder: &Path| {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.is_file()).collect::<Vec<_>>()
        };
        let mut files = [of(&run), of(&run.join("checkpoint"))].concat();
        files.sort();
        files.iter().map(|file| file.strip_prefix(&run).unwrap().to_owned()).collect()
    }

    /// Damages a file of a copy, verifies the copy, goes on with it, and says what came of it.
    fn fate(&self, file: &Path, damage: Damage) -> Fate {
        let at = self.copy().join(file);
        let mut bytes = fs::read(&at).unwrap();
        match damage {
            Damage::Flip { byte, bit } => bytes[byte] ^= 1 << bit,
            Damage::Cut { n_bytes } => bytes.truncate(n_bytes),
            // Events have the time of their beginning in their name.
            Damage::OfAnotherRun => match fs::read(self.folder.path().join("other").join(file)) {
                Ok(other) => bytes = other,
                Err(_) => return Fate::Harmless,
            },
            Damage::Removed => {}
        }
        match damage {
            Damage::Removed => fs::remove_file(&at).unwrap(),
            _ => fs::write(&at, bytes).unwrap(),
        }
        let verified = run(self.folder.path(), &["verify", "copy"]);
        let output = run(self.folder.path(), &["train", "--resume", "copy", "--steps", "1400"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let context = format!("{} {damage:?}: {:?} {said}", file.display(), output.status);
        assert!(!said.contains("panicked") && output.status.code().is_some(), "{context}");
        let name = file.file_name().unwrap().to_str().unwrap();
        let is_named = said.contains(&format!("copy/{}: ", file.display()));
        let fate = match output.status.code() {
            Some(0) if is_named => Fate::Named,
            Some(0) => {
                assert!(
                    ends_with(&self.folder.path().join("copy")) == self.wanted,
                    "other numbers: {context}"
                );
                Fate::Harmless
            }
            _ => {
                let complaint = said.lines().last().unwrap_or_default();
                assert!(complaint.starts_with("plimsoll: ") && complaint.contains(name), "{context}");
                assert_eq!(output.status.code(), Some(2), "{context}");
                Fate::Refused
            }
        };
        // What stops or changes a run is seen by `verify` too.
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert_ne!(verified.status.code(), Some(101), "{context}: {said}");
        if fate != Fate::Harmless {
            assert_eq!(verified.status.code(), Some(2), "{context}: verify: {said}");
        }
        fate
    }
}

/// The weights, the test and the metrics that a run ended with, without clocks and bytes.
fn ends_with(run: &Path) -> [Value; 4] {
    let rows = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        for clock in [
            "wall_seconds",
            "resident_bytes",
            "counted_bytes",
            "samples_per_second",
            "environment_steps_per_second",
        ] {
            row.as_object_mut().unwrap().remove(clock);
        }
        row
    };
    let summary = summary(run);
    let [weights, last, test] =
        ["weights_sha256", "last_weights_sha256", "test"].map(|key| summary[key].clone());
    [weights, last, test, rows.lines().map(row).collect()]
}

#[test]
fn every_file_of_a_run_can_be_flipped_cut_removed_or_exchanged_and_nothing_goes_unseen() {
    let is_whole = std::env::var_os("FLIP_WHOLE").is_some();
    let (n_flips, n_cuts) = if is_whole { (50, 50) } else { (1, 1) };
    let runs = Runs::new();
    let mut rng = Pcg64Mcg::seed_from_u64(3);
    let mut n_of = [[0; 3]; 4];
    for file in runs.files() {
        let n_bytes = fs::metadata(runs.folder.path().join("run").join(&file)).unwrap().len() as usize;
        let mut all = Vec::new();
        for number in 0..n_flips {
            // Heads and ends of files are a few bytes of many, and as important.
            let byte = match number % 4 {
                1 => rng.random_range(0..64),
                2 => n_bytes.saturating_sub(rng.random_range(1..65)),
                3 => rng.random_range(0..4096),
                _ => rng.random_range(0..n_bytes.max(1)),
            };
            if n_bytes > 0 {
                let byte = byte.min(n_bytes - 1);
                all.push(Damage::Flip { byte, bit: rng.random_range(0..8) });
            }
        }
        for number in 0..n_cuts {
            if n_bytes > 0 && (is_whole || rng.random_range(0..4) == 0) {
                let n_bytes = if number == 0 { n_bytes - 1 } else { rng.random_range(0..n_bytes) };
                all.push(Damage::Cut { n_bytes });
            }
        }
        for damage in [Damage::Removed, Damage::OfAnotherRun] {
            if is_whole || rng.random_range(0..3) == 0 {
                all.push(damage);
            }
        }
        let mut of_file = [0; 3];
        for damage in all {
            let fate = runs.fate(&file, damage) as usize;
            let kind = match damage {
                Damage::Flip { .. } => 0,
                Damage::Cut { .. } => 1,
                Damage::Removed => 2,
                Damage::OfAnotherRun => 3,
            };
            n_of[kind][fate] += 1;
            of_file[fate] += 1;
        }
        if is_whole {
            let _ = writeln!(std::io::stderr(), "{}: {of_file:?}", file.display());
        }
    }
    for (kind, [refused, named, harmless]) in ["flips", "cuts", "removals", "exchanges"].iter().zip(n_of) {
        // The harness of the tests hides what a passing test prints, but not what it writes to the stream itself.
        let _ = writeln!(
            std::io::stderr(),
            "{} {kind}: {refused} refused, {named} named, {harmless} without effect",
            refused + named + harmless
        );
    }
}

#[test]
fn a_record_of_the_bars_that_was_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &short_train(&["--steps", "400", "--out", "out"]));
    run_well(folder.path(), &["verify", "out"]);
    let path = folder.path().join("out/data.json");
    let whole = fs::read(&path).unwrap();
    let mut rng = Pcg64Mcg::seed_from_u64(4);
    let check = |arguments: &[&str]| {
        let output = run(folder.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.lines().last().unwrap().contains("out/data.json: is "), "{said}");
    };
    for _ in 0..30 {
        let mut flipped = whole.clone();
        flipped[rng.random_range(0..whole.len())] ^= 1 << rng.random_range(0..8);
        fs::write(&path, flipped).unwrap();
        check(&["verify", "out"]);
    }
    check(&["train", "--resume", "out", "--steps", "500"]);
    fs::remove_file(&path).unwrap();
    check(&["verify", "out"]);
}
