//! `plimsoll bench limit --commands N,…`: the memory limit against the peak of every command, over files of so many minutes.
//!
//! ```text
//! file of N minutes ──> the limit that a refusal names, tried ──> the command at that limit, in a group of limit + 4 MiB
//!                       without a group until it is accepted              ──> the kernel's peak
//! ```
//!
//! Each command is given the smallest limit that it accepts: less is refused with status 3 and a limit that would do.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use memsys::limit::MemoryLimit;
use memsys::os::probe;
use serde::Serialize;
use serde_json::{Value, json};

use crate::bench::limit::bar_files::write_minutes;
use crate::bench::limit::children::{BESIDE_BYTES, Ended};
use crate::bench::limit::trial::{Place, problem_of};
use crate::console::say;
use crate::error::{Error, Result};
use crate::format;

/// The limit that is tried first.
const FIRST_LIMIT_BYTES: u64 = 16 << 20;
/// Limits that are tried, each the one that the refusal before it names.
const MOST_TRIES: usize = 8;
/// Exit status of a command whose limit is too low.
const TOO_LOW: i32 = 3;
/// A short run with a replay in a file.
const RUN: &str = "--threads 1 --steps 1500 --set agent.learning_starts=300 --set agent.batch=32 \
                   --set agent.samples_per_insert=1 --set replay.tier=mapped";

/// A command over a file of bars, at the smallest limit that it accepts.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CommandRun {
    command: &'static str,
    n_minutes: usize,
    limit_bytes: u64,
    peak_bytes: u64,
    group_peak_bytes: Option<u64>,
    seconds: f64,
    /// Why the limit did not hold; `None` if it did.
    problem: Option<String>,
}

/// The commands, each with its arguments over `bars.csv` and the run in `run`. Those of a run come first.
fn commands() -> Vec<(&'static str, Vec<String>)> {
    let words = |text: &str| text.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
    vec![
        ("plan", words(&format!("plan --data bars.csv {RUN}"))),
        ("train", words(&format!("train --data bars.csv {RUN} --out run"))),
        ("evaluate", words("evaluate --run run --data bars.csv --allow-seen")),
        ("data", words("data bars.csv")),
        ("features to CSV", words("features --data bars.csv --out rows.csv")),
        ("features to Parquet", words("features --data bars.csv --out rows.parquet")),
        ("features --check", words("features --data bars.csv --out rows.parquet --check")),
        ("replay inspect", words("replay inspect run")),
        ("verify", words("verify run")),
    ]
}

/// Measures every command over files of each number of minutes.
///
/// # Errors
/// If a file cannot be written or a process cannot be started.
pub(super) fn measure(place: Place<'_>, sizes: &[usize]) -> Result<Vec<CommandRun>> {
    let mut runs = Vec::new();
    for n_minutes in sizes {
        let folder = place.folder.join(format!("{n_minutes}-minutes"));
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let _ = std::fs::remove_dir_all(folder.join("run"));
        write_minutes(&folder.join("bars.csv"), *n_minutes)?;
        // The kernel's peak of a child begins with the peak of this process.
        probe::restart_peak_resident();
        for (command, arguments) in commands() {
            let work = Work { place, folder: &folder, command, arguments: &arguments };
            let run = work.measure(*n_minutes)?;
            say(&row(&run));
            runs.push(run);
        }
    }
    Ok(runs)
}

struct Work<'a> {
    place: Place<'a>,
    folder: &'a Path,
    command: &'static str,
    arguments: &'a [String],
}

