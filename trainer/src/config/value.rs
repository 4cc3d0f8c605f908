//! How one value is read from what was written, checked against its range, and written again.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;

use crate::config::raw::{Given, Written};
use memsys::limit::MemoryLimit;

/// A type that a key may have. Reading what [`Value::to_toml`] wrote gives an equal value.
pub(super) trait Value: Sized {
    /// Reads it, or says in half a sentence what is wrong: `"fast" is not a number`.
    fn parse(written: &Written) -> Result<Self, String>;

    /// The TOML that stands for it.
    fn to_toml(&self) -> String;
}

/// The numbers above `low`, without end.
pub(super) const fn above(low: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(low), Bound::Unbounded)
}

/// The numbers above `low`, up to `high` and with it.
pub(super) const fn above_up_to(low: f64, high: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(low), Bound::Included(high))
}

/// The numbers above `low` and below `high`.
pub(super) const fn between(low: f64, high: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(low), Bound::Excluded(high))
}

/// `value` where it lies in `range`; every fault says what the key takes.
pub(super) fn within<T: PartialOrd + Display>(
    value: Result<T, String>,
    written: &Written,
    range: &impl RangeBounds<T>,
    unit: &str,
) -> Result<T, String> {
    value
        .and_then(|value| if range.contains(&value) { Ok(value) } else { Err(out_of_range(written)) })
        .map_err(|problem| format!("{problem}: it takes {}", takes(range, unit)))
}

/// The whole number of bytes that a size such as `64MiB` stands for, where the unit is bytes.
pub(super) fn size(written: &Written, unit: &str) -> Option<Written> {
    let Given::Text(text) = &written.given else { return None };
    match MemoryLimit::parse(text) {
        Ok(MemoryLimit::Bytes(bytes)) if unit == "bytes" => {
            let given = i64::try_from(bytes).map_or(Given::TooLarge, Given::Integer);
            Some(Written { text: written.text.clone(), given, is_loose: written.is_loose })
        }
        _ => None,
    }
}

/// A range and its unit in words, such as `1 to 64 (environment steps)`.
pub(super) fn takes<T: Display>(range: &impl RangeBounds<T>, unit: &str) -> String {
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

fn out_of_range(written: &Written) -> String {
    format!("{} is out of range", written.text)
}

/// Reads an integer into a type that may hold fewer.
fn integer<T: TryFrom<i64>>(written: &Written) -> Result<T, String> {
    match written.given {
        Given::Integer(integer) => T::try_from(integer).map_err(|_| out_of_range(written)),
        Given::TooLarge => Err(format!("{} is beyond TOML's largest integer, {}", written.text, i64::MAX)),
        Given::Float(float) if float.fract() == 0.0 && float.abs() < 1e15 => {
            Err(format!("{} is written as a fraction, and must be whole; write {float}", written.text))
        }
        _ => Err(format!("{} is not a whole number", written.text)),
    }
}

impl Value for u64 {
    fn parse(written: &Written) -> Result<Self, String> {
        integer(written)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    fn parse(written: &Written) -> Result<Self, String> {
        integer(written)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Value for usize {
    fn parse(written: &Written) -> Result<Self, String> {
        integer(written)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Value for f64 {
    fn parse(written: &Written) -> Result<Self, String> {
        match written.given {
            Given::Float(float) if float.is_finite() => Ok(float),
            Given::Float(_) => Err(format!("{} is not a finite number", written.text)),
            Given::Integer(integer) => Ok(integer as f64),
            _ => Err(format!("{} is not a number", written.text)),
        }
    }

    /// The shortest spelling that reads back to the same bits.
    fn to_toml(&self) -> String {
        format!("{self:?}")
    }
}

impl Value for bool {
    fn parse(written: &Written) -> Result<Self, String> {
        match written.given {
            Given::Boolean(boolean) => Ok(boolean),
            _ => Err(format!("{} is neither true nor false", written.text)),
        }
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn parse(written: &Written) -> Result<Self, String> {
        match &written.given {
            Given::Text(text) => Ok(text.clone()),
            // `--set data.time_format=2020` means text, though it could be a number.
            _ if written.is_loose => Ok(written.text.clone()),
            _ => Err(format!("{} is not text: write it in quotes", written.text)),
        }
    }

    fn to_toml(&self) -> String {
        toml::Value::from(self.as_str()).to_string()
    }
}

impl Value for PathBuf {
    fn parse(written: &Written) -> Result<Self, String> {
        match String::parse(written)? {
            text if text.is_empty() => Err("an empty path names nothing".to_owned()),
            text => Ok(Self::from(text)),
        }
    }

    fn to_toml(&self) -> String {
        self.to_string_lossy().into_owned().to_toml()
    }
}

/// A key that may be left open: then it is written `""`.
impl<T: Value> Value for Option<T> {
    fn parse(written: &Written) -> Result<Self, String> {
        match &written.given {
            Given::Text(text) if text.is_empty() => Ok(None),
            _ => T::parse(written).map(Some),
        }
    }

    fn to_toml(&self) -> String {
        self.as_ref().map_or_else(|| String::new().to_toml(), Value::to_toml)
    }
}

/// A list; one value alone is a list of one.
impl<T: Value> Value for Vec<T> {
    fn parse(written: &Written) -> Result<Self, String> {
        match &written.given {
            Given::List(items) => items.iter().map(T::parse).collect(),
            _ => T::parse(written).map(|only| vec![only]),
        }
    }

    fn to_toml(&self) -> String {
        let items: Vec<String> = self.iter().map(Value::to_toml).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Value for MemoryLimit {
    fn parse(written: &Written) -> Result<Self, String> {
        match &written.given {
            Given::Text(text) => Self::parse(text),
            _ => Self::parse(&written.text),
        }
    }

    fn to_toml(&self) -> String {
        self.to_string().to_toml()
    }
}
