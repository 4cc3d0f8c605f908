//! The cells of a row as its file has them, before numbers and stamps are read from them.

use crate::market::import::spelling::Moment;

/// Number of things that a row can say.
pub(super) const N_SLOTS: usize = 9;
/// The stamp, or its date where date and time stand in two columns.
pub(super) const TIME: usize = 0;
/// The time of day, where it stands in a column of its own.
pub(super) const TIME_OF_DAY: usize = 1;
/// The first of four prices: open, high, low, close.
pub(super) const OPEN: usize = 2;
/// The traded volume.
pub(super) const VOLUME: usize = 6;
/// The number of ticks, which stands in for a volume that is 0 in every row.
pub(super) const TICK_VOLUME: usize = 7;
/// The name of the instrument.
pub(super) const SYMBOL: usize = 8;

/// One cell.
#[derive(Debug, Clone, Default)]
pub(super) enum Cell<'a> {
    /// Nothing: null, or no such column.
    #[default]
    Missing,
    /// Text, which may spell a number or a stamp.
    Text(&'a str),
    /// A number that the file types.
    Number(f64),
    /// A moment that the file types.
    Moment(Moment),
}

/// The cells of a row, each in its slot.
pub(super) type Row<'a> = [Cell<'a>; N_SLOTS];

/// Receives the rows of a file: the index of the group of columns, the line (CSV) or row, counted from 1, and the cells,
/// or what is wrong with the row.
pub(super) type Visit<'v> = dyn FnMut(usize, u64, Result<&Row<'_>, String>) -> crate::error::Result<()> + 'v;