impl Work<'_> {
    fn measure(&self, n_minutes: usize) -> Result<CommandRun> {
        let said = self.folder.join(format!("{}.txt", self.command.replace(' ', "-")));
        let mut limit_bytes = FIRST_LIMIT_BYTES;
        for _ in 0..MOST_TRIES {
            // In a group this low the kernel would kill the program while it is loaded.
            let ended = self.run(limit_bytes, false, &said)?;
            let is_refused = ended.end.status.code() == Some(TOO_LOW);
            match named_limit(&said).filter(|named| is_refused && *named > limit_bytes) {
                Some(named) => limit_bytes = named,
                None => break,
            }
        }
        if self.command == "train" {
            // The run that was accepted is there already.
            let _ = std::fs::remove_dir_all(self.folder.join("run"));
        }
        let began = Instant::now();
        let ended = self.run(limit_bytes, true, &said)?;
        let seconds = began.elapsed().as_secs_f64();
        let peak_bytes = ended.end.peak_resident_bytes;
        let over = peak_bytes.saturating_sub(limit_bytes);
        let over = (over > 0).then(|| format!("the peak passes it by {}", format::bytes(over)));
        Ok(CommandRun {
            command: self.command,
            n_minutes,
            limit_bytes,
            peak_bytes,
            group_peak_bytes: ended.group_peak_bytes,
            seconds,
            problem: problem_of(&ended, &said).or(over),
        })
    }

    fn run(&self, limit_bytes: u64, is_grouped: bool, said: &Path) -> Result<Ended> {
        let mut command = Command::new(self.place.program);
        command.current_dir(self.folder).args(self.arguments).env("OMP_WAIT_POLICY", "passive");
        command.arg("--memory").arg(limit_bytes.to_string());
        let said = File::create(said).map_err(Error::io(said))?;
        self.place.children.run(0, command, is_grouped.then_some(limit_bytes), &said, || false)
    }
}

/// The limit that a refusal names: what stands after the last `--memory`.
fn named_limit(said: &PathBuf) -> Option<u64> {
    let text = std::fs::read(said).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (_, named) = text.rsplit_once("--memory ")?;
    let named = named.split([' ', ')', '\n']).next()?;
    MemoryLimit::parse(named).ok().map(|limit| limit.limit_bytes(u64::MAX))
}

const HEAD: &str =
    "  minutes  command              limit        peak    of limit    group's   seconds  minutes/s";

fn row(run: &CommandRun) -> String {
    format!(
        "{:>9}  {:<19} {:>9}  {:>10}  {:>7.1} %  {:>9}  {:>8.1}  {:>9}{}",
        format::count(run.n_minutes as u64),
        run.command,
        format::bytes(run.limit_bytes),
        format::bytes(run.peak_bytes),
        run.peak_bytes as f64 / run.limit_bytes as f64 * 100.0,
        run.group_peak_bytes.map_or_else(|| "-".to_owned(), format::bytes),
        run.seconds,
        format::count((run.n_minutes as f64 / run.seconds.max(1e-9)) as u64),
        run.problem.as_ref().map_or_else(String::new, |problem| format!("\n           {problem}"))
    )
}

/// The table.
pub(super) fn text(runs: &[CommandRun], is_grouped: bool) -> String {
    let rows: String = runs.iter().map(|run| row(run) + "\n").collect();
    let n_problems = runs.iter().filter(|run| run.problem.is_some()).count();
    let within = if is_grouped {
        format!("in control groups of the limit + {}", format::bytes(BESIDE_BYTES))
    } else {
        "without control groups".to_owned()
    };
    format!("{HEAD}\n{rows}{} runs {within}, the limit did not hold in {n_problems}\n", runs.len())
}

/// The same as JSON.
pub(super) fn to_json(runs: &[CommandRun]) -> Value {
    json!({ "commands": runs })
}

/// Whether the limit held everywhere.
///
/// # Errors
/// [`Error::LimitPassed`] if it did not.
pub(super) fn result(runs: &[CommandRun]) -> Result<()> {
    let n_passed = runs.iter().filter(|run| run.problem.is_some()).count();
    match n_passed {
        0 => Ok(()),
        _ => Err(Error::LimitPassed { n_passed, n_runs: runs.len(), n_plans_failed: 0 }),
    }
}
