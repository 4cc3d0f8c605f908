//! The second of two passes over a file: takes its rows as bars, an instrument each, and counts those that are none.

use std::path::Path;

use crate::error::Result;
use crate::interrupt;
use crate::market::bar::Bar;

use crate::market::import::bar_table::BarTable;
use crate::market::import::cell::{Cell, OPEN, Row, TICK_VOLUME, TIME, VOLUME};
use crate::market::import::columns::Columns;
use crate::market::import::dirty::{Dirt, DirtyRows};
use crate::market::import::lines::Lines;
use crate::market::import::numbers::NumberFormat;
use crate::market::import::source_options::Missing;
use crate::market::import::stamps::Stamps;
use crate::market::import::survey::{Survey, VolumeFrom, loading, stamp_text, symbol_of};

/// How far apart, relative to their size, two prices may lie that count as equal: the last places of a number that was
/// adjusted for splits and dividends.
const EQUAL_FRACTION: f64 = 1e-9;

/// Prices and volumes beyond this are no market's, and products of them would be infinite.
const LARGEST: f64 = 1e60;
/// Prices below this are no market's either.
const SMALLEST_PRICE: f64 = 1e-60;

/// The rows of one instrument.
pub(super) struct Gathered {
    /// Its symbol, if the file names it.
    pub(super) symbol: Option<String>,
    /// Its bars in the order of the file. `open_millis` is the stamp; `close_millis` is not set yet.
    pub(super) bars: Vec<Bar>,
    /// The line of each bar.
    pub(super) lines: Lines,
    /// Reads its stamps.
    pub(super) stamps: Stamps,
    /// The rows that were left out, as told.
    pub(super) dropped: DirtyRows,
    /// Bars whose high or low was widened by a rounding.
    pub(super) n_widened: u64,
}

/// Reads every row of a file.
///
/// # Errors
/// Where rows are no bars, all of them counted; [`crate::error::Error::Memory`] where the memory limit has no room.
pub(super) fn gather(path: &Path, table: &BarTable, survey: Survey) -> Result<Vec<Gathered>> {
    let Survey { symbols, index, stamps, numbers, volume, .. } = survey;
    // The bars keep their bytes; the reservation names their owner while they are loaded, and asks for them beforehand.
    let mut reservation = loading();
    let n_rows: usize = symbols.iter().map(|(_, n)| n).sum();
    let bytes = (n_rows * size_of::<Bar>()) as u64;
    reservation.try_set(bytes)?;
    let mut instruments: Vec<Gathered> = symbols
        .into_iter()
        .map(|(symbol, n)| Gathered {
            symbol,
            bars: Vec::with_capacity(n),
            lines: Lines::default(),
            stamps: stamps.clone(),
            dropped: DirtyRows::default(),
            n_widened: 0,
        })
        .collect();
    reservation.set(bytes);
    let nameless = instruments.iter().position(|instrument| instrument.symbol.is_none());
    let mut reader = RowReader {
        joined: String::new(),
        numbers,
        volume,
        drops: table.options.missing == Some(Missing::Drop),
    };
    let mut faults = DirtyRows::default();
    let mut n_read = 0;
    table.rows(&table.groups, &mut |group, line, row| {
        interrupt::check()?;
        n_read += 1;
        let columns = &table.groups[group];
        let row = match row {
            Ok(row) => row,
            Err(problem) => {
                faults.push(Dirt::Columns, line, || problem);
                return Ok(());
            }
        };
        let at = match symbol_of(row) {
            _ if columns.symbol.is_some() => Some(group),
            Some(symbol) => index.get(symbol).copied(),
            None => nameless,
        };
        // A symbol that the first pass has not seen: the file is being written.
        if let Some(instrument) = at.and_then(|at| instruments.get_mut(at)) {
            reader.take(columns, line, row, instrument, &mut faults);
        }
        Ok(())
    })?;
    match faults.error(path, n_read) {
        Some(error) => Err(error),
        None => Ok(instruments),
    }
}

/// How a row's cells become a bar.
struct RowReader {
    numbers: NumberFormat,
    volume: VolumeFrom,
    drops: bool,
    /// A date and a time of day that were joined.
    joined: String,
}

