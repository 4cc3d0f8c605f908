//! Rows of a Parquet file: the columns that bars need, batch by batch.

use std::fmt::Display;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow_schema::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{Error, Result};

use crate::market::import::arrow_rows::{check_types, text_numbers, visit_batch};
use crate::market::import::cell::Visit;
use crate::market::import::columns::Columns;
use crate::market::import::source::{file_error, open};

/// Rows read at a time.
const BATCH_ROWS: usize = 8_192;

/// A Parquet file.
#[derive(Debug)]
pub(super) struct ParquetFile {
    path: PathBuf,
    schema: SchemaRef,
}

impl ParquetFile {
    /// Reads the names and types of the columns.
    pub(super) fn open(path: &Path) -> Result<ParquetFile> {
        let schema = builder(path)?.schema().clone();
        Ok(ParquetFile { path: path.to_path_buf(), schema })
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
        let builder = builder(path)?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns.indices.into_iter().flatten());
        let mut reader = guarded(path, || builder.with_projection(mask).with_batch_size(BATCH_ROWS).build())?;
        let mut n_rows = 0;
        while let Some(batch) = guarded(path, || reader.next().transpose())? {
            visit_batch(&batch, columns, n_rows, visit)?.map_err(|problem| damaged(path, problem))?;
            n_rows += batch.num_rows() as u64;
        }
        Ok(())
    }
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = open(path)?.into_inner();
    guarded(path, || ParquetRecordBatchReaderBuilder::try_new(file))
}

/// The result of a call into the decoder. Some of its checks panic on a damaged file where others return an error;
/// both become one error here.
fn guarded<T, E: Display>(path: &Path, call: impl FnOnce() -> std::result::Result<T, E>) -> Result<T> {
    // What the call holds is dropped with it, never looked at again.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(read) => read.map_err(|error| damaged(path, error)),
        Err(_) => Err(damaged(path, "its parts contradict each other")),
    }
}

fn damaged(path: &Path, error: impl Display) -> Error {
    file_error(path, format!("cannot be read as Parquet ({error}): is it cut off or damaged? Fetch it again"))
}
