//! `plimsoll bench limit`: random configurations at their planned minimum and above, in real control groups.
//!
//! ```text
//! seed ──> configurations ──> plan ──> minimum ──> runs at 100, 105 and 130 % of it, each in a group of limit + 4 MiB
//! ```
//!
//! The limit holds where the kernel kills nothing, every run ends well, and no peak passes the limit. The peak is the
//! kernel's, up to a process's last moment. The group's own peak includes cached file pages, which the kernel drops in
//! a full group, so it is written down and not judged.

mod bar_files;
mod children;
mod commands;
mod configurations;
mod trial;
mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use clap::Args;
use memsys::os::{ControlGroup, probe, trim_heap};
use tempfile::TempDir;

use self::children::Children;
use self::commands::CommandRun;
use self::configurations::{Configuration, configurations};
use self::trial::{Place, Trial, attempt};
use self::verdict::Verdict;
use crate::bench::end_on_signal;
use crate::console::{print, say, say_always, say_detail};
use crate::error::{Error, Result};
use crate::{atomic_file, signals};

/// Whether the memory limit holds in random configurations, in control groups where the kernel kills what passes it.
///
/// Configurations differ in networks, precision, turns of actor and learner, environments, threads, tiers of the
/// replay, prefetch, batch, activations, target, files of bars, and whether the run is interrupted and resumed. Each
/// runs at the minimum that `plan` names for it, 5 % and 30 % above. The exit status is 1 where the limit does not hold.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  plimsoll bench limit --json limit.json\n  plimsoll bench limit --seed 2 --most 10\n  \
                        plimsoll bench limit --only 7 --keep failing\n  plimsoll bench limit --commands 50000,500000,5000000"
)]
pub struct BenchLimitArgs {
    /// Configurations to try.
    #[arg(long, value_name = "N", default_value_t = 40)]
    most: usize,
    /// Tries these alone, by their numbers in the table.
    #[arg(long, value_delimiter = ',', value_name = "I,…")]
    only: Vec<usize>,
    /// The seed of the configurations: another one gives others.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Configurations that run side by side [default: one per processor].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Measures every command instead, over files of so many minutes each: at the smallest limit that it accepts.
    #[arg(long, value_delimiter = ',', value_name = "N,…", conflicts_with_all = ["only", "most"])]
    commands: Vec<usize>,
    /// Works in this folder and keeps it: bars, what each run said, and its summary.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Also writes the numbers there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the bench.
///
/// # Errors
/// [`Error::LimitPassed`] where the limit does not hold; others where nothing could be run.
pub fn run(args: &BenchLimitArgs) -> Result<()> {
    if let Some(number) = args.only.iter().find(|number| !(1..=args.most).contains(*number)) {
        let problem = format!("there is no configuration {number}: they go from 1 to {} (--most)", args.most);
        return Err(Error::Config { key: "--only".to_owned(), problem });
    }
    atomic_file::expect_folder(args.json.as_deref())?;
    let began = Instant::now();
    let mut chosen = configurations(args.seed, args.most);
    chosen.retain(|configuration| args.only.is_empty() || args.only.contains(&configuration.number));

    // A probing group tells at once whether one can be made.
    let grouped = ControlGroup::new("limit-probe", 1 << 30).map(drop);
    let children = Arc::new(Children::new(grouped.is_ok()));
    let folder = folder(args, &children)?;
    if let Err(error) = &grouped {
        say_always(&format!(
            "no memory control group can be made here ({error}): it takes root, or a delegated group. Nothing is \
             killed at the limit; the peaks are measured all the same"
        ));
    }
    if !args.commands.is_empty() {
        let runs = measure_commands(args, folder.path(), &children)?;
        folder.close()?;
        print(&commands::text(&runs, grouped.is_ok()));
        atomic_file::write_json(args.json.as_deref(), &commands::to_json(&runs))?;
        return commands::result(&runs);
    }
    let trials = try_all(args, &chosen, folder.path(), &children)?;
    let verdict = Verdict::new(&trials, args.seed, grouped.is_ok(), began.elapsed().as_secs_f64());
    folder.close()?;
    print(&verdict.text());
    atomic_file::write_json(args.json.as_deref(), &verdict.to_json())?;
    verdict.result()
}

fn measure_commands(args: &BenchLimitArgs, folder: &Path, children: &Children) -> Result<Vec<CommandRun>> {
    let program = std::env::current_exe().map_err(Error::io("/proc/self/exe"))?;
    trim_heap();
    probe::restart_peak_resident();
    commands::measure(Place { program: &program, folder, children }, &args.commands)
}

/// Tries the configurations, several side by side, and returns them in order.
fn try_all(
    args: &BenchLimitArgs,
    chosen: &[Configuration],
    folder: &Path,
    children: &Children,
) -> Result<Vec<Trial>> {
    let program = std::env::current_exe().map_err(Error::io("/proc/self/exe"))?;
    let files = write_files(chosen, folder, children)?;
    // The kernel's peak of a child begins with what this process holds when it starts it.
    trim_heap();
    probe::restart_peak_resident();
    let place = Place { program: &program, folder, children };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, trials) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        while let Some(configuration) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let files = &files[&configuration.number];
            say_detail(&format!("{}: {}", configuration.number, configuration.words));
            let trial = attempt(place, configuration, files)?;
            let mut trials = trials.lock().unwrap_or_else(PoisonError::into_inner);
            trials.push(trial);
            let trial = trials.last().expect("it was pushed");
            say(&format!("{} of {}: {}", trials.len(), chosen.len(), verdict::row(trial)));
            trial.problems().iter().for_each(|problem| say(&format!("  {problem}")));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let jobs = args.jobs.unwrap_or(processors).clamp(1, chosen.len().max(1));
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let mut trials = trials.into_inner().unwrap_or_else(PoisonError::into_inner);
    trials.sort_by_key(|trial| trial.number);
    Ok(trials)
}

