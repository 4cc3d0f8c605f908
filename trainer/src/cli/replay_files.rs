//! The replay files of a path, and what is said of damage in them.

use std::fs;
use std::path::{Path, PathBuf};

use buffers::replay::ReplayTier;
use buffers::store::{ChunkReader, Damage, FilePart};
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::run::folder::RunFolder;

/// The result for one file, or the reason why there is none.
pub(super) type Found<T> = (PathBuf, Result<T>);

/// The error of a replay file that is damaged or was cut off.
pub(super) fn damage_of(file: PathBuf, damages: &[Damage], missing_bytes: u64) -> Option<Error> {
    let problem = match (missing_bytes, damages) {
        (0, []) => return None,
        (0, [damage]) => damage.to_string(),
        (0, [first, ..]) => format!("{} places are damaged; the first: {first}", damages.len()),
        _ => format!("the file was cut off: {missing_bytes} committed bytes are missing"),
    };
    Some(Error::File { path: file, problem })
}

/// Fails with the errors of the files of `path`, if there are any.
pub(super) fn refuse(path: &Path, errors: Vec<Error>) -> Result<()> {
    let n = errors.len();
    let Some(first) = errors.into_iter().next() else { return Ok(()) };
    if n == 1 {
        return Err(first);
    }
    let problem = format!("{n} files are damaged; the first: {first}");
    Err(Error::File { path: path.to_path_buf(), problem })
}

/// The replay files of a path: the path itself, or the files in the folder and its subfolders.
pub(super) fn replay_files(path: &Path) -> Result<Vec<PathBuf>> {
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

/// Damage for programs.
pub(super) fn damage_json(damage: &Damage) -> Value {
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
