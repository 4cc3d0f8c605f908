//! The first of two passes over a file: what all its rows agree on, before any is taken.
//!
//! It counts the rows of each instrument, so that the second pass reserves exactly the bytes that it needs; it finds how
//! numbers and stamps are written; and it finds what the volumes are. The texts of the stamps are the only thing that it
//! keeps of every row.

use std::collections::HashMap;

use memsys::ledger::Owner;
use memsys::ledger::reservation::Reservation;

use crate::error::Result;
use crate::interrupt;

use crate::market::import::bar_table::BarTable;
use crate::market::import::cell::{Cell, OPEN, Row, SYMBOL, TICK_VOLUME, TIME, TIME_OF_DAY, VOLUME};
use crate::market::import::columns::Columns;
use crate::market::import::lines::Lines;
use crate::market::import::numbers::{NumberFormat, NumberSurvey, is_missing};
use crate::market::import::source::{file_error, line_error};
use crate::market::import::source_options::Source;
use crate::market::import::stamps::Stamps;

/// The owner of what is loaded.
pub(super) fn loading() -> Reservation {
    Reservation::of_heap(Owner::named("run/loading"))
}

/// Where the volume of each row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VolumeFrom {
    /// In the slot of the volume.
    Volume,
    /// In the slot of the ticks.
    Ticks,
    /// Nowhere: every bar's volume is 0.
    Nowhere,
}

/// What all rows of a file agree on.
pub(super) struct Survey {
    /// The symbols in the order in which they first occur, each with the number of its rows.
    pub(super) symbols: Vec<(Option<String>, usize)>,
    /// Where each symbol stands in `symbols`.
    pub(super) index: HashMap<String, usize>,
    /// Reads the stamps.
    pub(super) stamps: Stamps,
    /// Reads the numbers.
    pub(super) numbers: NumberFormat,
    /// Where the volume is.
    pub(super) volume: VolumeFrom,
    /// What was found, for the user to read.
    pub(super) notes: Vec<String>,
}

/// Reads a file once.
///
/// # Errors
/// What its rows do not agree on, or [`crate::error::Error::Memory`] where the memory limit has no room.
pub(super) fn survey(source: &Source, table: &BarTable) -> Result<Survey> {
    let path = &source.path;
    let mut gathered = Gathered::new(table);
    let repeated = table.rows(&table.groups, &mut |group, line, row| {
        interrupt::check()?;
        if let Ok(row) = row {
            gathered.observe(&table.groups[group], group, line, row)?;
        }
        Ok(())
    })?;
    let mut notes = Vec::new();
    if let Some(first) = repeated.first() {
        notes.push(match repeated.len() {
            1 => format!("line {first} is a second header: not read"),
            n => format!("{n} lines are headers again, the first is line {first}: not read"),
        });
    }
    let Gathered { texts, lines, numbers, volumes, symbols, index, .. } = gathered;
    let told = Source { options: table.options.clone(), ..source.clone() };
    let mut stamps = Stamps::new(&told.options)?;
    if texts.n_texts > 0 {
        stamps
            .survey(&told, texts.iter())
            .map_err(|fault| line_error(path, lines.of(fault.index), fault.problem))?;
    }
    let (numbers, note) = numbers.decide(&told).map_err(|(line, problem)| line_error(path, line, problem))?;
    notes.extend(note);
    let (volume, note) = volume_from(&table.groups[0], &volumes);
    notes.extend(note);
    if symbols.is_empty() {
        return Err(file_error(path, "holds a header and no bars"));
    }
    Ok(Survey { symbols, index, stamps, numbers, volume, notes })
}

/// The text of a row's stamp, if it is text: date and time of the day joined where they stand apart.
pub(super) fn stamp_text<'a>(row: &Row<'a>, joined: &'a mut String) -> Option<&'a str> {
    match (&row[TIME], &row[TIME_OF_DAY]) {
        (Cell::Text(date), Cell::Text(time)) => {
            joined.clear();
            joined.push_str(date.trim());
            joined.push(' ');
            joined.push_str(time.trim());
            Some(joined)
        }
        (Cell::Text(text), _) => Some(text),
        _ => None,
    }
}

/// The symbol that a row names.
pub(super) fn symbol_of<'a>(row: &Row<'a>) -> Option<&'a str> {
    match row[SYMBOL] {
        Cell::Text(symbol) => Some(symbol.trim()).filter(|symbol| !symbol.is_empty()),
        _ => None,
    }
}

/// What is gathered of the rows.
struct Gathered {
    texts: Texts,
    joined: String,
    lines: Lines,
    numbers: NumberSurvey,
    volumes: [Volumes; 2],
    symbols: Vec<(Option<String>, usize)>,
    index: HashMap<String, usize>,
}

impl Gathered {
    fn new(table: &BarTable) -> Self {
        let symbols: Vec<(Option<String>, usize)> =
            table.groups.iter().filter_map(|columns| Some((Some(columns.symbol.clone()?), 0))).collect();
        Self {
            texts: Texts::new(),
            joined: String::new(),
            lines: Lines::default(),
            numbers: NumberSurvey::default(),
            volumes: [Volumes::default(), Volumes::default()],
            symbols,
            index: HashMap::new(),
        }
    }

