//! One configuration at its planned minimum and above: plans it, runs it, and says where the limit did not hold.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::bench::limit::children::{Children, Ended};
use crate::bench::limit::configurations::Configuration;
use crate::error::{Error, Result};
use crate::format;
use crate::report::summary;

/// The limits of a configuration's runs, as shares of its planned minimum.
pub(super) const SHARES: [f64; 3] = [1.0, 1.05, 1.3];

/// A configuration with what its plan said and its runs took.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Trial {
    /// Its place in the list, from 1.
    pub(super) number: usize,
    /// What sets it apart, in words.
    pub(super) words: String,
    /// The arguments of `train`, without the limit and the folder.
    pub(super) arguments: Vec<String>,
    /// Environment steps after which it was interrupted and resumed, if it was.
    pub(super) interrupted_after: Option<u64>,
    /// The smallest memory limit of the plan; `None` if there is no plan.
    pub(super) minimum_bytes: Option<u64>,
    /// The peak that the plan under that limit foretells.
    pub(super) planned_peak_bytes: Option<u64>,
    /// What went wrong with the plan.
    pub(super) plan_problem: Option<String>,
    /// The runs, in the order of [`SHARES`].
    pub(super) runs: Vec<LimitedRun>,
}

/// A run under one memory limit.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LimitedRun {
    /// The limit, as a share of the planned minimum.
    pub(super) share: f64,
    /// The limit.
    pub(super) limit_bytes: u64,
    /// The most bytes that were resident at once in any of its processes.
    pub(super) peak_bytes: u64,
    /// The most bytes that the kernel charged to its control group at once, cached file pages included.
    pub(super) group_peak_bytes: Option<u64>,
    /// Whether the kernel killed it because its control group was full.
    pub(super) is_killed: bool,
    /// Whether it ended with another status than it had to, and was not killed.
    pub(super) has_failed: bool,
    /// Whether it was interrupted and resumed.
    pub(super) is_resumed: bool,
    /// Why the limit did not hold; `None` if it did.
    pub(super) problem: Option<String>,
}

impl Trial {
    /// Planned peak over measured peak, at the minimum. `None` where one of the two is missing.
    pub(super) fn plan_ratio(&self) -> Option<f64> {
        let run = self.runs.first().filter(|run| !run.is_killed && !run.has_failed)?;
        Some(self.planned_peak_bytes? as f64 / run.peak_bytes as f64)
    }

    /// All that went wrong, a line each.
    pub(super) fn problems(&self) -> Vec<String> {
        let of_plan = self.plan_problem.iter().cloned();
        let of_runs = self.runs.iter().filter_map(|run| {
            let at = format!("at {} ({})", format::bytes(run.limit_bytes), run.limit_bytes);
            run.problem.as_ref().map(|problem| format!("{at}: {problem}"))
        });
        of_plan.chain(of_runs).collect()
    }
}

/// Where a trial works, and under what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) program: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) children: &'a Children,
}

/// Plans and runs a configuration over these files of bars.
///
/// # Errors
/// If a process cannot be started, or the folder cannot be written to.
pub(super) fn attempt(place: Place<'_>, configuration: &Configuration, files: &[PathBuf]) -> Result<Trial> {
    let folder = place.folder.join(configuration.number.to_string());
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let mut arguments: Vec<String> =
        configuration.settings.iter().flat_map(|set| ["--set".to_owned(), set.clone()]).collect();
    if !files.is_empty() {
        arguments.push("--data".to_owned());
        arguments.extend(files.iter().map(|path| path.display().to_string()));
    }
    let work = Work { place, folder: &folder, configuration, arguments: &arguments };
    let mut trial = Trial {
        number: configuration.number,
        words: configuration.words.clone(),
        arguments: arguments.clone(),
        interrupted_after: configuration.interrupted_after,
        minimum_bytes: None,
        planned_peak_bytes: None,
        plan_problem: None,
        runs: Vec::new(),
    };
    let (minimum, problem) = work.plan(None, "smallest_limit_bytes")?;
    (trial.minimum_bytes, trial.plan_problem) = (minimum, problem);
    let Some(minimum) = minimum else { return Ok(trial) };
    let (planned, problem) = work.plan(Some(minimum), "peak_bytes")?;
    trial.planned_peak_bytes = planned;
    trial.plan_problem = trial.plan_problem.or(problem);
    for share in SHARES {
        trial.runs.push(work.run(share, (minimum as f64 * share) as u64)?);
    }
    Ok(trial)
}

struct Work<'a> {
    place: Place<'a>,
    folder: &'a Path,
    configuration: &'a Configuration,
    arguments: &'a [String],
}

