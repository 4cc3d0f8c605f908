//! Rows of a Feather file of version 2, which is an Arrow file: batch by batch.

use std::fmt::Display;
use std::fs::File;
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow_ipc::reader::FileReader;
use arrow_schema::SchemaRef;

use crate::error::{Error, Result};

use crate::market::import::arrow_rows::{check_types, text_numbers, visit_batch};
use crate::market::import::cell::Visit;
use crate::market::import::columns::Columns;
use crate::market::import::feather_bounds::check_bounds;
use crate::market::import::source::{file_error, open};

/// A Feather file.
#[derive(Debug)]
pub(super) struct FeatherFile {
    path: PathBuf,
    schema: SchemaRef,
}

impl FeatherFile {
    /// Reads the names and types of the columns.
    pub(super) fn open(path: &Path) -> Result<FeatherFile> {
        check_bounds(open(path)?).map_err(|problem| damaged(path, problem))?;
        let schema = reader(path, None)?.schema();
        Ok(FeatherFile { path: path.to_path_buf(), schema })
    }

    /// The names of the columns.
    pub(super) fn names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The names of the columns of numbers that are text.
    pub(super) fn text_numbers(&self, columns: &Columns) -> Vec<String> {
        text_numbers(&self.schema, columns)
    }

    /// Gives every row to `visit`; lines are rows, counted from 1.
    pub(super) fn rows(&self, columns: &Columns, visit: &mut Visit<'_>) -> Result<()> {
        let path = &self.path;
        check_types(&self.schema, columns).map_err(|problem| file_error(path, problem))?;
        let mut projection: Vec<usize> = columns.indices.into_iter().flatten().collect();
        projection.sort_unstable();
        let mut reader = reader(path, Some(projection))?;
        let mut n_rows = 0;
        while let Some(batch) = guarded(path, || reader.next().transpose())? {
            visit_batch(&batch, columns, n_rows, visit)?.map_err(|problem| damaged(path, problem))?;
            n_rows += batch.num_rows() as u64;
        }
        Ok(())
    }
}

fn reader(path: &Path, projection: Option<Vec<usize>>) -> Result<FileReader<BufReader<File>>> {
    let file = open(path)?;
    guarded(path, || FileReader::try_new(file, projection))
}

/// The result of a call into the decoder, some of whose checks panic on a damaged file.
fn guarded<T, E: Display>(path: &Path, call: impl FnOnce() -> std::result::Result<T, E>) -> Result<T> {
    // What the call holds is dropped with it, never looked at again.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(read) => read.map_err(|error| damaged(path, error)),
        Err(_) => Err(damaged(path, "its parts contradict each other")),
    }
}

fn damaged(path: &Path, error: impl Display) -> Error {
    file_error(path, format!("cannot be read as Feather ({error}): is it cut off or damaged? Fetch it again"))
}
