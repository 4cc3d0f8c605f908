//! `plimsoll replay`: inspects replay files.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use buffers::replay::Replay;
use buffers::store::{self, Inspection, StreamInspection};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::atomic_file::write_json;
use crate::cli::histogram::Histogram;
use crate::cli::replay_files::{Found, damage_json, damage_of, refuse, replay_files};
use crate::cli::settings::MemoryArgs;
use crate::config::Config;
use crate::console::{print, say_always};
use crate::envs::Environment;
use crate::envs::cartpole::CartPole;
use crate::envs::market::MarketEnvironment;
use crate::error::{Error, Result};
use crate::format;
use crate::market::dataset;
use crate::run::checkpoint;
use crate::run::config::EnvironmentKind;
use crate::run::folder::RunFolder;

/// The commands on replay files.
#[derive(Debug, Subcommand)]
pub(super) enum ReplayCommand {
    /// Show what a replay holds: bytes by tier and stream, ratio, ages, and priorities if its run has a checkpoint.
    ///
    /// For a folder it shows all replay files: a run's transitions and local rows (replay.plr), and its market's
    /// streams (streams.plr). The exit status is 2 if a file is damaged or not a replay file.
    Inspect(InspectArgs),
}

/// Show what a replay holds: bytes by tier and stream, ratio, ages, and priorities if its run has a checkpoint.
///
/// For a folder it shows all replay files: a run's transitions and local rows (replay.plr), and its market's streams
/// (streams.plr). The exit status is 2 if a file is damaged or not a replay file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plimsoll replay inspect runs/btc\n  plimsoll replay inspect \
                        runs/btc/replay.plr --json replay.json")]
pub(super) struct InspectArgs {
    /// A replay file, or the folder of a run.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Also writes the numbers to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// Runs the command.
pub(super) fn run(command: &ReplayCommand) -> Result<()> {
    match command {
        ReplayCommand::Inspect(args) => inspect(args),
    }
}

fn inspect(args: &InspectArgs) -> Result<()> {
    args.memory.hold()?;
    let saved = saved_beside(&args.path).unwrap_or_else(|error| {
        say_always(&format!("the run's checkpoint cannot be shown: {error}"));
        None
    });
    let files = match replay_files(&args.path) {
        Err(error @ Error::File { .. }) if saved.is_some() && args.path.is_dir() => {
            say_always(&format!("{error}; this is what its checkpoint holds"));
            Vec::new()
        }
        files => files?,
    };
    let look = |file: PathBuf| {
        let found = store::inspect(&file).map_err(Error::from);
        (file, found)
    };
    let inspected: Vec<Found<Inspection>> = files.into_iter().map(look).collect();
    for (file, found) in &inspected {
        match found {
            Ok(found) => print(&streams_table(file, found, now_millis())),
            // With one file the command ends with this error anyway.
            Err(error) if inspected.len() > 1 => print(&format!("{error}\n\n")),
            Err(_) => {}
        }
    }
    if saved.is_some() || inspected.iter().any(|(_, found)| found.is_ok()) {
        print(&tiers_table(&inspected, saved.as_ref()));
    }
    if let Some(saved) = &saved {
        print(&saved.to_string());
    }
    write_json(args.json.as_deref(), &inspection_json(&inspected, saved.as_ref()))?;
    let errors = inspected.into_iter().filter_map(|(file, found)| match found {
        Err(error) => Some(error),
        Ok(found) => damage_of(file, &found.damages, found.missing_bytes),
    });
    refuse(&args.path, errors.collect())
}

/// The content of a stream in one of a run's files, in words.
fn stream_name(file: &Path, stream: u32) -> Option<String> {
    match file.file_name()?.to_str()? {
        "replay.plr" => Some(match stream.checked_sub(1) {
            None => "transitions".to_owned(),
            Some(environment) => format!("local rows {environment}"),
        }),
        "streams.plr" => {
            let views = dataset::views();
            let (instrument, view) = (stream as usize / views.len(), stream as usize % views.len());
            Some(format!("{} {instrument}", views[view].name))
        }
        _ => None,
    }
}

/// What the checkpoint beside a replay file states.
struct Saved {
    n_transitions: u64,
    n_inserted: u64,
    hot_bytes: u64,
    compressed_bytes: u64,
    /// `None` if sampling is uniform.
    priorities: Option<Histogram>,
}

impl Saved {
    fn of(replay: &Replay) -> Self {
        let tiers = replay.tier_bytes();
        Self {
            n_transitions: replay.len() as u64,
            n_inserted: replay.n_inserted(),
            hot_bytes: tiers.hot,
            compressed_bytes: tiers.compressed,
            priorities: replay.priorities().map(|priorities| Histogram::of(priorities.collect())),
        }
    }
}

impl std::fmt::Display for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "\n{} transitions in the checkpoint, the oldest inserted {} ago of {} insertions",
            format::count(self.n_transitions),
            format::count(self.n_transitions),
            format::count(self.n_inserted)
        )?;
        match &self.priorities {
            None => writeln!(f, "draws are uniform: no priorities are kept"),
            Some(priorities) => write!(f, "{priorities}"),
        }
    }
}

/// The checkpoint of the run whose folder this is, or whose folder holds this file.
fn saved_beside(path: &Path) -> Result<Option<Saved>> {
    let absolute = std::path::absolute(path).map_err(Error::io(path))?;
    let Some(folder) = absolute.ancestors().take(3).find_map(|folder| RunFolder::open(folder).ok()) else {
        return Ok(None);
    };
    let Some(saved) = checkpoint::find(&folder.checkpoint())? else { return Ok(None) };
    let config = Config::load(Some(&folder.config()), &[])?;
    match config.run.environment {
        EnvironmentKind::Cartpole => read_saved::<CartPole>(&saved),
        EnvironmentKind::Market => read_saved::<MarketEnvironment>(&saved),
    }
    .map(Some)
}

