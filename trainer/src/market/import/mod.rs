//! Import of a file of market bars as a [`BarSeries`], from CSV or Parquet. It assumes only what all rows agree on.
//!
//! ```text
//! csv, parquet ──> columns (which is which) ──> spelling, stamps (when) ──> check (order, prices, width) ──> bars
//! ```
//!
//! [`Imported::notes`] says what import found: columns, spelling and zone of the stamps, label, width and gaps.
//! What it cannot use it refuses, with the file, the line and the remedy. It sorts, fills in, rounds and drops
//! nothing: whoever knows the source of a dirty file mends it.

mod advice;
mod check;
mod columns;
mod csv;
mod dirty;
pub mod extent;
mod format_guess;
mod numbers;
mod parquet;
mod source;
mod source_options;
mod spelling;
mod stamps;
mod time_formats;
mod wall_clock;

pub use dirty::{Dirt, DirtyKind, DirtyRows};
pub use source_options::{Decimal, Label, Missing, Source, SourceOptions};

use std::io::BufRead;
use std::path::Path;

use crate::error::{Error, Result};
use crate::market::bar::{BarSeries, DECISION_MILLIS};

use check::Rows;
use source::{file_error, open};
use stamps::Stamps;

/// One instrument of an imported file.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// What the file's own column of symbols calls it; none where the file has no such column.
    pub symbol: Option<String>,
    /// The bars; their name is the symbol, or the file's stem.
    pub bars: BarSeries,
    /// What import found in the file, in whole lines for the user to read.
    pub notes: Vec<String>,
    /// The rows that were left out, as told.
    pub dirty: DirtyRows,
}

/// Imports one file of bars, recognised by content and not by name: an [`Imported`] for each instrument in it, in the
/// order in which they first occur.
///
/// # Errors
///
/// [`Error::Line`] for the first row that cannot be used, [`Error::File`] where the file as a whole cannot,
/// [`Error::Config`] for options that cannot be understood, [`Error::Io`] where reading breaks off.
pub fn import(source: &Source) -> Result<Vec<Imported>> {
    let Source { path, options } = source;
    let stamps = Stamps::new(options)?;
    let rows = Rows::new(path);
    let mut file = open(path)?;
    let head = file.fill_buf().map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    let named_parquet =
        path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet") || e.eq_ignore_ascii_case("pq"));
    let problem = if head.is_empty() {
        Some("the file is empty: expected a header and bars")
    } else if head.starts_with(&[0x1f, 0x8b]) || head.starts_with(b"PK\x03\x04") {
        Some("the file is compressed: unpack it first")
    } else if named_parquet && !head.starts_with(b"PAR1") {
        Some(
            "the file is not Parquet (it does not begin with PAR1): name it .csv if it is text, \
              else fetch it again",
        )
    } else {
        None
    };
    if let Some(problem) = problem {
        return Err(file_error(path, problem));
    }
    let (rows, mut notes) = if head.starts_with(b"PAR1") {
        parquet::read(file.into_inner(), rows, stamps)?
    } else {
        csv::read(file, source, rows, stamps)?
    };
    let (width_millis, bars) = rows.into_bars(options.label, &mut notes)?;
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let bars = BarSeries { name, width_millis, bars };
    Ok(vec![Imported { symbol: None, bars, notes, dirty: DirtyRows::default() }])
}

/// How many bars an instrument has, how wide they are, and when they begin and end.
#[must_use]
pub fn extent_note(instrument: &BarSeries) -> String {
    check::extent_note(instrument.width_millis, &instrument.bars)
}

/// Checks that an instrument's bars fill the 5-minute decision clock: their width divides 5 minutes, and they
/// begin on multiples of it, so that every bar lies within one bucket of [`resample`].
///
/// `path` is the file they came from, to be named in the error.
///
/// # Errors
///
/// [`Error::File`] that names the width found and what to give instead.
///
/// [`resample`]: crate::market::resample::resample
pub fn require_decision_clock(path: &Path, instrument: &BarSeries) -> Result<()> {
    let width_millis = instrument.width_millis;
    if width_millis <= 0 || DECISION_MILLIS % width_millis != 0 {
        return Err(file_error(
            path,
            format!(
                "its bars are {} wide, and decisions are taken on closed 5-minute bars, which cannot be made of \
                 them: give 1-minute or 5-minute bars of the same market",
                check::span(width_millis)
            ),
        ));
    }
    let off = instrument.bars.first().map_or(0, |bar| bar.open_millis.rem_euclid(width_millis));
    if off != 0 {
        return Err(file_error(
            path,
            format!(
                "its {} bars begin {} past the UTC clock's marks, so that some would lie in two 5-minute bars at \
                 once: give bars that begin on whole multiples of their width",
                check::span(width_millis),
                check::span(off)
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
