//! Rows of a Parquet file: the six columns that bars need, batch by batch.
//!
//! Prices and volume may be of any numeric type. Stamps may be timestamps of any unit (with a zone they are
//! instants, without one they are as ISO stamps without a zone), dates, text, or whole numbers since 1970.

use std::fmt::Display;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Date32Array};
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};
use jiff::Timestamp;
use jiff::tz::Offset;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{Error, Result};
use crate::market::bar::DAY_MILLIS;

use crate::market::import::check::{NUMBER_NAMES, Rows};
use crate::market::import::columns::{Columns, TIME};
use crate::market::import::source::file_error;
use crate::market::import::spelling::{Moment, Unit};
use crate::market::import::stamps::Stamps;

/// Rows read at a time.
const BATCH_ROWS: usize = 8_192;

/// Reads every row into `rows`; returns them with notes on what was taken. Lines are rows, counted from 1.
pub(super) fn read(file: File, mut rows: Rows, mut stamps: Stamps) -> Result<(Rows, Vec<String>)> {
    let path = rows.path().to_path_buf();
    let builder = guarded(&rows, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let schema = builder.schema().clone();
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let columns = Columns::find(&path, &names)?;
    for role in TIME + 1..columns.indices.len() {
        let data_type = schema.field(columns.indices[role]).data_type();
        if !data_type.is_numeric() {
            let problem = format!(
                "column `{}` is of type {data_type}, not a number: write it as a floating-point column",
                columns.name(role)
            );
            return Err(file_error(&path, problem));
        }
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns.indices);
    let mut reader = guarded(&rows, || builder.with_projection(mask).with_batch_size(BATCH_ROWS).build())?;
    let mut line = 0;
    while let Some(batch) = guarded(&rows, || reader.next().transpose())? {
        // The projection keeps the file's order of columns, so they are found by name again.
        let column = |role: usize| {
            batch
                .column_by_name(columns.name(role))
                .ok_or_else(|| file_error(&path, format!("column `{}` cannot be read", columns.name(role))))
        };
        let read_stamps = StampColumn::new(column(TIME)?)
            .map_err(|problem| file_error(&path, format!("column `{}` {problem}", columns.name(TIME))))?;
        let mut numbers = Vec::with_capacity(NUMBER_NAMES.len());
        for role in TIME + 1..columns.indices.len() {
            numbers.push(cast(column(role)?, &DataType::Float64).map_err(|error| damaged(&rows, error))?);
        }
        for row in 0..batch.num_rows() {
            line += 1;
            let stamp_millis =
                read_stamps.read(row, &mut stamps).map_err(|problem| rows.line_error(line, problem))?;
            let mut values = [0.0; NUMBER_NAMES.len()];
            for (i, (value, array)) in values.iter_mut().zip(&numbers).enumerate() {
                if array.is_null(row) {
                    let name = columns.name(TIME + 1 + i);
                    let problem = format!("`{name}` is empty: remove the row, or fetch its numbers again");
                    return Err(rows.line_error(line, problem));
                }
                *value = array.as_primitive::<Float64Type>().value(row);
            }
            rows.push(line, stamp_millis, values)?;
        }
    }
    if line == 0 {
        return Err(file_error(&path, "holds columns and no bars"));
    }
    let mut notes = vec![columns.note()];
    notes.extend(stamps.notes());
    Ok((rows, notes))
}

/// The result of a call into the decoder. Some of its checks panic on a damaged file where others return an error;
/// both become one error here.
fn guarded<T, E: Display>(rows: &Rows, call: impl FnOnce() -> std::result::Result<T, E>) -> Result<T> {
    // What the call holds is dropped with it, never looked at again.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(read) => read.map_err(|error| damaged(rows, error)),
        Err(_) => Err(damaged(rows, "its parts contradict each other")),
    }
}

fn damaged(rows: &Rows, error: impl Display) -> Error {
    file_error(
        rows.path(),
        format!("cannot be read as Parquet ({error}): is it cut off or damaged? Fetch it again"),
    )
}

/// The stamps of one batch, in the type the file gives them.
enum StampColumn {
    /// Counts since 1970; `wall` where they are of no zone.
    Counts { values: ArrayRef, unit: Unit, wall: bool },
    /// Days since 1970.
    Days(Date32Array),
    /// Text, or whole numbers as text.
    Text(ArrayRef),
}

impl StampColumn {
    fn new(array: &ArrayRef) -> std::result::Result<StampColumn, String> {
        let to = |data_type: DataType| {
            cast(array, &data_type).map_err(|error| format!("cannot be read as stamps: {error}"))
        };
        let data_type = match array.data_type() {
            DataType::Dictionary(_, values) => values.as_ref(),
            other => other,
        };
        match data_type {
            DataType::Timestamp(unit, zone) => {
                let unit = match unit {
                    TimeUnit::Second => Unit::Second,
                    TimeUnit::Millisecond => Unit::Milli,
                    TimeUnit::Microsecond => Unit::Micro,
                    TimeUnit::Nanosecond => Unit::Nano,
                };
                Ok(StampColumn::Counts { values: to(DataType::Int64)?, unit, wall: zone.is_none() })
            }
            DataType::Date32 | DataType::Date64 => {
                Ok(StampColumn::Days(to(DataType::Date32)?.as_primitive().clone()))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Ok(StampColumn::Text(to(DataType::Utf8)?))
            }
            other if other.is_integer() => Ok(StampColumn::Text(to(DataType::Utf8)?)),
            other => Err(format!(
                "is of type {other}, which is no moment: write the stamps as timestamps, text or whole numbers"
            )),
        }
    }

    fn read(&self, row: usize, stamps: &mut Stamps) -> std::result::Result<i64, String> {
        let is_null = match self {
            StampColumn::Counts { values, .. } | StampColumn::Text(values) => values.is_null(row),
            StampColumn::Days(days) => days.is_null(row),
        };
        if is_null {
            return Err("the stamp is empty".to_owned());
        }
        let (instant, wall) = match self {
            StampColumn::Text(values) => return stamps.read_text(values.as_string::<i32>().value(row)),
            StampColumn::Days(days) => {
                (Timestamp::from_millisecond(i64::from(days.value(row)) * DAY_MILLIS).ok(), true)
            }
            StampColumn::Counts { values, unit, wall } => {
                (unit.instant(values.as_primitive::<Int64Type>().value(row)), *wall)
            }
        };
        let instant = instant.ok_or_else(|| "the stamp is beyond the calendar".to_owned())?;
        let moment =
            if wall { Moment::Wall(Offset::UTC.to_datetime(instant)) } else { Moment::Instant(instant) };
        stamps.read_moment(&moment)
    }
}
