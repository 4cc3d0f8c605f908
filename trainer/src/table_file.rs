//! A table of named columns as a file, CSV or Parquet by the end of its name.
//!
//! The rows are written as they come, under another name that is changed when the file is complete, by [`replace`].

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Float32Array, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use jiff::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::atomic_file::replace;
use crate::error::{Error, Result};

/// One column. All columns of a table have the same length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Column {
    /// Moments: ISO 8601 in CSV, timestamps of milliseconds in Parquet, both UTC.
    Time {
        /// Name of the column.
        name: String,
        /// Milliseconds since 1970, UTC.
        millis: Vec<i64>,
    },
    /// Text.
    Text {
        /// Name of the column.
        name: String,
        /// One per row.
        values: Vec<String>,
    },
    /// Numbers. NaN is written as an empty cell in CSV and as null in Parquet.
    Float {
        /// Name of the column.
        name: String,
        /// One per row.
        values: Vec<f32>,
    },
    /// Numbers of twice the width, written as those of `Float`.
    Double {
        /// Name of the column.
        name: String,
        /// One per row.
        values: Vec<f64>,
    },
}

impl Column {
    fn name(&self) -> &str {
        match self {
            Column::Time { name, .. }
            | Column::Text { name, .. }
            | Column::Float { name, .. }
            | Column::Double { name, .. } => name,
        }
    }

    fn len(&self) -> usize {
        match self {
            Column::Time { millis, .. } => millis.len(),
            Column::Text { values, .. } => values.len(),
            Column::Float { values, .. } => values.len(),
            Column::Double { values, .. } => values.len(),
        }
    }

    /// Writes one cell as CSV text.
    fn write_cell(&self, row: usize, cell: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Column::Time { millis, .. } => {
                let moment = Timestamp::from_millisecond(millis[row]).map_err(io::Error::other)?;
                write!(cell, "{moment}")
            }
            Column::Text { values, .. } => cell.write_all(values[row].as_bytes()),
            Column::Float { values, .. } if values[row].is_nan() => Ok(()),
            Column::Float { values, .. } => write!(cell, "{}", values[row]),
            Column::Double { values, .. } if values[row].is_nan() => Ok(()),
            Column::Double { values, .. } => write!(cell, "{}", values[row]),
        }
    }

    fn to_array(&self) -> ArrayRef {
        match self {
            Column::Time { millis, .. } => {
                Arc::new(TimestampMillisecondArray::from(millis.clone()).with_timezone("UTC"))
            }
            Column::Text { values, .. } => Arc::new(StringArray::from_iter_values(values)),
            Column::Float { values, .. } => {
                Arc::new(values.iter().map(|v| (!v.is_nan()).then_some(*v)).collect::<Float32Array>())
            }
            Column::Double { values, .. } => {
                Arc::new(values.iter().map(|v| (!v.is_nan()).then_some(*v)).collect::<Float64Array>())
            }
        }
    }

    fn to_field(&self) -> Field {
        let data_type = match self {
            Column::Time { .. } => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Column::Text { .. } => DataType::Utf8,
            Column::Float { .. } => DataType::Float32,
            Column::Double { .. } => DataType::Float64,
        };
        let may_lack = matches!(self, Column::Float { .. } | Column::Double { .. });
        Field::new(self.name(), data_type, may_lack)
    }
}

/// The rows of a Parquet file that are held before they are written.
const ROW_GROUP_ROWS: usize = 1 << 14;

/// A table that is being written, a batch of rows after another.
pub(crate) struct TableWriter<'a> {
    format: Format<'a>,
    names: Vec<String>,
}

enum Format<'a> {
    Csv(csv::Writer<BufWriter<&'a File>>),
    Parquet(ArrowWriter<&'a File>, Arc<Schema>),
}

impl TableWriter<'_> {
    /// Appends rows. `columns` are those of the table, of one length.
    ///
    /// # Errors
    /// If writing fails, or the columns are others.
    pub(crate) fn write(&mut self, columns: &[Column]) -> io::Result<()> {
        let n_rows = columns.first().map_or(0, Column::len);
        let is_table = columns.len() == self.names.len()
            && columns.iter().zip(&self.names).all(|(column, name)| column.name() == name);
        if !is_table || columns.iter().any(|column| column.len() != n_rows) {
            return Err(io::Error::other("a batch has the columns of its table, of one length"));
        }
        match &mut self.format {
            Format::Csv(writer) => {
                let mut cell = Vec::new();
                for row in 0..n_rows {
                    for column in columns {
                        cell.clear();
                        column.write_cell(row, &mut cell)?;
                        writer.write_field(&cell)?;
                    }
                    writer.write_record(None::<&[u8]>)?;
                }
                Ok(())
            }
            Format::Parquet(writer, schema) => {
                let arrays = columns.iter().map(Column::to_array).collect();
                let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(io::Error::other)?;
                writer.write(&batch).map_err(parquet_error)
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        match self.format {
            Format::Csv(mut writer) => writer.flush(),
            Format::Parquet(writer, _) => writer.close().map(|_| ()).map_err(parquet_error),
        }
    }
}

/// Writes a table to `path`: as CSV if its name ends in `.csv`, as Parquet (zstd) if it ends in `.parquet`. An existing
/// file is replaced once `fill` has written all rows. `columns` have the table's names and kinds, and no rows.
///
/// # Errors
///
/// [`Error::File`] for another ending, and a folder that does not exist or may not be written to; [`Error::Io`] if
/// writing fails, such as on a full disk. `path` is then unchanged.
pub(crate) fn write_table(
    path: &Path,
    columns: &[Column],
    fill: impl FnOnce(&mut TableWriter) -> io::Result<()>,
) -> Result<()> {
    let ends_in = |ending: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
    let is_parquet = ends_in("parquet");
    if !is_parquet && !ends_in("csv") {
        return Err(file_error(path, "its name says no format: end it in .csv or .parquet"));
    }
    if path.is_dir() {
        return Err(file_error(path, "is a folder: name a file in it"));
    }
    let write = |file: &File| {
        let format = if is_parquet { parquet_writer(file, columns)? } else { csv_writer(file, columns)? };
        let mut table = TableWriter { format, names: columns.iter().map(|c| c.name().to_owned()).collect() };
        fill(&mut table)?;
        table.finish()
    };
    replace(path, write).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => file_error(path, "its folder does not exist: make it first"),
        io::ErrorKind::NotADirectory => file_error(path, "lies in something that is no folder: name another"),
        io::ErrorKind::PermissionDenied => {
            file_error(path, "no permission to write it: name another place, or change the folder's mode")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            file_error(path, "lies on a file system that cannot be written to: name another place")
        }
        _ => Error::Io { path: path.to_path_buf(), source },
    })
}