    fn observe(&mut self, columns: &Columns, group: usize, line: u64, row: &Row<'_>) -> Result<()> {
        if group == 0
            && let Some(text) = stamp_text(row, &mut self.joined)
        {
            self.texts.push(text)?;
            self.lines.push(line);
        }
        for cell in &row[OPEN..=TICK_VOLUME] {
            if let Cell::Text(text) = cell {
                self.numbers.observe(line, text);
            }
        }
        for (volumes, slot) in self.volumes.iter_mut().zip([VOLUME, TICK_VOLUME]) {
            if columns.indices[slot].is_some() {
                volumes.observe(&row[slot]);
            }
        }
        let at = match symbol_of(row) {
            _ if columns.symbol.is_some() => group,
            Some(symbol) => match self.index.get(symbol) {
                Some(at) => *at,
                None => {
                    self.index.insert(symbol.to_owned(), self.symbols.len());
                    self.add(Some(symbol.to_owned()))
                }
            },
            None => {
                let nameless = self.symbols.iter().position(|(symbol, _)| symbol.is_none());
                nameless.unwrap_or_else(|| self.add(None))
            }
        };
        self.symbols[at].1 += 1;
        Ok(())
    }

    fn add(&mut self, symbol: Option<String>) -> usize {
        self.symbols.push((symbol, 0));
        self.symbols.len() - 1
    }
}

/// What the volumes of a column are.
#[derive(Debug, Default)]
struct Volumes {
    n_rows: u64,
    n_missing: u64,
    n_zero: u64,
    n_minus_one: u64,
}

impl Volumes {
    fn observe(&mut self, cell: &Cell<'_>) {
        self.n_rows += 1;
        let value = match cell {
            Cell::Number(value) => Some(*value),
            Cell::Text(text) if !is_missing(text.trim()) => match text.trim().as_bytes() {
                // Of numbers written with a comma before the decimals only these are of interest.
                [b'0', rest @ ..] if rest.iter().all(|byte| matches!(byte, b'0' | b'.' | b',')) => Some(0.0),
                [b'-', b'1', rest @ ..] if rest.iter().all(|byte| matches!(byte, b'0' | b'.' | b',')) => {
                    Some(-1.0)
                }
                _ => Some(1.0),
            },
            _ => None,
        };
        match value {
            Some(0.0) => self.n_zero += 1,
            Some(-1.0) => self.n_minus_one += 1,
            Some(value) if !value.is_nan() => {}
            _ => self.n_missing += 1,
        }
    }
}

/// Where the volume is, and what the user should know of it.
fn volume_from(columns: &Columns, [volumes, ticks]: &[Volumes; 2]) -> (VolumeFrom, Option<String>) {
    let (n, name) = (volumes.n_rows, columns.name(VOLUME));
    let nowhere = |why: String| (VolumeFrom::Nowhere, Some(format!("{why}: taken as bars without volume")));
    if columns.indices[VOLUME].is_none() {
        return nowhere("there is no column of volume".to_owned());
    }
    if volumes.n_zero == n && columns.indices[TICK_VOLUME].is_some() && ticks.n_zero < n {
        let ticks = columns.name(TICK_VOLUME);
        return (
            VolumeFrom::Ticks,
            Some(format!("`{name}` is 0 in every row: `{ticks}`, the number of ticks, taken as the volume")),
        );
    }
    if volumes.n_minus_one == n {
        return nowhere(format!("`{name}` is -1 in every row"));
    }
    if volumes.n_missing == n {
        return nowhere(format!("`{name}` is empty in every row"));
    }
    (VolumeFrom::Volume, None)
}

/// The texts of the stamps, in blocks, so that no text moves when more come.
struct Texts {
    blocks: Vec<String>,
    n_texts: usize,
    reservation: Reservation,
}

impl Texts {
    const BLOCK_BYTES: usize = 1 << 20;

    fn new() -> Texts {
        Texts { blocks: Vec::new(), n_texts: 0, reservation: loading() }
    }

    fn push(&mut self, text: &str) -> Result<()> {
        let text = text.trim();
        let fits = self.blocks.last().is_some_and(|block| block.capacity() - block.len() > text.len());
        if !fits {
            let bytes = Self::BLOCK_BYTES.max(text.len() + 1);
            self.reservation.try_set(self.reservation.bytes() + bytes as u64)?;
            self.blocks.push(String::with_capacity(bytes));
            self.reservation.set(self.reservation.bytes());
        }
        if let Some(block) = self.blocks.last_mut() {
            // No stamp holds a line feed: a text that does is cut, and refused as a stamp.
            block.push_str(text.split('\n').next().unwrap_or_default());
            block.push('\n');
        }
        self.n_texts += 1;
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.blocks.iter().flat_map(|block| block.split_terminator('\n'))
    }
}
