//! How many rows and decision bars a file holds: its stamps are read, and nothing is kept of them.

use crate::error::Result;
use crate::interrupt;
use crate::market::bar::DECISION_MILLIS;
use crate::market::import::bar_table::BarTable;
use crate::market::import::cell::{Cell, TIME};
use crate::market::import::columns::Columns;
use crate::market::import::source_options::Source;
use crate::market::import::survey::{stamp_text, survey, symbol_of};

/// How many rows and bars a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Rows of the file.
    pub n_rows: u64,
    /// Decision bars that the rows make.
    pub n_decision_bars: u64,
}

/// Counts the rows and the decision bars of a file. A row whose stamp cannot be read counts as a bar:
/// [`import`](crate::market::import::import) says what is wrong with it.
///
/// # Errors
/// Those of `import` that show before any bar is taken.
pub fn extent(source: &Source) -> Result<Extent> {
    let table = BarTable::open(source)?;
    let survey = survey(source, &table)?;
    // The last bucket and the clock of each instrument.
    let mut of_symbols: Vec<(Option<i64>, _)> =
        survey.symbols.iter().map(|_| (None, survey.stamps.clone())).collect();
    let mut extent = Extent::default();
    let times: Vec<Columns> = table.groups.iter().map(Columns::times).collect();
    let mut joined = String::new();
    table.rows(&times, &mut |group, _, row| {
        interrupt::check()?;
        extent.n_rows += 1;
        let Ok(row) = row else { return Ok(()) };
        let at = symbol_of(row).map_or(Some(group), |symbol| survey.index.get(symbol).copied());
        let Some((last, stamps)) = at.and_then(|at| of_symbols.get_mut(at)) else { return Ok(()) };
        let millis = match (&row[TIME], stamp_text(row, &mut joined)) {
            (_, Some(text)) => stamps.read_text(text).ok(),
            (Cell::Moment(moment), None) => stamps.read_moment(moment).ok(),
            (_, None) => None,
        };
        let bucket = millis.map(|millis| millis.div_euclid(DECISION_MILLIS));
        extent.n_decision_bars += u64::from(bucket.is_none() || bucket != *last);
        *last = bucket;
        Ok(())
    })?;
    Ok(extent)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float64Array, RecordBatch, TimestampSecondArray};
    use memsys::ledger::Owner;
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::market::bar::Bar;
    use crate::market::import::SourceOptions;

    fn of(path: &Path) -> Extent {
        extent(&Source { path: path.to_path_buf(), options: SourceOptions::default() }).unwrap()
    }

    #[test]
    fn rows_and_decision_bars_are_counted_where_early_rows_are_long_and_minutes_are_missing() {
        let mut text = "timestamp,open,high,low,close,volume,note\n".to_owned();
        for i in 0..6_000 {
            // From the thousandth row on, every other minute is missing, and the rows are short.
            let minute = if i < 1_000 { i } else { 2 * i - 1_000 };
            let note = if i < 1_000 { "x".repeat(200) } else { String::new() };
            writeln!(text, "{},1,1,1,1,1,{note}", 1_577_836_800 + 60 * minute).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bars.csv");
        std::fs::write(&path, text).unwrap();
        assert_eq!(of(&path), Extent { n_rows: 6_000, n_decision_bars: 200 + 2_000 });
    }

    #[test]
    fn a_parquet_file_has_as_many_decision_bars_as_its_stamps_make() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bars.parquet");
        let stamps: ArrayRef = Arc::new(TimestampSecondArray::from(
            (0..1_000).map(|i| 1_577_836_800 + 60 * i).collect::<Vec<_>>(),
        ));
        let ones: ArrayRef = Arc::new(Float64Array::from(vec![1.0; 1_000]));
        let numbers = ["open", "high", "low", "close", "volume"].map(|name| (name, Arc::clone(&ones)));
        let batch = RecordBatch::try_from_iter([("timestamp", stamps)].into_iter().chain(numbers)).unwrap();
        let mut writer =
            ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert_eq!(of(&path), Extent { n_rows: 1_000, n_decision_bars: 200 });
    }

    #[test]
    fn the_bytes_of_every_row_are_reserved_before_it_is_taken() {
        let mut text = "timestamp,open,high,low,close\n".to_owned();
        for i in 0..20_000 {
            writeln!(text, "{},1,1,1,1", 1_577_836_800 + 60 * i).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bars.csv");
        std::fs::write(&path, text).unwrap();
        let source = Source { path, options: SourceOptions::default() };
        let imported = crate::market::import::import(&source).unwrap();
        let bars = &imported[0].bars.bars;
        assert_eq!((bars.len(), bars.capacity()), (20_000, 20_000), "no byte more than was reserved");
        assert!(Owner::named("run/loading").peak_bytes() >= (20_000 * size_of::<Bar>()) as u64);
    }
}
