//! `plimsoll replay`: what a replay file holds, and whether it is what was written.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use buffers::replay::Replay;
use buffers::store::{self, ChunkReader, Damage, Inspection, Part, StreamInspection, Verification};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::histogram::Histogram;
use crate::cartpole::CartPole;
use crate::config::{Config, EnvironmentKind};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::market::environment::MarketEnvironment;
use crate::output::{print, say};
use crate::run::checkpoint;
use crate::run::folder::RunFolder;
use crate::run::human;

/// What is asked of a replay file.
#[derive(Debug, Subcommand)]
pub(super) enum ReplayCommand {
    /// What a replay holds: sizes by tier and stream, ratio, ages, and priorities where its run's checkpoint is there.
    ///
    /// Status 2 where the file is damaged or not a replay file.
    Inspect(InspectArgs),
    /// Compare every checksum of a replay file with its bytes; name the exact position of damage.
    ///
    /// Status 0 where all that was committed can be read, 2 where anything is damaged or missing, or where it is not a
    /// replay file. A file may be verified while a run writes it.
    Verify(VerifyArgs),
}

/// What a replay holds: sizes by tier and stream, ratio, ages, and priorities where its run's checkpoint is there.
///
/// Status 2 where the file is damaged or not a replay file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plimsoll replay inspect runs/btc\n  plimsoll replay inspect \
                        runs/btc/replay.rows --json replay.json")]
pub(super) struct InspectArgs {
    /// A replay file, or the folder of a run.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Also writes the numbers there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Compare every checksum of a replay file with its bytes; name the exact position of damage.
///
/// Status 0 where all that was committed can be read, 2 where anything is damaged or missing, or where it is not a
/// replay file. A file may be verified while a run writes it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plimsoll replay verify runs/btc\n  plimsoll replay verify \
                        runs/btc/replay.rows --json damage.json")]
pub(super) struct VerifyArgs {
    /// A replay file, or the folder of a run.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Also writes what was found there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Does as told.
pub(super) fn run(command: &ReplayCommand) -> Result<()> {
    match command {
        ReplayCommand::Inspect(args) => inspect(args),
        ReplayCommand::Verify(args) => verify(args),
    }
}

fn inspect(args: &InspectArgs) -> Result<()> {
    let saved = saved_beside(&args.path)?;
    let file = match replay_file(&args.path) {
        Err(error @ Error::File { .. }) if saved.is_some() && args.path.is_dir() => {
            say(&format!("{error}; this is what its checkpoint holds"));
            None
        }
        file => Some(file?),
    };
    let inspection = file.as_ref().map(|file| store::inspect(file)).transpose()?;
    if let (Some(file), Some(inspection)) = (&file, &inspection) {
        print(&streams_table(file, inspection, now_millis()));
    }
    print(&tiers_table(inspection.as_ref(), saved.as_ref()));
    if let Some(saved) = &saved {
        print(&saved.to_string());
    }
    write_json(args.json.as_deref(), || {
        inspection_json(file.as_deref(), inspection.as_ref(), saved.as_ref())
    })?;
    match (file, inspection) {
        (Some(file), Some(found)) => refuse_damage(&file, &found.damages, found.missing_bytes),
        _ => Ok(()),
    }
}

fn verify(args: &VerifyArgs) -> Result<()> {
    let file = replay_file(&args.path)?;
    let found = store::verify(&file)?;
    print(&format!("{}: {found}\n", file.display()));
    write_json(args.json.as_deref(), || verification_json(&file, &found))?;
    refuse_damage(&file, &found.damages, found.missing_bytes)
}

fn refuse_damage(file: &Path, damages: &[Damage], missing_bytes: u64) -> Result<()> {
    let problem = match (missing_bytes, damages) {
        (0, []) => return Ok(()),
        (0, [damage]) => damage.to_string(),
        (0, [first, ..]) => format!("{} places are damaged; the first: {first}", damages.len()),
        _ => format!("the file was cut off: {missing_bytes} committed bytes are missing"),
    };
    Err(Error::File { path: file.to_path_buf(), problem })
}

/// The replay file that a path means: itself, or the one file in a folder, or in a folder of that, which is one.
fn replay_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let mut found = Vec::new();
    for entry in entries(path)? {
        if entry.is_dir() {
            found.extend(entries(&entry)?.into_iter().filter(|path| is_replay_file(path)));
        } else if is_replay_file(&entry) {
            found.push(entry);
        }
    }
    let problem = match found.as_slice() {
        [file] => return Ok(file.clone()),
        [] => "there is no replay file in this folder".to_owned(),
        [first, second, ..] => {
            format!(
                "{} replay files are there; name one of {}, {} …",
                found.len(),
                first.display(),
                second.display()
            )
        }
    };
    Err(Error::File { path: path.to_path_buf(), problem })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()
        })
        .map_err(Error::io(folder))?;
    paths.sort();
    Ok(paths)
}

/// Whether a file is a replay file, of whatever version and however damaged.
fn is_replay_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.len() > 0)
        && !matches!(
            ChunkReader::open(path),
            Err(buffers::Error::NotAReplayFile { .. } | buffers::Error::Io { .. })
        )
}

/// What the checkpoint beside a replay file says.
struct Saved {
    n_transitions: u64,
    n_inserted: u64,
    hot_bytes: u64,
    compressed_bytes: u64,
    /// None where draws are uniform.
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
            human::count(self.n_transitions),
            human::count(self.n_transitions),
            human::count(self.n_inserted)
        )?;
        match &self.priorities {
            None => writeln!(f, "draws are uniform: no priorities are kept"),
            Some(priorities) => write!(f, "{priorities}"),
        }
    }
}