impl Work<'_> {
    /// A command of the program.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.place.program);
        // Threads that wait for each other do not spin: where processors are shared, spinning takes minutes.
        command.arg(name).env("OMP_WAIT_POLICY", "passive");
        command
    }

    /// A number of the plan, under a limit in its control group or under none. Or what went wrong.
    fn plan(&self, limit_bytes: Option<u64>, key: &str) -> Result<(Option<u64>, Option<String>)> {
        let json = self.folder.join("plan.json");
        let _ = std::fs::remove_file(&json);
        let mut command = self.program("plan");
        command.arg("--json").arg(&json).args(self.arguments);
        if let Some(bytes) = limit_bytes {
            command.arg("--memory").arg(bytes.to_string());
        }
        let said = self.folder.join("plan.txt");
        let ended = self.child(command, limit_bytes, &said, None)?;
        let under = limit_bytes.map_or_else(String::new, |bytes| format!(" under {bytes}"));
        let problem = problem_of(&ended, &said).map(|problem| format!("plan{under}: {problem}"));
        // A plan that does not fit the limit is written down all the same.
        let number = summary::read(&json).ok().and_then(|plan| plan[key].as_u64());
        Ok((number, problem))
    }

    /// A run under a limit, in its control group.
    fn run(&self, share: f64, limit_bytes: u64) -> Result<LimitedRun> {
        let out = self.folder.join(format!("run-{:.0}", share * 100.0));
        let said = out.with_extension("txt");
        // An earlier bench may have kept its runs here.
        let _ = std::fs::remove_dir_all(&out);
        let mut command = self.program("train");
        command.arg("--out").arg(&out).args(self.arguments);
        command.arg("--memory").arg(limit_bytes.to_string());
        let mut ended = self.child(command, Some(limit_bytes), &said, Some(&out))?;
        let mut peaks = vec![ended];
        // A run that ended before the signal arrived has nothing to go on with.
        if ended.end.status.code() == Some(INTERRUPTED) {
            let mut command = self.program("train");
            command.arg("--resume").arg(&out);
            ended = self.child(command, Some(limit_bytes), &out.with_extension("resumed.txt"), None)?;
            peaks.push(ended);
        }
        let said = if peaks.len() > 1 { out.with_extension("resumed.txt") } else { said };
        let peak_bytes = peaks.iter().map(|ended| ended.end.peak_resident_bytes).max().unwrap_or(0);
        let is_killed = peaks.iter().any(|ended| ended.is_killed_for_memory);
        let failure = problem_of(&ended, &said);
        let has_failed = failure.is_some() && !is_killed;
        let over = peak_bytes.saturating_sub(limit_bytes);
        let over = (over > 0).then(|| format!("the peak passes it by {}", format::bytes(over)));
        let of_resumed = if peaks.len() > 1 { "resumed: " } else { "" };
        let is_missed = self.configuration.interrupted_after.is_some() && peaks.len() == 1;
        let missed =
            is_missed.then(|| "it ended before it was interrupted, so nothing was resumed".to_owned());
        let problem = failure.map(|problem| format!("{of_resumed}{problem}")).or(over).or(missed);
        // What is kept for a reader is what the run said and its summary, and checkpoints of forty runs take room.
        let _ = std::fs::remove_dir_all(out.join("checkpoint"));
        Ok(LimitedRun {
            share,
            limit_bytes,
            peak_bytes,
            group_peak_bytes: peaks.iter().filter_map(|ended| ended.group_peak_bytes).max(),
            is_killed,
            has_failed,
            is_resumed: peaks.len() > 1,
            problem,
        })
    }

    /// Runs a command to its end, with what it says in a file. `run` is the folder of the run to interrupt, if it is to
    /// be interrupted.
    fn child(
        &self,
        command: Command,
        limit_bytes: Option<u64>,
        said: &Path,
        run: Option<&Path>,
    ) -> Result<Ended> {
        let is_time = || {
            let (Some(after), Some(run)) = (self.configuration.interrupted_after, run) else { return false };
            last_environment_step(&run.join("metrics.jsonl")) >= Some(after)
        };
        let said = File::create(said).map_err(Error::io(said))?;
        self.place.children.run(self.configuration.number, command, limit_bytes, &said, is_time)
    }
}

/// Exit status of a run that was interrupted and can be resumed.
const INTERRUPTED: i32 = 130;

/// Why a process did not end as it had to; `None` if it did.
pub(super) fn problem_of(ended: &Ended, said: &Path) -> Option<String> {
    let last = || {
        let text = std::fs::read(said).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().rfind(|line| line.starts_with("plimsoll:")).or_else(|| text.lines().last());
        line.unwrap_or("it said nothing").to_owned()
    };
    let status = ended.end.status;
    if ended.is_killed_for_memory {
        return Some("killed by the kernel, which found its control group full".to_owned());
    }
    if ended.is_stuck {
        return Some(format!("it did not end: {}", last()));
    }
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("status {code}: {}", last())),
        (None, signal) => Some(format!("ended by signal {}: {}", signal.unwrap_or(0), last())),
    }
}

/// The environment step of the last whole row of a run's metrics.
fn last_environment_step(metrics: &Path) -> Option<u64> {
    const TAIL_BYTES: u64 = 4096;
    let mut file = File::open(metrics).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut tail = String::new();
    file.read_to_string(&mut tail).ok()?;
    let row = tail.rsplit('\n').nth(1)?;
    serde_json::from_str::<serde_json::Value>(row).ok()?["environment_steps"].as_u64()
}
