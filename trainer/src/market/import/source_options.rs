//! How one file of bars is spelled, as the user tells it.
//!
//! Every option may be left out. A file's own options come first, then those of `[data]`, then those of a preset; what
//! is still open is taken from what all rows of the file agree on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Which moment of a bar its stamp names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// The first moment of the bar.
    #[default]
    Start,
    /// The first moment after the bar.
    End,
}

/// The mark before the fraction of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decimal {
    /// `1234.5`; commas, spaces and apostrophes between groups of three digits are skipped.
    #[serde(alias = ".")]
    Point,
    /// `1234,5`; points, spaces and apostrophes between groups of three digits are skipped.
    #[serde(alias = ",")]
    Comma,
}

/// What becomes of a row whose prices are NaN, null or empty, as some vendors write a minute without a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// The file is refused.
    #[default]
    Refuse,
    /// The row is left out and counted: its minute becomes a gap.
    Drop,
}

/// How one file of bars is spelled, beyond what all its rows agree on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceOptions {
    /// The name of a preset, such as `binance`. None: the one that the head of the file fits, if exactly one does.
    #[serde(rename = "as", alias = "preset", skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Which moment of a bar its stamp names. None: the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// IANA name of the zone that stamps without an offset are in, such as `America/New_York`. None: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Spelling of the stamps in `strptime` directives, such as `%d/%m/%Y %H:%M`; where a file mixes several
    /// spellings they are separated by `|`. None: ISO 8601 or a count since 1970, whichever the first row is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_format: Option<String>,
    /// The file's own names of columns, under ours: `timestamp`, `date`, `time`, `open`, `high`, `low`, `close`,
    /// `volume`, `symbol`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// The names of the columns of a file that has no header. Empty: the first line holds them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<String>,
    /// Lines above the header that are not read. None: those that are recognised as no part of the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_rows: Option<u64>,
    /// The mark before the fraction of a number. None: the one that every row agrees on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal: Option<Decimal>,
    /// What becomes of rows without prices. None: the file is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

impl SourceOptions {
    /// These options, and those of `defaults` where these are open.
    #[must_use]
    pub fn over(self, defaults: &SourceOptions) -> SourceOptions {
        let or_empty =
            |mine: Vec<String>, theirs: &Vec<String>| if mine.is_empty() { theirs.clone() } else { mine };
        let mut columns = defaults.columns.clone();
        columns.extend(self.columns);
        SourceOptions {
            preset: self.preset.or_else(|| defaults.preset.clone()),
            label: self.label.or(defaults.label),
            zone: self.zone.or_else(|| defaults.zone.clone()),
            time_format: self.time_format.or_else(|| defaults.time_format.clone()),
            columns,
            header: or_empty(self.header, &defaults.header),
            skip_rows: self.skip_rows.or(defaults.skip_rows),
            decimal: self.decimal.or(defaults.decimal),
            missing: self.missing.or(defaults.missing),
        }
    }
}

/// One file of bars and how it is spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// How it is spelled.
    pub options: SourceOptions,
}

/// The keys that may follow a file's name after `?`.
const KEYS: [&str; 10] =
    ["as", "preset", "label", "zone", "time_format", "columns", "header", "skip_rows", "decimal", "missing"];

impl Source {
    /// Reads `FILE?key=value&key=value`. Values are taken as they stand, without percent-encoding, since formats of
    /// time hold percent signs. `columns` is written `volume:Volume BTC,close:Last`, `header` as `a,b,c`. Where a file
    /// of the whole name exists, a `?` is part of the name.
    ///
    /// # Errors
    /// What is wrong with an option, in words for the user.
    pub fn from_text(text: &Path) -> Result<Source, String> {
        let whole = || Source { path: text.to_path_buf(), options: SourceOptions::default() };
        let Some(spelled) = text.to_str().filter(|spelled| spelled.contains('?') && !text.exists()) else {
            return Ok(whole());
        };
        let cuts: Vec<usize> = spelled.match_indices('?').map(|(at, _)| at).collect();
        let existing = cuts.iter().rev().find(|at| Path::new(&spelled[..**at]).exists());
        let at = existing.or(cuts.first()).copied().unwrap_or(spelled.len());
        let options = options_from_text(&spelled[at + 1..])?;
        Ok(Source { path: PathBuf::from(&spelled[..at]), options })
    }

    /// The source as an argument for a shell: `--data 'FILE?key=value'`.
    #[must_use]
    pub fn to_argument(&self) -> String {
        let text = self.to_text().to_string_lossy().replace('\'', r"'\''");
        format!("--data '{text}'")
    }