impl RowReader {
    fn take(
        &mut self,
        columns: &Columns,
        line: u64,
        row: &Row<'_>,
        instrument: &mut Gathered,
        faults: &mut DirtyRows,
    ) {
        let stamp = match (&row[TIME], stamp_text(row, &mut self.joined)) {
            (_, Some(text)) => instrument.stamps.read_text(text),
            (Cell::Moment(moment), None) => instrument.stamps.read_moment(moment),
            (_, None) => Err("the stamp is empty".to_owned()),
        };
        let open_millis = match stamp {
            Ok(millis) => millis,
            Err(problem) => return faults.push(Dirt::Stamp, line, || problem),
        };
        let volume_slot = match self.volume {
            VolumeFrom::Volume => Some(VOLUME),
            VolumeFrom::Ticks => Some(TICK_VOLUME),
            VolumeFrom::Nowhere => None,
        };
        let slots = [Some(OPEN), Some(OPEN + 1), Some(OPEN + 2), Some(OPEN + 3), volume_slot];
        let mut numbers = [0.0; 5];
        for (value, slot) in numbers.iter_mut().zip(slots) {
            let Some(slot) = slot else { continue };
            let read = match &row[slot] {
                Cell::Number(number) if !number.is_nan() => Ok(Some(*number)),
                Cell::Text(text) => self.numbers.read(text),
                _ => Ok(None),
            };
            match read {
                Ok(Some(number)) => *value = number,
                Ok(None) if self.drops => {
                    return instrument
                        .dropped
                        .push(Dirt::Missing, line, || missing(columns.name(slot), &row[slot]));
                }
                Ok(None) => {
                    return faults.push(Dirt::Missing, line, || missing(columns.name(slot), &row[slot]));
                }
                Err(problem) => {
                    return faults
                        .push(Dirt::NoNumber, line, || format!("`{}` is {problem}", columns.name(slot)));
                }
            }
        }
        match sound(numbers) {
            Ok((numbers, is_widened)) => {
                let [open, high, low, close, volume] = numbers;
                instrument.bars.push(Bar {
                    open_millis,
                    close_millis: open_millis,
                    open,
                    high,
                    low,
                    close,
                    volume,
                });
                instrument.lines.push(line);
                instrument.n_widened += u64::from(is_widened);
            }
            Err(problem) => faults.push(Dirt::Prices, line, || problem),
        }
    }
}

/// The words for a number that is not there.
fn missing(name: &str, cell: &Cell<'_>) -> String {
    let written = match cell {
        Cell::Text(text) if !text.trim().is_empty() => text.trim(),
        Cell::Number(_) => "NaN",
        _ => "empty",
    };
    format!("`{name}` is {written}; --set data.missing=drop leaves such rows out and counts them")
}

/// Open, high, low, close and volume of a bar whose prices are possible; true where its high or low was widened to a
/// price that lies outside by a rounding.
///
/// # Errors
/// What is wrong with them.
fn sound([open, high, low, close, volume]: [f64; 5]) -> std::result::Result<([f64; 5], bool), String> {
    for (name, value) in [("open", open), ("high", high), ("low", low), ("close", close), ("volume", volume)]
    {
        if !value.is_finite() {
            return Err(format!("`{name}` is {value}: remove the row, or fetch its numbers again"));
        }
        if value > LARGEST {
            return Err(format!("`{name}` is {value:e}, which no market has: remove or mend the row"));
        }
    }
    for (name, price) in [("open", open), ("high", high), ("low", low), ("close", close)] {
        if price <= 0.0 {
            return Err(format!("`{name}` is {price}, and prices must be above 0: remove or mend the row"));
        }
        if price < SMALLEST_PRICE {
            return Err(format!("`{name}` is {price:e}, which no market has: remove or mend the row"));
        }
    }
    if volume < 0.0 {
        return Err(format!("`volume` is {volume}, and volume cannot be negative: remove or mend the row"));
    }
    let is_above = |a: f64, b: f64| a - b > EQUAL_FRACTION * a.max(b);
    if is_above(low, high) {
        return Err(format!(
            "`high` {high} is below `low` {low}: mend the row; are the columns named right?"
        ));
    }
    for (name, price) in [("open", open), ("close", close)] {
        if is_above(low, price) || is_above(price, high) {
            return Err(format!(
                "`{name}` {price} is outside [`low` {low}, `high` {high}]: mend the row; are the columns named right?"
            ));
        }
    }
    let (highest, lowest) = (high.max(open).max(close).max(low), low.min(open).min(close).min(high));
    Ok(([open, highest, lowest, close, volume], highest != high || lowest != low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_outside_by_its_last_place_is_inside_and_widens_the_bar() {
        let noisy = [101.1, 101.59750208999999, 101.0, 101.59750209, 5.0];
        assert_eq!(sound(noisy), Ok(([101.1, 101.59750209, 101.0, 101.59750209, 5.0], true)));
        assert_eq!(sound([10.0, 12.0, 9.0, 11.0, 5.0]), Ok(([10.0, 12.0, 9.0, 11.0, 5.0], false)));
        assert!(sound([10.0, 12.0, 9.0, 12.00001, 5.0]).is_err());
        assert!(sound([10.0, 9.0, 9.5, 9.2, 5.0]).is_err());
    }

    #[test]
    fn numbers_that_no_market_has_are_refused() {
        for huge in [1e61, f64::MAX] {
            let problem = sound([10.0, huge, 9.0, 11.0, 5.0]).unwrap_err();
            assert!(problem.contains("`high` is") && problem.contains("no market"), "{problem}");
            assert!(problem.len() < 80, "its digits are not spelled out: {problem}");
            assert!(sound([10.0, 12.0, 9.0, 11.0, huge]).is_err());
        }
        assert!(sound([1e-61; 5]).is_err());
        assert!(sound([1e20; 5]).is_ok());
    }
}
