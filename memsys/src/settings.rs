//! Settings that a user can give to a part of a run: a serde struct beside that part, whose field docs are the manual.
//!
//! ```text
//! struct + field docs ──> commented TOML        (the printer of `trainer::config`)
//! Settings::check     ──> ranges in the comments, and in every refusal
//! ```
//!
//! A settings struct is flat, derives `Documented` and `DocumentedFields`, refuses unknown fields, and states its
//! ranges once, in [`Settings::check`]. This module knows no keys: it holds the trait, the collector of ranges, and the
//! few value formats that serde lacks.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};

use documented::{Documented, DocumentedFields};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The settings under one heading of a configuration.
pub trait Settings: Clone + PartialEq + Serialize + DeserializeOwned + Documented + DocumentedFields {
    /// States the range of every number and the conflicts between keys.
    fn check(&self, check: &mut Check);
}

/// One heading of a configuration, independent of the struct behind it.
pub trait Section {
    /// A description of the section.
    fn about(&self) -> &'static str;
    /// The keys in the order of the struct, each with its doc.
    fn keys(&self) -> Vec<(&'static str, &'static str)>;
    /// Every key with its value.
    fn table(&self) -> toml::Table;
    /// Sets a key to another value. If the value is refused, nothing changes.
    ///
    /// # Errors
    /// serde's message: the value has another type, or is not one of the key's words.
    fn set(&mut self, key: &str, value: toml::Value) -> Result<(), String>;
    /// The ranges and conflicts of the current values.
    fn checked(&self) -> Check;
}

impl<T: Settings> Section for T {
    fn about(&self) -> &'static str {
        T::DOCS
    }

    fn keys(&self) -> Vec<(&'static str, &'static str)> {
        T::FIELD_NAMES.iter().copied().zip(T::FIELD_DOCS.iter().copied()).collect()
    }

    fn table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("settings are numbers, words and lists of them")
    }

    fn set(&mut self, key: &str, value: toml::Value) -> Result<(), String> {
        let mut table = self.table();
        table.insert(key.to_owned(), value);
        *self = table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        Ok(())
    }

    fn checked(&self) -> Check {
        let mut check = Check::default();
        self.check(&mut check);
        check
    }
}

/// The range of a key, in words such as `1 to 64 (environment steps)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The key within its section.
    pub key: &'static str,
    /// The range and its unit in words.
    pub takes: String,
    /// Whether the value lies in the range.
    pub holds: bool,
}

/// Two keys that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The two keys. Errors name the first one.
    pub keys: [&'static str; 2],
    /// The problem and what to do about it.
    pub problem: String,
}

/// Collects ranges and conflicts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    /// The ranges, in the order in which they were stated.
    pub ranges: Vec<Range>,
    /// The conflicts between the current values.
    pub conflicts: Vec<Conflict>,
}

impl Check {
    /// States that `key` has `value` and takes `range`, measured in `unit`.
    pub fn range<T: PartialOrd + Display>(
        &mut self,
        key: &'static str,
        value: T,
        range: impl RangeBounds<T>,
        unit: &str,
    ) {
        // Infinities and NaN print without digits. No key accepts them.
        let is_finite = value.to_string().contains(|c: char| c.is_ascii_digit());
        let holds = is_finite && range.contains(&value);
        self.ranges.push(Range { key, takes: takes(&range, unit), holds });
    }

    /// Records a conflict between the two keys unless `holds`.
    pub fn agree(&mut self, keys: [&'static str; 2], holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.conflicts.push(Conflict { keys, problem: problem() });
        }
    }
}

/// The numbers above `low`, without an upper bound.
#[must_use]
pub const fn above(low: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(low), Bound::Unbounded)
}

/// The numbers above `low`, up to and including `high`.
#[must_use]
pub const fn above_up_to(low: f64, high: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(low), Bound::Included(high))
}

/// The numbers above `low` and below `high`.
#[must_use]
pub const fn between(low: f64, high: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(low), Bound::Excluded(high))
}

fn takes<T: Display>(range: &impl RangeBounds<T>, unit: &str) -> String {
    let low = match range.start_bound() {
        Bound::Included(low) => Some(format!("{low}")),
        Bound::Excluded(low) => Some(format!("above {low}")),
        Bound::Unbounded => None,
    };
    let words = match (low, range.end_bound()) {
        (Some(low), Bound::Unbounded) if low.starts_with("above") => low,
        (Some(low), Bound::Unbounded) => format!("{low} or more"),
        (Some(low), Bound::Included(high)) => format!("{low} to {high}"),
        (Some(low), Bound::Excluded(high)) => format!("{low} to below {high}"),
        (None, Bound::Included(high)) => format!("up to {high}"),
        (None, Bound::Excluded(high)) => format!("below {high}"),
        (None, Bound::Unbounded) => "any".to_owned(),
    };
    let unit = if unit == "bytes" { "bytes, or a size such as 64MiB" } else { unit };
    format!("{words} ({unit})")
}

/// The format of a number of bytes: a whole number, or a size such as `64MiB`.
pub mod size {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::limit::MemoryLimit;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelling {
        Bytes(u64),
        Text(String),
    }

    /// Writes the number.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(*bytes)
    }

    /// Reads either form.
    ///
    /// # Errors
    /// If the value has neither form.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        match Spelling::deserialize(deserializer) {
            Ok(Spelling::Bytes(bytes)) => Ok(bytes),
            Ok(Spelling::Text(text)) => match MemoryLimit::parse(&text) {
                Ok(MemoryLimit::Bytes(bytes)) => Ok(bytes),
                _ => Err(D::Error::custom(format!("{text} is not a whole number of bytes"))),
            },
            Err(_) => Err(D::Error::custom("not a whole number of bytes")),
        }
    }
}

/// The format of a key that may be unset, which is written `""`.
pub mod optional {
    use serde::de::{DeserializeOwned, Error};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelling {
        Text(String),
    }

    /// Writes the value, or `""`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Serialize, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(""),
        }
    }

    /// Reads the value, or `None` from `""`.
    ///
    /// # Errors
    /// If the text is not a valid value.
    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let Ok(Spelling::Text(text)) = Spelling::deserialize(deserializer) else {
            return Err(D::Error::custom("invalid type: no text, expected a string"));
        };
        if text.is_empty() {
            return Ok(None);
        }
        let value = serde::de::value::StringDeserializer::<serde::de::value::Error>::new(text);
        T::deserialize(value).map(Some).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_told_in_words_and_infinite_numbers_lie_in_none() {
        let mut check = Check::default();
        check.range("n", 5usize, 1..=64, "steps");
        check.range("x", f64::INFINITY, 0.0.., "factor");
        check.range("y", 0.0, above_up_to(0.0, 1.0), "share");
        check.range("z", f64::NAN, 0.0..1.0, "share");
        let told: Vec<(&str, bool)> =
            check.ranges.iter().map(|range| (range.takes.as_str(), range.holds)).collect();
        assert_eq!(
            told,
            [
                ("1 to 64 (steps)", true),
                ("0 or more (factor)", false),
                ("above 0 to 1 (share)", false),
                ("0 to below 1 (share)", false)
            ]
        );
    }
}