    /// The source as it is written on the command line: [`Source::from_text`] reads it back.
    #[must_use]
    pub fn to_text(&self) -> PathBuf {
        let SourceOptions { preset, label, zone, time_format, columns, header, skip_rows, decimal, missing } =
            &self.options;
        let mut parts: Vec<String> = Vec::new();
        let mut part =
            |key: &str, value: Option<String>| parts.extend(value.map(|value| format!("{key}={value}")));
        part("as", preset.clone());
        part("label", label.map(|label| if label == Label::Start { "start" } else { "end" }.to_owned()));
        part("zone", zone.clone());
        part("time_format", time_format.clone());
        let columns: Vec<String> = columns.iter().map(|(ours, theirs)| format!("{ours}:{theirs}")).collect();
        part("columns", (!columns.is_empty()).then(|| columns.join(",")));
        part("header", (!header.is_empty()).then(|| header.join(",")));
        part("skip_rows", skip_rows.map(|n| n.to_string()));
        part(
            "decimal",
            decimal.map(|mark| if mark == Decimal::Point { "point" } else { "comma" }.to_owned()),
        );
        part(
            "missing",
            missing.map(|mode| if mode == Missing::Refuse { "refuse" } else { "drop" }.to_owned()),
        );
        if parts.is_empty() {
            return self.path.clone();
        }
        let mut text = self.path.clone().into_os_string();
        text.push(format!("?{}", parts.join("&")));
        PathBuf::from(text)
    }
}

fn options_from_text(text: &str) -> Result<SourceOptions, String> {
    let mut table = toml::Table::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("after `?`, `{pair}` has no `=`: write key=value, such as label=end"))?;
        if !KEYS.contains(&key) {
            return Err(format!("after `?`, `{key}` is no option; the options are {}", KEYS.join(", ")));
        }
        let value = match key {
            "header" => value.split(',').map(str::trim).collect::<Vec<_>>().into(),
            "columns" => toml::Value::Table(
                value
                    .split(',')
                    .map(|pair| pair.split_once(':').map(|(ours, theirs)| (ours.trim().to_owned(), theirs.into())))
                    .collect::<Option<toml::Table>>()
                    .ok_or_else(|| {
                        format!("after `?`, columns={value} is not ours:theirs: write columns=close:Last,volume:Lots")
                    })?,
            ),
            "skip_rows" => value.parse::<i64>().map_or_else(|_| toml::Value::from(value), toml::Value::from),
            _ => toml::Value::from(value),
        };
        if table.insert(key.to_owned(), value).is_some() {
            return Err(format!("after `?`, `{key}` is given twice"));
        }
    }
    table.try_into().map_err(|error: toml::de::Error| format!("after `?`: {}", error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Source, String> {
        Source::from_text(Path::new(text))
    }

    #[test]
    fn options_after_a_files_name_are_read_and_written_back() {
        let text = "bars.csv?as=binance&label=end&zone=Etc/GMT+5&time_format=%d/%m/%Y %H:%M&columns=close:Last,volume:A \
                    b&header=t,o,h&skip_rows=2&decimal=comma&missing=drop";
        let source = read(text).unwrap();
        assert_eq!(source.path, Path::new("bars.csv"));
        let options = &source.options;
        assert_eq!(options.preset.as_deref(), Some("binance"));
        assert_eq!((options.label, options.skip_rows), (Some(Label::End), Some(2)));
        assert_eq!((options.decimal, options.missing), (Some(Decimal::Comma), Some(Missing::Drop)));
        assert_eq!(options.zone.as_deref(), Some("Etc/GMT+5"));
        assert_eq!(options.time_format.as_deref(), Some("%d/%m/%Y %H:%M"));
        assert_eq!(options.columns["volume"], "A b");
        assert_eq!(options.header, ["t", "o", "h"]);
        assert_eq!(source.to_text(), Path::new(text));
        assert_eq!(read("plain.csv").unwrap().to_text(), Path::new("plain.csv"));
    }

    #[test]
    fn a_question_mark_in_the_name_of_a_file_that_exists_is_part_of_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("odd?label=end");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(Source::from_text(&odd).unwrap().path, odd);
        let mut spelled = odd.clone().into_os_string();
        spelled.push("?zone=UTC");
        let source = Source::from_text(Path::new(&spelled)).unwrap();
        assert_eq!((source.path, source.options.zone.as_deref()), (odd, Some("UTC")));
    }

    #[test]
    fn options_that_cannot_be_understood_are_refused() {
        for (text, said) in [
            ("a.csv?labl=end", "`labl` is no option; the options are as,"),
            ("a.csv?label", "has no `=`"),
            ("a.csv?label=middle", "`middle`"),
            ("a.csv?skip_rows=two", "invalid type"),
            ("a.csv?columns=close", "ours:theirs"),
            ("a.csv?zone=UTC&zone=UTC", "given twice"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_files_own_options_come_before_the_defaults() {
        let mine = SourceOptions { label: Some(Label::End), ..SourceOptions::default() };
        let defaults = SourceOptions {
            label: Some(Label::Start),
            zone: Some("UTC".to_owned()),
            ..SourceOptions::default()
        };
        let both = mine.over(&defaults);
        assert_eq!((both.label, both.zone.as_deref()), (Some(Label::End), Some("UTC")));
    }
}
