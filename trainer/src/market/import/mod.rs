//! Import of a file of market bars as a [`BarSeries`] per instrument. It assumes only what all rows agree on.
//!
//! ```text
//! bytes ──> unpacked ──> text (dialect), JSON, Parquet, Feather ──> bar_table: columns, preset
//!                                                                      │
//!            survey: what all rows agree on  <── first pass ───────────┤
//!                │ stamps, numbers                                     │
//!                └──> gather: bars and dirty rows <── second pass ─────┘──> check (order, width) ──> bars
//! ```
//!
//! [`Imported::notes`] says what import found: preset, columns, spelling and zone of the stamps, label, width and gaps.
//! What it cannot use it refuses, counted, with the file, the first lines and the remedy. It fills in nothing and drops
//! nothing untold; it turns round a file whose newest row comes first.

mod advice;
mod arrow_rows;
mod bar_table;
mod cell;
mod check;
mod columns;
mod csv;
mod dialect;
mod dirty;
pub mod extent;
mod feather;
mod feather_bounds;
mod format_guess;
mod gather;
mod json_rows;
mod lines;
mod missing_header;
mod numbers;
mod parquet;
mod presets;
mod source;
mod source_options;
mod spelling;
mod stamps;
mod survey;
mod time_formats;
mod unpacked;
mod wall_clock;

pub use check::moment;
pub use dirty::{Dirt, DirtyKind, DirtyRows};
pub use source_options::{Decimal, Label, Missing, Source, SourceOptions};

use std::path::Path;

use crate::error::Result;
use crate::market::bar::{BarSeries, DECISION_MILLIS};

use bar_table::BarTable;
use gather::{Gathered, gather};
use lines::Lines;
use source::file_error;
use survey::survey;

/// One instrument of an imported file.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// What the file calls it, in a column of symbols or in its header; none where it does not.
    pub symbol: Option<String>,
    /// The bars; their name is the symbol, or the file's stem.
    pub bars: BarSeries,
    /// What import found in the file, in whole lines for the user to read. What holds for the whole file stands with
    /// its first instrument.
    pub notes: Vec<String>,
    /// The rows that were left out, as told.
    pub dirty: DirtyRows,
    /// The lines of the rows as they stand in the file.
    lines: Lines,
    newest_first: bool,
}

impl Imported {
    /// The line of the file (the row of a file without lines) on which the bar at `index` stands, counted from 1.
    #[must_use]
    pub fn line_of(&self, index: usize) -> u64 {
        let row = if self.newest_first { (self.bars.bars.len() - 1).saturating_sub(index) } else { index };
        self.lines.of(row)
    }
}

/// Imports one file of bars, recognised by content and not by name: an [`Imported`] for each instrument in it, in the
/// order in which they first occur.
///
/// # Errors
///
/// [`Error::Line`](crate::Error::Line) for rows that cannot be used, [`Error::File`](crate::Error::File) where the file
/// as a whole cannot, [`Error::Config`](crate::Error::Config) for options that cannot be understood,
/// [`Error::Io`](crate::Error::Io) where reading breaks off, and [`Error::Memory`](crate::Error::Memory) where the memory
/// limit has no room for the bars.
pub fn import(source: &Source) -> Result<Vec<Imported>> {
    let table = BarTable::open(source)?;
    let survey = survey(source, &table)?;
    let mut notes = table.notes.clone();
    notes.push(table.groups[0].note());
    notes.extend(survey.notes.iter().cloned());
    let gathered = gather(&source.path, &table, survey)?;
    let is_alone = gathered.len() == 1;
    let (mut imported, mut n_too_few) = (Vec::new(), 0u64);
    for one in gathered {
        // Of many instruments some may not have been traded.
        if !is_alone && one.bars.len() < 2 {
            n_too_few += 1;
            continue;
        }
        let mut one = finish(source, &table, one)?;
        if !is_alone {
            let symbol = one.symbol.clone().unwrap_or_default();
            one.notes.iter_mut().for_each(|note| *note = format!("{symbol}: {note}"));
        }
        one.notes.splice(0..0, std::mem::take(&mut notes));
        imported.push(one);
    }
    match imported.first_mut() {
        Some(first) if n_too_few > 0 => {
            first.notes.push(format!("{n_too_few} instruments with fewer than two bars left out"));
        }
        Some(_) => {}
        None => return Err(file_error(&source.path, "holds no instrument with two bars or more")),
    }
    Ok(imported)
}

/// The bars of one instrument, in order, with what was found.
fn finish(source: &Source, table: &BarTable, mut gathered: Gathered) -> Result<Imported> {
    let path = &source.path;
    let label = table.options.label;
    let mut notes = gathered.stamps.notes();
    let newest_first = check::put_in_order(path, &mut gathered)?;
    if newest_first {
        notes.push("the newest row comes first: turned round".to_owned());
    }
    let width_millis = check::width(path, &gathered, newest_first)?;
    let Gathered { symbol, mut bars, dropped, n_widened, lines, .. } = gathered;
    check::set_spans(&mut bars, width_millis, label);
    notes.push(check::label_note(label));
    notes.push(check::extent_note(width_millis, &bars));
    notes.push(check::gaps(&bars));
    if dropped.n_rows() > 0 {
        notes.push(format!("{} rows dropped, as told: {}", dropped.n_rows(), dropped.counts()));
    }
    if n_widened > 0 {
        notes.push(format!(
            "{n_widened} bars with a price outside high and low by its last place: high and low widened to it"
        ));
    }
    let n_without_volume = bars.iter().filter(|bar| bar.volume == 0.0).count();
    if n_without_volume > 0 {
        notes.push(format!("{n_without_volume} bars without volume"));
    }
    let name = symbol.clone().unwrap_or_else(|| stem(path));
    let bars = BarSeries { name, width_millis, bars };
    Ok(Imported { symbol, bars, notes, dirty: dropped, lines, newest_first })
}

/// The file's name without its endings, such as `.csv` and `.csv.gz`.
fn stem(path: &Path) -> String {
    let packed = path.extension().is_some_and(|end| end == "gz" || end == "zst");
    let inner = if packed { path.with_extension("") } else { path.to_path_buf() };
    inner.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
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
/// [`crate::Error::File`] that names the width found and what to give instead.
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
#[path = "tests/damaged_files.rs"]
mod damaged_files;
#[cfg(test)]
#[path = "tests/market_files.rs"]
mod market_files;
#[cfg(test)]
#[path = "tests/suggestions.rs"]
mod suggestions;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "tests/vendors.rs"]
mod vendors;
