//! The spellings of vendors, as a table: `presets.toml`, which says what its keys mean.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::market::import::dialect::{Header, shape};
use crate::market::import::source_options::SourceOptions;

/// One spelling of one vendor.
#[derive(Debug, Deserialize)]
#[serde(try_from = "toml::Table")]
pub(super) struct Preset {
    /// What the user writes.
    pub(super) name: String,
    /// The files that it reads, in words for the user.
    pub(super) about: String,
    /// What the user should know.
    pub(super) say: Option<String>,
    /// How such files are spelled.
    pub(super) options: SourceOptions,
    heads: Vec<Vec<String>>,
    headers: Vec<Vec<String>>,
    shapes: Vec<Vec<String>>,
    guess: bool,
    levels: bool,
}

impl TryFrom<toml::Table> for Preset {
    type Error = toml::de::Error;

    fn try_from(mut table: toml::Table) -> Result<Self, toml::de::Error> {
        /// The keys that describe the files; the others are options.
        #[derive(Deserialize)]
        struct Description {
            name: String,
            about: String,
            say: Option<String>,
            #[serde(default)]
            heads: Vec<Vec<String>>,
            #[serde(default)]
            headers: Vec<Vec<String>>,
            #[serde(default)]
            shapes: Vec<Vec<String>>,
            #[serde(default)]
            guess: bool,
            #[serde(default)]
            levels: bool,
        }
        let Description { name, about, say, heads, headers, shapes, guess, levels } =
            table.clone().try_into()?;
        for key in ["name", "about", "say", "heads", "headers", "shapes", "guess", "levels"] {
            table.remove(key);
        }
        Ok(Preset { name, about, say, options: table.try_into()?, heads, headers, shapes, guess, levels })
    }
}

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct Presets {
        preset: Vec<Preset>,
    }
    toml::from_str::<Presets>(include_str!("presets.toml")).expect("the table of presets is sound").preset
});

/// What is known of a file's vendor.
#[derive(Debug, Default)]
pub(super) struct Vendor {
    /// The preset to read the file by.
    pub(super) preset: Option<&'static Preset>,
    /// Whether the user named it.
    pub(super) is_told: bool,
    /// The preset's names of the columns, where the file has none.
    pub(super) header: Option<&'static [String]>,
    /// Presets that a file without a header may belong to, with the names that each gives its columns.
    pub(super) suggested: Vec<(&'static Preset, &'static [String])>,
}

/// The names of the presets, each once.
pub(super) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = PRESETS.iter().map(|preset| preset.name.as_str()).collect();
    names.dedup();
    names
}

/// Finds the preset that the user named, or the one that the head of the file fits if presets of no other name do.
///
/// # Errors
/// Where no preset has that name, or it reads files without a header of another number of columns.
pub(super) fn vendor(told: Option<&str>, header: &Header, rows: &[Vec<String>]) -> Result<Vendor, String> {
    let fitting: Vec<&'static Preset> = PRESETS.iter().filter(|preset| preset.fits(header, rows)).collect();
    let Some(told) = told else {
        let sure = || fitting.iter().filter(|preset| preset.guess || !matches!(header, Header::Absent(_)));
        let is_one_vendor = sure().all(|preset| Some(&preset.name) == sure().next().map(|first| &first.name));
        let preset = sure().next().copied().filter(|_| is_one_vendor);
        let suggested =
            fitting.iter().filter_map(|preset| Some((*preset, preset.header_for(header)?))).collect();
        let header = preset.and_then(|preset| preset.header_for(header));
        return Ok(Vendor { preset, is_told: false, header, suggested });
    };
    let named: Vec<&Preset> = PRESETS.iter().filter(|preset| preset.name == told).collect();
    let Some(first) = named.first() else {
        return Err(format!("as={told}: there is no such preset; the presets are {}", names().join(", ")));
    };
    let fitting = named.iter().find(|preset| preset.fits(header, rows));
    let of_width = || named.iter().find(|preset| preset.header_for(header).is_some());
    let preset = fitting.or_else(of_width).unwrap_or(first);
    let names = preset.header_for(header);
    if let (Header::Absent(n_fields), None) = (header, names) {
        let widths: Vec<String> =
            named.iter().flat_map(|preset| &preset.headers).map(|names| names.len().to_string()).collect();
        return Err(match widths.is_empty() {
            true => format!(
                "as={told}: such files have a header, and this one has none; tell its names as header=…"
            ),
            false => format!(
                "as={told}: such files have {} columns where they have no header, and this one has {n_fields}",
                widths.join(" or ")
            ),
        });
    }
    Ok(Vendor { preset: Some(preset), is_told: true, header: names, suggested: Vec::new() })
}

