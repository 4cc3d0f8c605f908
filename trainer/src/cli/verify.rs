//! `plimsoll verify`: whether the files of a run, or replay files, are what was written.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use buffers::replay::ReplayTier;
use buffers::store::{self, ChunkReader, ChunkWriter, Durability, Verification};
use clap::Args;
use serde_json::{Value, json};

use crate::atomic_file::write_json;
use crate::cli::replay_files::{Found, damage_json, damage_of, refuse, replay_files};
use crate::cli::settings::MemoryArgs;
use crate::config::Config;
use crate::console::print;
use crate::envs::cartpole::CartPole;
use crate::envs::market::MarketEnvironment;
use crate::error::{Error, Result};
use crate::format;
use crate::run::checkpoint::{self, Counters};
use crate::run::config::EnvironmentKind;
use crate::run::folder::RunFolder;

/// Compare every checksum of a run's files with the bytes: configuration, data record, checkpoint, metrics and replay.
///
/// Of damage in a replay file it names the exact position. It also says whether checkpoint and replay file belong together.
/// The exit status is 0 if everything is what was written and can be read, and 2 if anything is damaged or missing or
/// PATH is neither a run nor a replay file. A run can be verified while it goes on.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plimsoll verify runs/btc\n  plimsoll verify runs/btc/replay.plr --json damage.json\n  \
                        plimsoll verify runs/btc/replay.plr --salvage saved.plr"
)]
pub(super) struct VerifyArgs {
    /// The folder of a run, a replay file, or a folder of replay files.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Also writes the result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Copies every readable chunk in use of a replay file to this new file, and names the chunks that cannot be read. The
    /// exit status is still that of PATH.
    #[arg(long, value_name = "NEW")]
    salvage: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// What was found about one file of a run, in words.
type Checked = (PathBuf, Result<String>);

/// A run that goes on replaces its checkpoint while it is read: then it is read again, so many times.
const MOST_READS: usize = 5;

/// Runs the command.
pub(super) fn run(args: &VerifyArgs) -> Result<()> {
    args.memory.hold()?;
    let is_run = ["config.toml", "checkpoint"].iter().any(|name| args.path.join(name).exists());
    let checked = if is_run { of_run(&args.path) } else { Vec::new() };
    let files = match replay_files(&args.path) {
        Err(Error::File { .. }) if is_run => Vec::new(),
        files => files?,
    };
    if let (Some(_), [first, second, ..]) = (&args.salvage, files.as_slice()) {
        let (key, n) = ("--salvage".to_owned(), files.len());
        let problem = format!(
            "one file is copied to one file, and {} holds {n}: name one of {}, {} …",
            args.path.display(),
            first.display(),
            second.display()
        );
        return Err(Error::Config { key, problem });
    }
    let look = |file: PathBuf| {
        let found = store::verify(&file).map_err(Error::from);
        (file, found)
    };
    let verified: Vec<Found<Verification>> = files.into_iter().map(look).collect();
    // With one file the command ends with its error anyway.
    let is_one = checked.len() + verified.len() == 1;
    for (file, found) in &checked {
        match found {
            Ok(found) => print(&format!("{}: {found}\n", file.display())),
            Err(error) if !is_one => print(&format!("{error}\n")),
            Err(_) => {}
        }
    }
    for (file, found) in &verified {
        match found {
            Ok(found) => print(&format!("{}: {found}\n", file.display())),
            Err(error) if !is_one => print(&format!("{error}\n")),
            Err(_) => {}
        }
    }
    let of_run: Vec<Value> = checked.iter().map(checked_json).collect();
    let each: Vec<Value> = verified.iter().map(|(file, found)| verification_json(file, found)).collect();
    let is_clean = checked.iter().all(|(_, found)| found.is_ok())
        && verified.iter().all(|(_, found)| found.as_ref().is_ok_and(Verification::is_clean));
    write_json(args.json.as_deref(), &json!({ "run": of_run, "files": each, "clean": is_clean }))?;
    if let (Some(to), [(from, Ok(_))]) = (&args.salvage, verified.as_slice()) {
        salvage(from, to)?;
    }
    let of_run = checked.into_iter().filter_map(|(_, found)| found.err());
    let of_files = verified.into_iter().filter_map(|(file, found)| match found {
        Err(error) => Some(error),
        Ok(found) => damage_of(file, &found.damages, found.missing_bytes),
    });
    refuse(&args.path, of_run.chain(of_files).collect())
}

/// What there is to say of the files of a run, other than the bytes of replay files.
fn of_run(root: &Path) -> Vec<Checked> {
    let folder = match RunFolder::open(root) {
        Ok(folder) => folder,
        Err(error) => return vec![(root.join("config.toml"), Err(error))],
    };
    let sums = || fs::read(folder.checkpoint().join(checkpoint::COUNTERS)).ok();
    for _ in 1..MOST_READS {
        let before = sums();
        let checked = of_run_once(&folder);
        if checked.iter().all(|(_, found)| found.is_ok()) || sums() == before {
            return checked;
        }
    }
    of_run_once(&folder)
}

fn of_run_once(folder: &RunFolder) -> Vec<Checked> {
    let mut checked = Vec::new();
    let config = match Config::load(Some(&folder.config()), &[]) {
        Ok(config) => config,
        Err(error) => return vec![(folder.config(), Err(error))],
    };
    checked.push((folder.config(), Ok("as the run wrote it".to_owned())));
    if config.run.environment == EnvironmentKind::Market {
        let told = folder
            .load_data()
            .map(|data| format!("as the run wrote it, of {} instrument(s)", data.instruments.len()));
        checked.push((folder.data(), told));
    }
    let saved = match checkpoint::find(&folder.checkpoint()) {
        Ok(Some(saved)) => saved,
        none => {
            checked.push((folder.checkpoint(), none.map(|_| "there is none yet".to_owned())));
            return checked;
        }
    };
    let whole = checkpoint::check_whole(&saved).and_then(|counters| of_this_run(folder, &saved, counters));
    let counters = match whole {
        Ok(counters) => counters,
        Err(error) => {
            checked.push((saved, Err(error)));
            return checked;
        }
    };
    let (n_files, steps) = (counters.files.len() + 1, format::count(counters.environment_steps));
    checked.push((
        saved.clone(),
        Ok(format!("{n_files} files as they were saved, at environment step {steps}")),
    ));
    checked.push((folder.metrics(), metrics(&folder.metrics(), &counters)));
    if config.replay.tier == ReplayTier::Mapped {
        let bound = commit_of(config.run.environment, &saved).and_then(|commit| match commit {
            Some(commit) => Ok(store::require_saved(&folder.replay(), commit)?),
            None => Ok(()),
        });
        checked.push((
            folder.replay(),
            bound.map(|()| "the file that the checkpoint was saved with".to_owned()),
        ));
    }
    checked
}

fn of_this_run(folder: &RunFolder, saved: &Path, counters: Counters) -> Result<Counters> {
    if counters.run == folder.run_name() {
        return Ok(counters);
    }
    let problem = format!("is of another run than {}", folder.config().display());
    Err(Error::File { path: saved.join(checkpoint::COUNTERS), problem })
}

fn metrics(path: &Path, counters: &Counters) -> Result<String> {
    let Some(sum) = counters.metrics else { return Ok("no rows were saved".to_owned()) };
    let text = fs::read(path).map_err(Error::io(path))?;
    let rows = usize::try_from(sum.n_bytes).ok().and_then(|n_bytes| text.get(..n_bytes));
    match rows.is_some_and(|rows| crc32fast::hash(rows) == sum.crc32) {
        true => Ok("the rows up to the checkpoint are as they were written".to_owned()),
        false => {
            let problem = "is not what the run wrote up to the checkpoint".to_owned();
            Err(Error::File { path: path.to_owned(), problem })
        }
    }
}

/// The commit of the replay file that a checkpoint was saved with.
fn commit_of(environment: EnvironmentKind, saved: &Path) -> Result<Option<store::CommitId>> {
    Ok(match environment {
        EnvironmentKind::Cartpole => checkpoint::load::<CartPole>(saved)?.learner.replay().commit_id(),
        EnvironmentKind::Market => checkpoint::load::<MarketEnvironment>(saved)?.learner.replay().commit_id(),
    })
}

fn checked_json((file, found): &Checked) -> Value {
    json!({
        "file": file.display().to_string(),
        "error": found.as_ref().err().map(ToString::to_string),
        "found": found.as_ref().ok(),
    })
}

/// Copies the readable chunks of a file to a new file.
fn salvage(from: &Path, to: &Path) -> Result<()> {
    let reader = ChunkReader::open(from)?;
    // Created here, so that an existing file is never overwritten.
    let made = OpenOptions::new().write(true).create_new(true).open(to);
    made.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => {
            let problem = "is there already, and is not written over: give the name of a new file".to_owned();
            Error::File { path: to.to_path_buf(), problem }
        }
        _ => Error::io(to)(source),
    })?;
    let (mut writer, _) = ChunkWriter::open(to)?;
    let copied = store::copy_readable(reader.file(), reader.index(), &mut writer, Durability::Power)?;
    let mut text = format!("{} chunks were copied to {}\n", format::count(copied.n_chunks), to.display());
    copied.refused.iter().for_each(|error| text.push_str(&format!("not copied: {error}\n")));
    print(&text);
    Ok(())
}

fn verification_json(file: &Path, found: &Result<Verification>) -> Value {
    let (found, error) = (found.as_ref().ok(), found.as_ref().err());
    json!({
        "file": file.display().to_string(),
        "error": error.map(ToString::to_string),
        "file_bytes": found.map(|found| found.file_bytes),
        "uncommitted_bytes": found.map(|found| found.uncommitted_bytes),
        "missing_bytes": found.map(|found| found.missing_bytes),
        "n_chunks": found.map(|found| found.n_chunks),
        "clean": found.is_some_and(Verification::is_clean),
        "damages": found.map(|found| found.damages.iter().map(damage_json).collect::<Vec<_>>()),
    })
}