/// The files of bars of each configuration, by its number.
fn write_files(
    chosen: &[Configuration],
    folder: &Path,
    children: &Children,
) -> Result<BTreeMap<usize, Vec<PathBuf>>> {
    let _hold = children.hold();
    let bars = folder.join("bars");
    std::fs::create_dir_all(&bars).map_err(Error::io(&bars))?;
    chosen
        .iter()
        .map(|configuration| {
            let files = match configuration.source {
                Some(source) => source.files(&bars, configuration.is_short)?,
                None => Vec::new(),
            };
            Ok((configuration.number, files))
        })
        .collect()
}

/// The folder that the bench works in.
enum Folder {
    Scratch(TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Scratch(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }

    fn close(self) -> Result<()> {
        match self {
            Self::Scratch(folder) => folder.close().map_err(Error::io(std::env::temp_dir())),
            Self::Kept(_) => Ok(()),
        }
    }
}

/// Makes the folder. A signal ends the children, and removes the folder unless it is to be kept.
fn folder(args: &BenchLimitArgs, children: &Arc<Children>) -> Result<Folder> {
    let within = args.keep.clone().unwrap_or_else(std::env::temp_dir);
    let caught = signals::catch().map_err(Error::io(&within))?;
    let folder = match &args.keep {
        Some(path) => {
            std::fs::create_dir_all(path).map_err(Error::io(path))?;
            // Runs get the paths of their bars, and are started in no particular folder.
            Folder::Kept(std::path::absolute(path).map_err(Error::io(path))?)
        }
        None => Folder::Scratch(crate::bench::scratch(&within)?),
    };
    let removed = matches!(folder, Folder::Scratch(_)).then(|| folder.path().to_owned());
    let children = Arc::clone(children);
    end_on_signal(caught, &within, removed, move || children.stop())?;
    Ok(folder)
}
