//! A file as a table of bars: its format, its names, the vendor that it is of, and the columns that are read.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Result;

use crate::market::import::cell::Visit;
use crate::market::import::columns::Columns;
use crate::market::import::csv::TextFile;
use crate::market::import::dialect::{Dialect, Header};
use crate::market::import::feather::FeatherFile;
use crate::market::import::json_rows::JsonFile;
use crate::market::import::missing_header::missing_header;
use crate::market::import::parquet::ParquetFile;
use crate::market::import::presets::{Vendor, vendor};
use crate::market::import::source::file_error;
use crate::market::import::source_options::{Source, SourceOptions};
use crate::market::import::unpacked::{Format, format};

/// The rows of a file, in its format.
#[derive(Debug)]
enum Rows {
    Text(TextFile),
    Json(JsonFile),
    Parquet(ParquetFile),
    Feather(FeatherFile),
}

/// A file as a table of bars.
#[derive(Debug)]
pub(super) struct BarTable {
    rows: Rows,
    names: Vec<String>,
    /// The columns of each instrument; one where the instruments, if there are several, have a column of symbols.
    pub(super) groups: Vec<Columns>,
    /// The options of the user over those of the preset.
    pub(super) options: SourceOptions,
    /// What was found so far, for the user to read.
    pub(super) notes: Vec<String>,
}

impl BarTable {
    /// Looks at the beginning of a file.
    ///
    /// # Errors
    /// Where it is no table of bars, and what to do.
    pub(super) fn open(source: &Source) -> Result<BarTable> {
        let Source { path, options } = source;
        let refuse = |problem: String| file_error(path, problem);
        let told_names = !options.header.is_empty();
        let plain = |names: Vec<String>| (Header::Names(names), Vec::new(), Vec::new());
        let (rows, (header, head, mut notes)) = match format(path)? {
            Format::Text => {
                let file = TextFile::open(path, options.skip_rows, told_names)?;
                let Dialect { header, rows, notes, .. } = file.dialect().clone();
                (Rows::Text(file), (header, rows, notes))
            }
            Format::Json => {
                let file = JsonFile::open(path)?;
                let (header, head) = (file.header.clone(), file.head.clone());
                (Rows::Json(file), (header, head, Vec::new()))
            }
            Format::Parquet => {
                let file = ParquetFile::open(path)?;
                let names = file.names();
                (Rows::Parquet(file), plain(names))
            }
            Format::Feather => {
                let file = FeatherFile::open(path)?;
                let names = file.names();
                (Rows::Feather(file), plain(names))
            }
        };
        let vendor = vendor(options.preset.as_deref(), &header, &head).map_err(refuse)?;
        let of_preset = vendor.preset.map_or_else(SourceOptions::default, |preset| preset.options.clone());
        let options = options.clone().over(&of_preset);
        notes.extend(vendor_notes(&vendor));
        let (names, groups) = name_columns(source, &options, &header, &head, &vendor)?;
        let as_text = match &rows {
            Rows::Parquet(file) => file.text_numbers(&groups[0]),
            Rows::Feather(file) => file.text_numbers(&groups[0]),
            Rows::Text(_) | Rows::Json(_) => Vec::new(),
        };
        if !as_text.is_empty() {
            notes.push(format!("numbers that are text in the file: {}", as_text.join(", ")));
        }
        Ok(BarTable { rows, names, groups, options, notes })
    }

    /// Gives every row to `visit`; returns the lines that repeat the header.
    ///
    /// # Errors
    /// Those of `visit`, and of a file that cannot be read to its end.
    pub(super) fn rows(&self, groups: &[Columns], visit: &mut Visit<'_>) -> Result<Vec<u64>> {
        match &self.rows {
            Rows::Text(file) => return file.rows(groups, self.names.len(), visit),
            Rows::Json(file) => file.rows(&groups[0], &self.names, visit)?,
            Rows::Parquet(file) => file.rows(&groups[0], visit)?,
            Rows::Feather(file) => file.rows(&groups[0], visit)?,
        }
        Ok(Vec::new())
    }
}

fn vendor_notes(vendor: &Vendor) -> Vec<String> {
    let Some(preset) = vendor.preset else { return Vec::new() };
    let how = if vendor.is_told { "read as told" } else { "recognised" };
    let mut notes = vec![format!("{how}: {}, {} (as={})", preset.name, preset.about, preset.name)];
    notes.extend(preset.say.clone());
    notes
}

/// The names of all columns, and the columns of each instrument.
fn name_columns(
    source: &Source,
    options: &SourceOptions,
    header: &Header,
    head: &[Vec<String>],
    vendor: &Vendor,
) -> Result<(Vec<String>, Vec<Columns>)> {
    let path: &Path = &source.path;
    let refuse = |problem: String| file_error(path, problem);
    let first_row = head.first().map_or(&[][..], Vec::as_slice);
    let find = |names: &[String]| Columns::find(names, &told_columns(source, options, names), first_row);
    if !source.options.header.is_empty() {
        let names = source.options.header.clone();
        let n_fields = head.first().map_or(names.len(), Vec::len);
        if names.len() != n_fields {
            return Err(refuse(format!(
                "header= tells {} names, and the first row has {n_fields} columns: tell a name for each",
                names.len()
            )));
        }
        let columns = find(&names).map_err(refuse)?;
        return Ok((names, vec![columns]));
    }
    match header {
        Header::Names(names) if names.is_empty() => {
            Err(refuse("the file is empty: expected a header and bars".to_owned()))
        }
        Header::Names(names) => {
            let columns = find(names).map_err(refuse)?;
            Ok((names.clone(), vec![columns]))
        }
        Header::Absent(_) => {
            let Some(names) = vendor.header else {
                return Err(refuse(missing_header(source, &vendor.suggested, head)));
            };
            let columns = find(names).map_err(refuse)?;
            Ok((names.to_vec(), vec![columns]))
        }
        Header::Levels { names, symbols } => {
            let mut of_symbols: Vec<&String> = Vec::new();
            for symbol in symbols.iter().filter(|symbol| !symbol.is_empty()) {
                if !of_symbols.contains(&symbol) {
                    of_symbols.push(symbol);
                }
            }
            let groups = of_symbols.into_iter().map(|symbol| {
                let of_symbol = |(name, of): (&String, &String)| {
                    if of.is_empty() || of == symbol { name.clone() } else { String::new() }
                };
                let own: Vec<String> = names.iter().zip(symbols).map(of_symbol).collect();
                find(&own).map(|columns| columns.of_symbol(symbol))
            });
            let groups = groups.collect::<std::result::Result<Vec<_>, _>>().map_err(refuse)?;
            if groups.is_empty() {
                let problem = "the line of its header that names instruments is empty: is it a file of bars? A first line \
                               such as timestamp,open,high,low,close,volume says what its columns are";
                return Err(refuse(problem.to_owned()));
            }
            Ok((names.clone(), groups))
        }
    }
}

/// The told names of columns. Those of a preset count only where the file has such columns: `as` may be told of a file
/// whose header is another.
fn told_columns(source: &Source, options: &SourceOptions, names: &[String]) -> BTreeMap<String, String> {
    let mut columns = options.columns.clone();
    columns.retain(|ours, theirs| source.options.columns.contains_key(ours) || names.contains(theirs));
    columns
}
