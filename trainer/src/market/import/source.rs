//! The file that bars come from, and the errors that name it.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Opens an input file; what the user can mend (no such file, a folder, no permission) is an [`Error::File`].
pub(super) fn open(path: &Path) -> Result<BufReader<File>> {
    let io_error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => file_error(path, "no such file: is the path right?"),
        io::ErrorKind::PermissionDenied => {
            file_error(path, "no permission to read it: change its mode, or run as its owner")
        }
        _ => Error::Io { path: path.to_path_buf(), source },
    };
    let file = File::open(path).map_err(io_error)?;
    if file.metadata().map_err(io_error)?.is_dir() {
        return Err(file_error(path, "is a folder: name the files of bars in it, one by one"));
    }
    Ok(BufReader::with_capacity(1 << 16, file))
}

pub(super) fn file_error(path: &Path, problem: impl Into<String>) -> Error {
    Error::File { path: PathBuf::from(path), problem: one_line(problem.into()) }
}

pub(super) fn line_error(path: &Path, line: u64, problem: impl Into<String>) -> Error {
    Error::Line { path: path.to_path_buf(), line, problem: one_line(problem.into()) }
}

/// A problem in one line: the names and cells that it quotes may hold line feeds.
fn one_line(problem: String) -> String {
    if problem.contains(char::is_control) { problem.replace(char::is_control, " ") } else { problem }
}