/// The checkpoint of the run that a folder is, or that a file lies in.
fn saved_beside(path: &Path) -> Result<Option<Saved>> {
    let absolute = std::path::absolute(path).map_err(Error::io(path))?;
    let Some(folder) = absolute.ancestors().take(3).find_map(|folder| RunFolder::open(folder).ok()) else {
        return Ok(None);
    };
    let Ok(saved) = checkpoint::find(&folder.checkpoint()) else { return Ok(None) };
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

/// A chunk's stamp as an age; stamps of another clock than the calendar's are told as they are.
fn age(stamp_millis: u64, now_millis: u64) -> String {
    const YEAR_2000_MILLIS: u64 = 946_684_800_000;
    match now_millis.checked_sub(stamp_millis) {
        Some(age) if stamp_millis >= YEAR_2000_MILLIS => human::duration(age as f64 / 1000.0),
        _ => format!("at {stamp_millis}"),
    }
}

fn ratio(raw_bytes: u64, stored_bytes: u64) -> f64 {
    raw_bytes as f64 / stored_bytes.max(1) as f64
}

fn streams_table(file: &Path, inspection: &Inspection, now_millis: u64) -> String {
    let mut text = format!(
        "{}: {} in {} streams, {:.2} decoded bytes a byte\n\n\
         {:>6} {:>5} {:>6} {:>13} {:>9} {:>10} {:>10} {:>6} {:>13} {:>13}\n",
        file.display(),
        human::bytes(inspection.file_bytes),
        inspection.streams.len(),
        inspection.ratio(),
        "stream",
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
            "{:>6} {:>5} {:>6} {:>13} {:>9} {:>10} {:>10} {:>6.2} {:>13} {:>13}\n",
            of.stream,
            format!("{:?}", of.shape.kind).to_lowercase(),
            of.shape.width,
            human::count(of.n_rows),
            human::count(of.n_chunks),
            human::bytes(of.raw_bytes),
            human::bytes(of.stored_bytes),
            ratio(of.raw_bytes, of.stored_bytes),
            age(of.oldest_millis, now_millis),
            age(of.newest_millis, now_millis),
        ));
    }
    text
}

fn tiers_table(inspection: Option<&Inspection>, saved: Option<&Saved>) -> String {
    let mut text = format!("\n{:<12} {:>10}\n", "tier", "bytes");
    let mut row = |name: &str, n_bytes: u64| {
        text.push_str(&format!("{name:<12} {:>10}\n", human::bytes(n_bytes)));
    };
    if let Some(saved) = saved {
        row("hot", saved.hot_bytes);
        row("compressed", saved.compressed_bytes);
    }
    if let Some(inspection) = inspection {
        row("mapped", inspection.file_bytes - inspection.other_bytes);
        row("not in use", inspection.other_bytes);
    }
    text
}

fn write_json(path: Option<&Path>, value: impl FnOnce() -> Value) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_vec_pretty(&value()).expect("a JSON value is always JSON");
    crate::run::files::write_aside(path, &text)
}

fn verification_json(file: &Path, found: &Verification) -> Value {
    json!({
        "file": file.display().to_string(),
        "file_bytes": found.file_bytes,
        "uncommitted_bytes": found.uncommitted_bytes,
        "missing_bytes": found.missing_bytes,
        "n_chunks": found.n_chunks,
        "clean": found.is_clean(),
        "damages": found.damages.iter().map(damage_json).collect::<Vec<_>>(),
    })
}

fn damage_json(damage: &Damage) -> Value {
    let part = match damage.part {
        Part::FileHeader => "file_header",
        Part::CommitMark => "commit_mark",
        Part::Padding => "padding",
        Part::RecordHeader => "record_header",
        Part::Rows => "rows",
        Part::Index => "index",
        Part::Missing => "missing",
    };
    json!({
        "part": part,
        "offset": damage.offset,
        "n_bytes": damage.n_bytes,
        "bit": damage.bit,
        "stream": damage.chunk.map(|(stream, _)| stream),
        "chunk": damage.chunk.map(|(_, number)| number),
        "text": damage.to_string(),
    })
}

fn inspection_json(file: Option<&Path>, found: Option<&Inspection>, saved: Option<&Saved>) -> Value {
    let stream = |of: &StreamInspection| {
        json!({
            "stream": of.stream,
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
    json!({
        "file": file.map(|file| file.display().to_string()),
        "file_bytes": found.map(|found| found.file_bytes),
        "ratio": found.map(Inspection::ratio),
        "missing_bytes": found.map(|found| found.missing_bytes),
        "streams": found.map(|found| found.streams.iter().map(stream).collect::<Vec<_>>()),
        "damages": found.map(|found| found.damages.iter().map(damage_json).collect::<Vec<_>>()),
        "tier_bytes": {
            "hot": saved.map(|saved| saved.hot_bytes),
            "compressed": saved.map(|saved| saved.compressed_bytes),
            "mapped": found.map(|found| found.file_bytes - found.other_bytes),
            "not_in_use": found.map(|found| found.other_bytes),
        },
        "n_transitions": saved.map(|saved| saved.n_transitions),
        "n_inserted": saved.map(|saved| saved.n_inserted),
        "priorities": saved.and_then(|saved| saved.priorities.as_ref()).map(Histogram::to_json),
    })
}
