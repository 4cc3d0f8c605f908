//! What the user wrote: uninterpreted values with the place where each was written.
//!
//! This module knows TOML and the form `--set section.key=value`. It does not know keys, types or ranges.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::error::{Error, Result};

/// Everything that was written, in order: later entries override earlier ones.
#[derive(Debug, Default)]
pub(super) struct RawConfig {
    /// The headings of a file, including those without keys.
    pub(super) headings: Vec<(String, Origin)>,
    /// The keys with their values.
    pub(super) entries: Vec<Entry>,
}

/// One key and its written value.
#[derive(Debug)]
pub(super) struct Entry {
    /// The heading above the key. Empty if the key is above the first heading.
    pub(super) section: String,
    /// The key within its section.
    pub(super) key: String,
    /// Its value.
    pub(super) written: Written,
    /// The place where it was written.
    pub(super) origin: Origin,
}

/// The place where something was written, for error messages.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
    },
    /// On the command line.
    CommandLine,
}

/// A value as it was written.
#[derive(Debug)]
pub(super) struct Written {
    /// The written characters, which errors quote.
    pub(super) text: String,
    /// The parsed value.
    pub(super) value: toml::Value,
    /// Whether it was written on the command line, where text needs no quotes: a number or a date can be
    /// meant as text, a list or a quoted text cannot.
    pub(super) is_loose: bool,
}

impl Origin {
    /// The error about `key`, with the place where it was written.
    pub(super) fn error(&self, key: &str, problem: &str) -> Error {
        match self {
            Self::File { path, line } => {
                Error::Line { path: path.clone(), line: *line, problem: format!("{key}: {problem}") }
            }
            Self::CommandLine => Error::Config { key: key.to_owned(), problem: problem.to_owned() },
        }
    }
}

impl RawConfig {
    /// Reads `text` as TOML. Errors name `path` and the line.
    pub(super) fn from_toml(text: &str, path: &Path) -> Result<Self> {
        let origin = |offset: usize| Origin::File { path: path.to_owned(), line: line_of(text, offset) };
        let table = DeTable::parse(text).map_err(|fault| Error::Line {
            path: path.to_owned(),
            line: line_of(text, fault.span().map_or(0, |span| span.start)),
            problem: format!("not TOML: {}", fault.message()),
        })?;
        let mut headings = Vec::new();
        let mut entries = Vec::new();
        for (name, value) in table.get_ref() {
            let section = name.get_ref().to_string();
            match value.get_ref() {
                DeValue::Table(keys) => {
                    headings.push((name.span().start, section.clone()));
                    for (key, value) in keys {
                        entries.push((key.span().start, section.clone(), key.get_ref().to_string(), value));
                    }
                }
                _ => entries.push((name.span().start, String::new(), section, value)),
            }
        }
        // The parser sorts by name, but of several errors the first in the file is reported.
        headings.sort();
        entries.sort_by_key(|&(offset, ..)| offset);
        let headings = headings.into_iter().map(|(offset, name)| (name, origin(offset))).collect();
        let entry = |(offset, section, key, value): (usize, String, String, &Spanned<DeValue<'_>>)| {
            let origin = origin(offset);
            let written = Written::new(text, value)
                .map_err(|problem| origin.error(&format!("{section}.{key}"), &problem))?;
            Ok(Entry { section, key, written, origin })
        };
        let entries = entries.into_iter().map(entry).collect::<Result<_>>()?;
        Ok(Self { headings, entries })
    }

    /// Adds one `section.key=value` of the command line after all other entries. A value that is not TOML is text.
    pub(super) fn push_set(&mut self, set: &str) -> Result<()> {
        let fault = |key: &str, problem: &str| Error::Config {
            key: key.trim().to_owned(),
            problem: problem.to_owned(),
        };
        let Some((name, value)) = set.split_once('=') else {
            return Err(fault(set, "has no `=`: write section.key=value, such as run.seed=7"));
        };
        let mut parts = name.split('.').map(str::trim);
        let (Some(section), Some(key), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(fault(
                name,
                "is not section.key: write a section, a point and a key, such as run.seed=7",
            ));
        };
        let written = Written::from_command_line(value.trim()).map_err(|problem| fault(name, &problem))?;
        let (section, key) = (section.to_owned(), key.to_owned());
        self.entries.push(Entry { section, key, written, origin: Origin::CommandLine });
        Ok(())
    }

    /// The last entry for `section.key`, which is the one that counts.
    pub(super) fn last(&self, section: &str, key: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.section == section && entry.key == key)
    }
}

impl Written {
    fn new(source: &str, value: &Spanned<DeValue<'_>>) -> std::result::Result<Self, String> {
        // A list or a string over several lines is quoted in one line.
        let words: Vec<&str> = source.get(value.span()).unwrap_or_default().split_whitespace().collect();
        let text = words.join(" ");
        let owned = toml::Value::deserialize(ValueDeserializer::from(value.clone()));
        let value = owned.map_err(|_| match value.get_ref() {
            DeValue::Integer(_) => format!("{text} is beyond TOML's largest integer, {}", i64::MAX),
            _ => format!("{text} is not a value that a key takes"),
        })?;
        Ok(Self { text, value, is_loose: false })
    }

    fn from_command_line(text: &str) -> std::result::Result<Self, String> {
        let is_plainly_toml = text.starts_with(['[', '{', '"', '\'']);
        match DeValue::parse(text) {
            Ok(value) => {
                Ok(Self { text: text.to_owned(), is_loose: !is_plainly_toml, ..Self::new(text, &value)? })
            }
            Err(fault) if is_plainly_toml => Err(format!(
                "`{text}` is not a TOML value ({}): text in a list stands in quotes, such as [\"a.csv\", \"b.csv\"]",
                fault.message()
            )),
            Err(_) => {
                let shown = if text.is_empty() { "\"\"" } else { text };
                let value = toml::Value::String(text.to_owned());
                Ok(Self { text: shown.to_owned(), value, is_loose: true })
            }
        }
    }
}

/// The line, counted from 1, in which byte `offset` of `text` lies.
fn line_of(text: &str, offset: usize) -> u64 {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + before.iter().filter(|&&byte| byte == b'\n').count() as u64
}
