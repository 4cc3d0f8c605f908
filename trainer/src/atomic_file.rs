//! Files that are either the old one or the new one, whole, whatever happens in between.
//!
//! A run can be killed at any moment. What it must find again (checkpoints, `summary.json`, rewritten logs) is
//! therefore written to another name, synced and then renamed: a reader never sees half a file. Appended logs need
//! no rename; their readers drop a torn last line.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// Replaces `path` by a file that holds `bytes`.
///
/// The bytes go to `.<name>.aside` in the same folder, are synced, renamed over `path`, and the folder is synced, so
/// that the new name survives a loss of power as well. The name aside is fixed: a killed writer leaves at most one
/// such file, and the next write of the same path takes it over. Two processes must not write one path at a time.
///
/// # Errors
/// [`Error::Io`] with the path that failed; `path` is then as it was.
pub fn write_aside(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |file| (&*file).write_all(bytes)).map_err(Error::io(path))
}

/// As [`write_aside`], where `write` fills the new file, and with the system's own error.
///
/// # Errors
/// Those of `write` and of the system; `path` is then as it was.
pub fn replace(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let aside = aside_of(path);
    let written = File::create(&aside).and_then(|file| {
        write(&file)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&aside, path)).inspect_err(|_| {
        // The first error is the one to report, and the next write takes a leftover over.
        let _ = fs::remove_file(&aside);
    })?;
    File::open(folder_of(path)).and_then(|folder| folder.sync_all())
}

/// Removes what a write of `path` that never came to its end left aside. Only a process that ends itself needs it.
pub fn remove_unfinished(path: &Path) {
    let _ = fs::remove_file(aside_of(path));
}

/// Replaces `path`, where there is one, by a file that holds `value` as JSON.
///
/// # Errors
/// As [`write_aside`].
pub fn write_json(path: Option<&Path>, value: &Value) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    write_aside(path, &serde_json::to_vec_pretty(value).expect("a JSON value is always JSON"))
}

/// Refuses a file whose folder does not exist. Call it before the work whose result the file is to hold.
///
/// # Errors
/// [`Error::File`] with its name.
pub fn expect_folder(path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    if folder_of(path).is_dir() {
        return Ok(());
    }
    let problem = format!("there is no folder {} to write it to", folder_of(path).display());
    Err(Error::File { path: path.to_owned(), problem })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn aside_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".aside");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_aside_replaces_the_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary.json");
        write_aside(&path, b"old and longer").unwrap();
        write_aside(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_leftover_of_a_killed_writer_does_not_disturb_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary.json");
        fs::write(folder.path().join(".summary.json.aside"), b"half a fi").unwrap();
        write_aside(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_names_the_path_and_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/such/folder/summary.json");
        let error = write_aside(&missing, b"x").unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if *path == missing), "{error}");

        // A folder in the file's place: the rename fails after the bytes were written aside.
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        write_aside(&taken, b"x").unwrap_err();
        assert!(taken.join("inside").is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
