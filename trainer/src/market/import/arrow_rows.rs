//! Rows of Arrow's batches, as Parquet and Feather give them.
//!
//! Prices and volume may be of any numeric type, or text. Stamps may be timestamps of any unit (with a zone they are
//! instants, without one they are as ISO stamps without a zone), dates, text, or whole numbers since 1970.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Date32Array, Float64Array, RecordBatch, StringArray};
use arrow_cast::cast;
use arrow_schema::{DataType, Schema, TimeUnit};
use jiff::Timestamp;
use jiff::tz::Offset;

use crate::error::Result;
use crate::market::bar::DAY_MILLIS;

use crate::market::import::cell::{Cell, N_SLOTS, OPEN, Row, SYMBOL, TIME, TIME_OF_DAY, Visit};
use crate::market::import::columns::Columns;
use crate::market::import::spelling::{Moment, Unit};

/// Checks that every column is of a type that its slot can be read from.
///
/// # Errors
/// Which is not, and what to do.
pub(super) fn check_types(schema: &Schema, columns: &Columns) -> std::result::Result<(), String> {
    for (slot, index) in columns.indices.iter().enumerate() {
        let Some(index) = index else { continue };
        let data_type = plain(schema.field(*index).data_type());
        let is_text =
            matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
        let name = columns.name(slot);
        match slot {
            TIME | TIME_OF_DAY => {
                let is_moment =
                    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
                if !is_moment && !is_text && !data_type.is_integer() {
                    return Err(format!(
                        "column `{name}` is of type {data_type}, which is no moment: write the stamps as timestamps, \
                         text or whole numbers"
                    ));
                }
            }
            SYMBOL => {}
            _ if !data_type.is_numeric() && !is_text => {
                return Err(format!(
                    "column `{name}` is of type {data_type}, not a number: write it as a floating-point column"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The names of the columns of numbers that are text.
pub(super) fn text_numbers(schema: &Schema, columns: &Columns) -> Vec<String> {
    let is_text = |slot: &usize| {
        columns.indices[*slot].is_some_and(|index| !plain(schema.field(index).data_type()).is_numeric())
    };
    (OPEN..SYMBOL).filter(is_text).map(|slot| columns.name(slot).to_owned()).collect()
}

/// Gives every row of a batch to `visit`; `n_before` rows came before it. The batch holds the columns by their names.
///
/// # Errors
/// Those of `visit`, and what cannot be converted.
pub(super) fn visit_batch(
    batch: &RecordBatch,
    columns: &Columns,
    n_before: u64,
    visit: &mut Visit<'_>,
) -> Result<std::result::Result<(), String>> {
    let mut arrays: [Option<Values>; N_SLOTS] = [const { None }; N_SLOTS];
    for (slot, values) in arrays.iter_mut().enumerate() {
        if columns.indices[slot].is_some() {
            let name = columns.name(slot);
            let Some(array) = batch.column_by_name(name) else {
                return Ok(Err(format!("column `{name}` cannot be read")));
            };
            match Values::new(array, slot) {
                Ok(read) => *values = Some(read),
                Err(error) => return Ok(Err(format!("column `{name}` cannot be read: {error}"))),
            }
        }
    }
    for at in 0..batch.num_rows() {
        let line = n_before + at as u64 + 1;
        let mut row: Row<'_> = [const { Cell::Missing }; N_SLOTS];
        let mut problem = None;
        for (cell, values) in row.iter_mut().zip(&arrays) {
            match values.as_ref().map_or(Ok(Cell::Missing), |values| values.cell(at)) {
                Ok(read) => *cell = read,
                Err(error) => problem = Some(error),
            }
        }
        visit(0, line, problem.map_or(Ok(&row), Err))?;
    }
    Ok(Ok(()))
}

/// The type of the values behind a dictionary.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    }
}

/// One column of a batch.
enum Values {
    /// Numbers.
    Numbers(Float64Array),
    /// Text, or whole numbers as text.
    Text(StringArray),
    /// Counts since 1970; `wall` where they are of no zone.
    Counts { values: ArrayRef, unit: Unit, wall: bool },
    /// Days since 1970.
    Days(Date32Array),
}

impl Values {
    fn new(array: &ArrayRef, slot: usize) -> std::result::Result<Values, String> {
        let to = |data_type: DataType| cast(array, &data_type).map_err(|error| error.to_string());
        match plain(array.data_type()) {
            DataType::Timestamp(unit, zone) if slot < OPEN => {
                let unit = match unit {
                    TimeUnit::Second => Unit::Second,
                    TimeUnit::Millisecond => Unit::Milli,
                    TimeUnit::Microsecond => Unit::Micro,
                    TimeUnit::Nanosecond => Unit::Nano,
                };
                Ok(Values::Counts { values: to(DataType::Int64)?, unit, wall: zone.is_none() })
            }
            DataType::Date32 | DataType::Date64 if slot < OPEN => {
                Ok(Values::Days(to(DataType::Date32)?.as_primitive().clone()))
            }
            other if slot < OPEN || slot == SYMBOL || !other.is_numeric() => {
                Ok(Values::Text(to(DataType::Utf8)?.as_string::<i32>().clone()))
            }
            _ => Ok(Values::Numbers(to(DataType::Float64)?.as_primitive::<Float64Type>().clone())),
        }
    }

    fn cell(&self, at: usize) -> std::result::Result<Cell<'_>, String> {
        let array: &dyn Array = match self {
            Values::Numbers(values) => values,
            Values::Text(values) => values,
            Values::Counts { values, .. } => values,
            Values::Days(values) => values,
        };
        if array.is_null(at) {
            return Ok(Cell::Missing);
        }
        let (instant, wall) = match self {
            Values::Numbers(values) => return Ok(Cell::Number(values.value(at))),
            Values::Text(values) => return Ok(Cell::Text(values.value(at))),
            Values::Days(days) => {
                (Timestamp::from_millisecond(i64::from(days.value(at)) * DAY_MILLIS).ok(), true)
            }
            Values::Counts { values, unit, wall } => {
                (unit.instant(values.as_primitive::<Int64Type>().value(at)), *wall)
            }
        };
        let instant = instant.ok_or("the stamp is beyond the calendar")?;
        let moment =
            if wall { Moment::Wall(Offset::UTC.to_datetime(instant)) } else { Moment::Instant(instant) };
        Ok(Cell::Moment(moment))
    }
}
