//! `plimsoll replay`: inspects and verifies replay files.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use buffers::replay::Replay;
use buffers::replay::ReplayTier;
use buffers::store::{self, ChunkReader, ChunkWriter, Damage, Durability, FilePart, Inspection};
use buffers::store::{StreamInspection, Verification};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::atomic_file::write_json;
use crate::cli::histogram::Histogram;
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
    /// Compare every checksum in replay files with the bytes, and name the exact position of damage.
    ///
    /// For a folder it verifies all replay files. The exit status is 0 if all committed data can be read, and 2 if
    /// anything is damaged or missing or PATH is not a replay file. A file can be verified while a run writes it.
    Verify(VerifyArgs),
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
}

/// Compare every checksum in replay files with the bytes, and name the exact position of damage.
///
/// For a folder it verifies all replay files. The exit status is 0 if all committed data can be read, and 2 if anything
/// is damaged or missing or PATH is not a replay file. A file can be verified while a run writes it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plimsoll replay verify runs/btc\n  plimsoll replay verify \
                        runs/btc/replay.plr --json damage.json\n  plimsoll replay verify runs/btc/replay.plr \
                        --salvage saved.plr")]
pub(super) struct VerifyArgs {
    /// A replay file, or the folder of a run.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Also writes the result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Copies every readable chunk in use to this new file, and names the chunks that cannot be read. The exit status
    /// is still that of PATH.
    #[arg(long, value_name = "NEW")]
    salvage: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(command: &ReplayCommand) -> Result<()> {
    match command {
        ReplayCommand::Inspect(args) => inspect(args),
        ReplayCommand::Verify(args) => verify(args),
    }
}

/// The result for one file, or the reason why there is none.
type Found<T> = (PathBuf, Result<T>);

fn inspect(args: &InspectArgs) -> Result<()> {
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
    refuse_damage(&args.path, inspected, |found| (&found.damages, found.missing_bytes))
}

fn verify(args: &VerifyArgs) -> Result<()> {
    let files = replay_files(&args.path)?;
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
    for (file, found) in &verified {
        match found {
            Ok(found) => print(&format!("{}: {found}\n", file.display())),
            Err(error) if verified.len() > 1 => print(&format!("{error}\n")),
            Err(_) => {}
        }
    }
    let each: Vec<Value> = verified.iter().map(|(file, found)| verification_json(file, found)).collect();
    let is_clean = verified.iter().all(|(_, found)| is_clean(found));
    write_json(args.json.as_deref(), &json!({ "files": each, "clean": is_clean }))?;
    if let (Some(to), [(from, Ok(_))]) = (&args.salvage, verified.as_slice()) {
        salvage(from, to)?;
    }
    refuse_damage(&args.path, verified, |found| (&found.damages, found.missing_bytes))
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

/// The error of the first file that is damaged or could not be read.
fn refuse_damage<T>(
    path: &Path,
    files: Vec<Found<T>>,
    damage: impl Fn(&T) -> (&Vec<Damage>, u64),
) -> Result<()> {
    let mut errors = files.into_iter().filter_map(|(file, found)| match found {
        Err(error) => Some(error),
        Ok(found) => {
            let (damages, missing_bytes) = damage(&found);
            let problem = match (missing_bytes, damages.as_slice()) {
                (0, []) => return None,
                (0, [damage]) => damage.to_string(),
                (0, [first, ..]) => format!("{} places are damaged; the first: {first}", damages.len()),
                _ => format!("the file was cut off: {missing_bytes} committed bytes are missing"),
            };
            Some(Error::File { path: file, problem })
        }
    });
    let Some(first) = errors.next() else { return Ok(()) };
    match errors.count() {
        0 => Err(first),
        n => {
            let problem = format!("{} replay files are damaged; the first: {first}", n + 1);
            Err(Error::File { path: path.to_path_buf(), problem })
        }
    }
}

/// The replay files of a path: the path itself, or the files in the folder and its subfolders.
fn replay_files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    for entry in entries(path)? {
        if entry.is_dir() {
            found.extend(entries(&entry)?.into_iter().filter(|path| is_replay_file(path)));
        } else if is_replay_file(&entry) {
            found.push(entry);
        }
    }
    if found.is_empty() {
        let problem = match kept_in_memory(path) {
            true => {
                "there is no replay file in this folder: this run keeps its replay in memory; a run with \
                     replay.tier=mapped keeps it in a file"
                    .to_owned()
            }
            false => "there is no replay file in this folder".to_owned(),
        };
        return Err(Error::File { path: path.to_path_buf(), problem });
    }
    Ok(found)
}

/// Whether a folder belongs to a run whose replay has no file.
fn kept_in_memory(folder: &Path) -> bool {
    let config = RunFolder::open(folder).and_then(|folder| Config::load(Some(&folder.config()), &[]));
    config.is_ok_and(|config| config.replay.tier != ReplayTier::Mapped)
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

/// Whether a file is a replay file of any version, damaged or not, by its name or by its header. A `.new` file that is
/// still being written is not one.
fn is_replay_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let is_file = fs::metadata(path).is_ok_and(|facts| facts.is_file());
    match extension {
        _ if !is_file => false,
        Some("new") => false,
        Some("plr") => true,
        _ => !matches!(
            ChunkReader::open(path),
            Err(buffers::Error::NotAReplayFile { .. }
                | buffers::Error::Io { .. }
                | buffers::Error::Truncated { found_bytes: 0, .. })
        ),
    }
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

fn is_clean(found: &Result<Verification>) -> bool {
    found.as_ref().is_ok_and(Verification::is_clean)
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

fn damage_json(damage: &Damage) -> Value {
    let part = match damage.part {
        FilePart::FileHeader => "file_header",
        FilePart::CommitMark => "commit_mark",
        FilePart::Padding => "padding",
        FilePart::RecordHeader => "record_header",
        FilePart::Rows => "rows",
        FilePart::Index => "index",
        FilePart::Missing => "missing",
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