impl Preset {
    /// Whether the head of a file looks like this vendor's.
    fn fits(&self, header: &Header, rows: &[Vec<String>]) -> bool {
        match header {
            Header::Names(names) => self.heads.iter().any(|head| fits_head(head, names)),
            Header::Levels { .. } => self.levels,
            Header::Absent(_) => {
                self.header_for(header).is_some()
                    && self.shapes.iter().any(|shapes| {
                        !rows.is_empty()
                            && rows.iter().all(|row| {
                                shapes.len() <= row.len()
                                    && shapes.iter().zip(row).all(|(known, field)| *known == shape(field))
                            })
                    })
            }
        }
    }

    /// The names of the columns of a file without a header.
    fn header_for(&self, header: &Header) -> Option<&[String]> {
        let Header::Absent(n_fields) = header else { return None };
        self.headers.iter().find(|names| names.len() == *n_fields).map(Vec::as_slice)
    }
}

/// Whether names are those of a head, in which `*` ends a name and `...` the list.
fn fits_head(head: &[String], names: &[String]) -> bool {
    let (head, is_open) = match head {
        [known @ .., last] if last == "..." => (known, true),
        known => (known, false),
    };
    let is_name = |known: &str, name: &str| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => known == name,
    };
    (names.len() == head.len() || is_open && names.len() > head.len())
        && head.iter().zip(names).all(|(known, name)| is_name(known, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    fn recognised(header: &str) -> Option<&'static str> {
        let vendor = vendor(None, &Header::Names(split(header)), &[]).unwrap();
        vendor.preset.map(|preset| preset.name.as_str())
    }

    fn without_header(told: Option<&str>, row: &str) -> Result<Vendor, String> {
        let row = split(row);
        vendor(told, &Header::Absent(row.len()), &[row])
    }

    #[test]
    fn the_table_of_presets_holds_every_vendor() {
        let vendors = "binance,kraken,histdata,metatrader4,metatrader5,dukascopy,stooq,cryptodatadownload,yfinance,\
                       polygon,alpaca,interactive-brokers,tradingview,coinbase,bitstamp,backtrader,freqtrade";
        assert_eq!(names(), vendors.split(',').collect::<Vec<_>>());
        for preset in PRESETS.iter() {
            let heads =
                preset.heads.iter().map(|head| head.iter().filter(|name| *name != "...").cloned().collect());
            for names in heads.chain(preset.headers.iter().cloned()) {
                let names: Vec<String> = names;
                let columns =
                    crate::market::import::columns::Columns::find(&names, &preset.options.columns, &[]);
                // The two volumes of this vendor are told apart by the symbol in the rows.
                let is_told_apart =
                    preset.name == "cryptodatadownload" && names.contains(&"Volume *".to_owned());
                assert!(is_told_apart || columns.is_ok(), "{}: {columns:?}", preset.name);
            }
        }
    }

    #[test]
    fn a_vendor_is_recognised_by_its_head_where_exactly_one_fits() {
        assert_eq!(
            recognised("unix,date,symbol,open,high,low,close,Volume BTC,Volume USD"),
            Some("cryptodatadownload")
        );
        assert_eq!(recognised("time,open,high,low,close,Volume,Volume MA,Plot"), Some("tradingview"));
        assert_eq!(recognised("time,open,high,low,close,volume"), None, "anybody's");
        assert_eq!(recognised("Gmt time,Open,High,Low,Close,Volume"), Some("dukascopy"));
    }

    #[test]
    fn a_file_without_header_is_recognised_or_a_preset_is_suggested() {
        let spot = without_header(None, "1735689600000000,1,1,1,1,1,1,1,1,1,1,0").unwrap();
        assert_eq!(spot.preset.unwrap().name, "binance");
        assert_eq!(spot.header.unwrap().len(), 12);
        let kraken = without_header(None, "1735689600,1,1,1,1,1,7").unwrap();
        assert!(kraken.preset.is_none());
        assert_eq!(kraken.suggested[0].0.name, "kraken");
        assert_eq!(
            without_header(Some("kraken"), "1735689600,1,1,1,1,1,7").unwrap().header.unwrap().len(),
            7
        );
        let error = without_header(Some("kraken"), "1735689600,1,1,1,1,1").unwrap_err();
        assert!(error.contains("7 or 8 columns") && error.contains("this one has 6"), "{error}");
        let error = without_header(Some("karken"), "1,1,1,1,1,1").unwrap_err();
        assert!(error.contains("no such preset; the presets are binance,"), "{error}");
    }
}