fn read_saved<E: Environment>(folder: &Path) -> Result<Saved> {
    Ok(Saved::of(checkpoint::load::<E>(folder)?.learner.replay()))
}

fn now_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A chunk's stamp as an age. A stamp that is not calendar time is printed unchanged.
fn age(stamp_millis: u64, now_millis: u64) -> String {
    const YEAR_2000_MILLIS: u64 = 946_684_800_000;
    match now_millis.checked_sub(stamp_millis) {
        Some(age) if stamp_millis >= YEAR_2000_MILLIS => format::duration(age as f64 / 1000.0),
        _ => format!("at {stamp_millis}"),
    }
}

fn ratio(raw_bytes: u64, stored_bytes: u64) -> f64 {
    raw_bytes as f64 / stored_bytes.max(1) as f64
}

fn streams_table(file: &Path, inspection: &Inspection, now_millis: u64) -> String {
    let mut text = format!(
        "{}: {} in {} streams, {:.2} decoded bytes a byte\n\n\
         {:>6} {:<14} {:>5} {:>6} {:>13} {:>9} {:>10} {:>10} {:>6} {:>13} {:>13}\n",
        file.display(),
        format::bytes(inspection.file_bytes),
        inspection.streams.len(),
        inspection.ratio(),
        "stream",
        "of",
        "kind",
        "width",
        "rows",
        "chunks",
        "decoded",
        "in file",
        "ratio",
        "oldest age",
        "newest age"
    );
    for of in &inspection.streams {
        text.push_str(&format!(
            "{:>6} {:<14} {:>5} {:>6} {:>13} {:>9} {:>10} {:>10} {:>6.2} {:>13} {:>13}\n",
            of.stream,
            stream_name(file, of.stream).unwrap_or_default(),
            format!("{:?}", of.shape.kind).to_lowercase(),
            of.shape.width,
            format::count(of.n_rows),
            format::count(of.n_chunks),
            format::bytes(of.raw_bytes),
            format::bytes(of.stored_bytes),
            ratio(of.raw_bytes, of.stored_bytes),
            age(of.oldest_millis, now_millis),
            age(of.newest_millis, now_millis),
        ));
    }
    text.push('\n');
    text
}

/// The bytes of files that are in chunks in use, and all other bytes.
fn file_bytes(inspected: &[Found<Inspection>]) -> [u64; 2] {
    let found = inspected.iter().filter_map(|(_, found)| found.as_ref().ok());
    found.fold([0, 0], |[used, other], found| {
        [used + found.file_bytes - found.other_bytes, other + found.other_bytes]
    })
}

fn tiers_table(inspected: &[Found<Inspection>], saved: Option<&Saved>) -> String {
    let mut text = format!("{:<12} {:>10}\n", "tier", "bytes");
    let mut row = |name: &str, n_bytes: u64| {
        text.push_str(&format!("{name:<12} {:>10}\n", format::bytes(n_bytes)));
    };
    if let Some(saved) = saved {
        row("hot", saved.hot_bytes);
        row("compressed", saved.compressed_bytes);
    }
    if !inspected.is_empty() {
        let [used, other] = file_bytes(inspected);
        row("mapped", used);
        row("not in use", other);
    }
    text
}

fn inspection_json(inspected: &[Found<Inspection>], saved: Option<&Saved>) -> Value {
    let [used, other] = file_bytes(inspected);
    json!({
        "files": inspected.iter().map(|(file, found)| file_json(file, found)).collect::<Vec<_>>(),
        "tier_bytes": {
            "hot": saved.map(|saved| saved.hot_bytes),
            "compressed": saved.map(|saved| saved.compressed_bytes),
            "mapped": (!inspected.is_empty()).then_some(used),
            "not_in_use": (!inspected.is_empty()).then_some(other),
        },
        "n_transitions": saved.map(|saved| saved.n_transitions),
        "n_inserted": saved.map(|saved| saved.n_inserted),
        "priorities": saved.and_then(|saved| saved.priorities.as_ref()).map(Histogram::to_json),
    })
}

fn file_json(file: &Path, found: &Result<Inspection>) -> Value {
    let stream = |of: &StreamInspection| {
        json!({
            "stream": of.stream,
            "of": stream_name(file, of.stream),
            "kind": format!("{:?}", of.shape.kind).to_lowercase(),
            "width": of.shape.width,
            "n_rows": of.n_rows,
            "first_row": of.first_row,
            "n_chunks": of.n_chunks,
            "raw_bytes": of.raw_bytes,
            "stored_bytes": of.stored_bytes,
            "ratio": ratio(of.raw_bytes, of.stored_bytes),
            "oldest_millis": of.oldest_millis,
            "newest_millis": of.newest_millis,
        })
    };
    let (found, error) = (found.as_ref().ok(), found.as_ref().err());
    json!({
        "file": file.display().to_string(),
        "error": error.map(ToString::to_string),
        "file_bytes": found.map(|found| found.file_bytes),
        "ratio": found.map(Inspection::ratio),
        "missing_bytes": found.map(|found| found.missing_bytes),
        "streams": found.map(|found| found.streams.iter().map(stream).collect::<Vec<_>>()),
        "damages": found.map(|found| found.damages.iter().map(damage_json).collect::<Vec<_>>()),
    })
}