fn csv_writer<'a>(file: &'a File, columns: &[Column]) -> io::Result<Format<'a>> {
    let mut writer = csv::Writer::from_writer(BufWriter::new(file));
    writer.write_record(columns.iter().map(Column::name))?;
    Ok(Format::Csv(writer))
}

fn parquet_writer<'a>(file: &'a File, columns: &[Column]) -> io::Result<Format<'a>> {
    let schema = Arc::new(Schema::new(columns.iter().map(Column::to_field).collect::<Vec<_>>()));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(parquet_error)?;
    Ok(Format::Parquet(writer, schema))
}

/// The system's error inside a Parquet error, if there is one, so that a full disk is reported as such.
fn parquet_error(error: parquet::errors::ParquetError) -> io::Error {
    match error {
        parquet::errors::ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}

fn file_error(path: &Path, problem: impl Into<String>) -> Error {
    Error::File { path: path.to_path_buf(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float32Type, TimestampMillisecondType};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn columns() -> Vec<Column> {
        vec![
            Column::Time { name: "visible_at".into(), millis: vec![1_640_991_660_000, -1] },
            Column::Text { name: "view".into(), values: vec!["structure".into(), "a, \"b\"".into()] },
            Column::Float { name: "value".into(), values: vec![0.1, f32::NAN] },
        ]
    }

    fn write(path: &Path) -> Result<()> {
        let columns = columns();
        let rows = |from: usize, until: usize| -> Vec<Column> {
            let part = |column: &Column| match column {
                Column::Time { name, millis } => {
                    Column::Time { name: name.clone(), millis: millis[from..until].to_vec() }
                }
                Column::Text { name, values } => {
                    Column::Text { name: name.clone(), values: values[from..until].to_vec() }
                }
                Column::Float { name, values } => {
                    Column::Float { name: name.clone(), values: values[from..until].to_vec() }
                }
                Column::Double { name, values } => {
                    Column::Double { name: name.clone(), values: values[from..until].to_vec() }
                }
            };
            columns.iter().map(part).collect()
        };
        write_table(path, &rows(0, 0), |table| {
            table.write(&rows(0, 1))?;
            table.write(&rows(1, 2))
        })
    }

    #[test]
    fn csv_holds_iso_stamps_quoted_text_and_empty_cells_for_nan() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        write(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "visible_at,view,value\n2021-12-31T23:01:00Z,structure,0.1\n\
             1969-12-31T23:59:59.999Z,\"a, \"\"b\"\"\",\n"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn parquet_holds_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        write(&path).unwrap();
        let mut reader =
            ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap().build().unwrap();
        let batch = reader.next().unwrap().unwrap();
        assert_eq!(
            batch.schema().field(0).data_type(),
            &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
        );
        let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
        assert_eq!(times.values().to_vec(), vec![1_640_991_660_000, -1]);
        assert_eq!(batch.column(1).as_string::<i32>().value(1), "a, \"b\"");
        let values = batch.column(2).as_primitive::<Float32Type>();
        assert_eq!((values.value(0), values.is_null(1)), (0.1, true));
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_the_users_fault_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        for (name, problem) in [
            ("missing/rows.csv", "its folder does not exist"),
            ("rows.txt", "end it in .csv or .parquet"),
            ("rows", "end it in .csv or .parquet"),
        ] {
            let error = write(&folder.path().join(name)).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(problem), "{error}");
        }
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(write(&folder.path().join("file/rows.csv")).unwrap_err().is_usage());
        fs::create_dir(folder.path().join("folder.csv")).unwrap();
        assert!(write(&folder.path().join("folder.csv")).unwrap_err().is_usage());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left aside");
    }

    #[test]
    fn a_table_that_cannot_be_filled_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        write(&path).unwrap();
        let before = fs::read_to_string(&path).unwrap();
        let mut other = columns();
        other.push(Column::Float { name: "short".into(), values: vec![1.0] });
        write_table(&path, &columns(), |table| table.write(&other)).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left aside");
    }
}
