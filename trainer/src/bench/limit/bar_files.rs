//! The files of bars that configurations read: CSV and Parquet, one and several, written once each.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;

use crate::error::{Error, Result};
use crate::market::bar::{Bar, MINUTE_MILLIS};
use crate::market::synthetic::{START_MILLIS, SyntheticOptions, synthesize};

/// Where the bars of a run come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The built-in market; no file.
    Synthetic,
    /// One CSV file of minute bars.
    Csv,
    /// One CSV file whose first rows are many times as long as the others.
    CsvWithLongHead,
    /// One Parquet file of minute bars.
    Parquet,
    /// Three CSV files.
    SeveralCsv,
    /// Two Parquet files and a CSV file.
    SeveralMixed,
}

impl Source {
    pub(super) const ALL: [Self; 6] = [
        Self::Synthetic,
        Self::Csv,
        Self::CsvWithLongHead,
        Self::Parquet,
        Self::SeveralCsv,
        Self::SeveralMixed,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Synthetic => "synthetic",
            Self::Csv => "csv",
            Self::CsvWithLongHead => "csv with a long head",
            Self::Parquet => "parquet",
            Self::SeveralCsv => "3 csv",
            Self::SeveralMixed => "parquet and csv",
        }
    }

    /// The files in `folder`, which this writes if they are not there. Short ones hold as few bars as a run can have,
    /// others those of a season.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn files(self, folder: &Path, is_short: bool) -> Result<Vec<PathBuf>> {
        let kinds: &[Kind] = match self {
            Self::Synthetic => &[],
            Self::Csv => &[Kind::Csv],
            Self::CsvWithLongHead => &[Kind::CsvWithLongHead],
            Self::Parquet => &[Kind::Parquet],
            Self::SeveralCsv => &[Kind::Csv, Kind::Csv, Kind::Csv],
            Self::SeveralMixed => &[Kind::Parquet, Kind::Csv, Kind::Parquet],
        };
        let length = if is_short { "short" } else { "long" };
        (0u64..)
            .zip(kinds)
            .map(|(seed, kind)| {
                let path = folder.join(format!("{}-{length}-seed{seed}.{}", kind.name(), kind.ending()));
                if !path.exists() {
                    // Files of one run differ in length, as those of several instruments do.
                    let n_minutes = if is_short { 14_000 } else { 150_000 } - 1_500 * seed as usize;
                    kind.write(&path, &minute_bars(seed, n_minutes)).map_err(Error::io(&path))?;
                }
                Ok(path)
            })
            .collect()
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Csv,
    CsvWithLongHead,
    Parquet,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Csv | Self::Parquet => "bars",
            Self::CsvWithLongHead => "long-head",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Csv | Self::CsvWithLongHead => "csv",
            Self::Parquet => "parquet",
        }
    }

    fn write(self, path: &Path, bars: &[Bar]) -> std::io::Result<()> {
        match self {
            Self::Csv => write_csv(path, bars, 0),
            Self::CsvWithLongHead => write_csv(path, bars, LONG_ROWS),
            Self::Parquet => write_parquet(path, bars),
        }
    }
}

/// Rows at the beginning of a file with a long head.
const LONG_ROWS: usize = 200;
/// Bytes of the remark in such a row.
const REMARK_BYTES: usize = 400;

/// Writes a CSV file of so many minutes.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write_minutes(path: &Path, n_minutes: usize) -> Result<()> {
    write_csv(path, &minute_bars(0, n_minutes), 0).map_err(Error::io(path))?;
    // The kernel's peak of a child begins with what this process holds when it starts it.
    memsys::os::trim_heap();
    Ok(())
}

/// Bars of one minute each without a gap: those of a synthetic market, drawn together.
fn minute_bars(seed: u64, n_minutes: usize) -> Vec<Bar> {
    // Five of seven days trade, with 288 bars each.
    let days = (n_minutes / 288 + 1) * 7 / 5 + 7;
    let options = SyntheticOptions { days: days as u32, seed, ..SyntheticOptions::default() };
    let mut bars = synthesize(&options).instrument.bars;
    bars.truncate(n_minutes);
    let open = |minute: usize| START_MILLIS + minute as i64 * MINUTE_MILLIS;
    for (minute, bar) in bars.iter_mut().enumerate() {
        (bar.open_millis, bar.close_millis) = (open(minute), open(minute + 1));
    }
    bars
}

fn write_csv(path: &Path, bars: &[Bar], n_long_rows: usize) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "timestamp,open,high,low,close,volume,remark")?;
    for (row, bar) in bars.iter().enumerate() {
        let Bar { open_millis, open, high, low, close, volume, .. } = bar;
        let remark = if row < n_long_rows { "x".repeat(REMARK_BYTES) } else { String::new() };
        writeln!(file, "{open_millis},{open:.4},{high:.4},{low:.4},{close:.4},{volume:.1},{remark}")?;
    }
    file.flush()
}

fn write_parquet(path: &Path, bars: &[Bar]) -> std::io::Result<()> {
    let column = |value: fn(&Bar) -> f64| -> ArrayRef {
        Arc::new(bars.iter().map(|bar| Some(value(bar))).collect::<Float64Array>())
    };
    let stamps: ArrayRef = Arc::new(bars.iter().map(|bar| Some(bar.open_millis)).collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter([
        ("timestamp", stamps),
        ("open", column(|bar| bar.open)),
        ("high", column(|bar| bar.high)),
        ("low", column(|bar| bar.low)),
        ("close", column(|bar| bar.close)),
        ("volume", column(|bar| bar.volume)),
    ])
    .map_err(std::io::Error::other)?;
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::import::{self, SourceOptions};

    #[test]
    fn every_source_has_files_that_the_program_imports_as_minute_bars() {
        let folder = tempfile::tempdir().unwrap();
        for source in Source::ALL {
            let files = source.files(folder.path(), true).unwrap();
            assert_eq!(files, source.files(folder.path(), true).unwrap(), "written once");
            for file in files {
                let source = import::Source { path: file.clone(), options: SourceOptions::default() };
                let series = import::import(&source).unwrap().remove(0).bars;
                assert_eq!(series.width_millis, MINUTE_MILLIS, "{}", file.display());
                assert!(series.bars.len() > 10_000, "{}", file.display());
            }
        }
    }
}
