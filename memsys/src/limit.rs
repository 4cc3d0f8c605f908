//! The memory limit as the user writes it (`2GiB`, `1.5GB`, `1073741824` or `60%`), and bytes as people read them.
//!
//! The limit is for the whole resident set of the process. This module reads and prints it;
//! [`budget`](crate::ledger::budget) enforces it.

use std::fmt;

/// Units of bytes.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// The accepted spellings, for error messages.
const FORMS: &str = "write a size such as 2GiB, 512MiB or 1.5GB, a number of bytes, or a share such as 60%";

/// How many bytes the process may hold resident.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MemoryLimit {
    /// This many bytes; 1 or more.
    Bytes(u64),
    /// This share, in percent, of what the machine or its control group allows; above 0, up to 100.
    Percent(f64),
}

impl MemoryLimit {
    /// Reads `2GiB` (powers of 1,024), `1.5GB` (powers of 1,000), a plain number of bytes, or `60%`. Case does not
    /// matter, and spaces may stand before the unit. A fraction of a byte is cut off.
    ///
    /// # Errors
    /// A sentence that says what is wrong with `text` and what to write instead: `text` is not a number, has an unknown
    /// unit, is zero or negative, exceeds 100 %, or is more bytes than a `u64` counts.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if trimmed.starts_with('-') {
            return Err(format!("{trimmed} is negative: {FORMS}"));
        }
        let end = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (digits, unit) = (&trimmed[..end], trimmed[end..].trim());
        let Ok(number) = digits.parse::<f64>() else {
            return Err(format!("`{trimmed}` is not a size: {FORMS}"));
        };
        if unit == "%" {
            return percent(number, trimmed);
        }
        let bytes = match (unit, digits.parse::<u64>()) {
            ("", Ok(bytes)) => Some(bytes),
            ("", Err(_)) if digits.contains('.') => {
                return Err(format!("{trimmed} has no unit, and bytes come whole: {FORMS}"));
            }
            ("", Err(_)) => None,
            (unit, whole) => {
                let factor = bytes_in(unit).ok_or_else(|| {
                    format!(
                        "`{unit}` is not a unit of bytes (B, KB, MB, GB, TB, KiB, MiB, GiB, TiB): {FORMS}"
                    )
                })?;
                // An f64 holds whole numbers exactly up to 2^53 only, so a whole number stays a u64.
                whole.map_or_else(|_| cut_to_bytes(number, factor), |whole| whole.checked_mul(factor))
            }
        };
        match bytes {
            None => Err(format!("{trimmed} is more bytes than can be counted: {FORMS}")),
            Some(0) => Err(format!("{trimmed} leaves no memory at all: {FORMS}")),
            Some(bytes) => Ok(Self::Bytes(bytes)),
        }
    }

    /// The memory limit in bytes, where the machine or its control group allows `available_bytes`. A size may exceed
    /// `available_bytes`; the caller decides whether that is an error.
    #[must_use]
    pub fn limit_bytes(self, available_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            // The cast saturates, and a share is at most the whole.
            Self::Percent(percent) => (available_bytes as f64 * (percent / 100.0)) as u64,
        }
    }
}

fn percent(number: f64, text: &str) -> Result<MemoryLimit, String> {
    if number > 0.0 && number <= 100.0 {
        Ok(MemoryLimit::Percent(number))
    } else {
        Err(format!("{text} is out of range: a share lies above 0% and goes up to 100%"))
    }
}

fn bytes_in(unit: &str) -> Option<u64> {
    UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|&(_, bytes)| bytes)
}

/// `number` × `factor` without its fraction; `None` where it exceeds a `u64`.
fn cut_to_bytes(number: f64, factor: u64) -> Option<u64> {
    let bytes = number * factor as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// The shortest spelling that [`MemoryLimit::parse`] reads back to the same memory limit.
impl fmt::Display for MemoryLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Percent(percent) => write!(formatter, "{percent}%"),
            Self::Bytes(bytes) => {
                let largest_unit =
                    UNITS.iter().filter(|&&(_, unit)| bytes > 0 && unit > 1 && bytes.is_multiple_of(unit));
                match largest_unit.max_by_key(|&&(_, unit)| unit) {
                    Some((name, unit)) => write!(formatter, "{}{name}", bytes / unit),
                    None => write!(formatter, "{bytes}"),
                }
            }
        }
    }
}

/// Written in the spelling of its `Display`.
impl serde::Serialize for MemoryLimit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Read from a size, a share or a plain number of bytes.
impl<'de> serde::Deserialize<'de> for MemoryLimit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = MemoryLimit;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a memory limit")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MemoryLimit, E> {
                MemoryLimit::parse(text).map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<MemoryLimit, E> {
                self.visit_str(&bytes.to_string())
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<MemoryLimit, E> {
                self.visit_str(&bytes.to_string())
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<MemoryLimit, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<MemoryLimit, E> {
                self.visit_str(&value.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Prints bytes for people: a whole number below 10,000, else KiB, MiB or GiB with decimals.
pub(crate) struct Readable(pub(crate) u64);

impl fmt::Display for Readable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..10_000 => write!(formatter, "{} B", self.0),
            10_000..1_048_576 => write!(formatter, "{:.1} KiB", bytes / 1024.0),
            1_048_576..1_073_741_824 => write!(formatter, "{:.1} MiB", bytes / 1_048_576.0),
            _ => write!(formatter, "{:.2} GiB", bytes / 1_073_741_824.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::MemoryLimit::{self, Bytes, Percent};

    #[test]
    fn sizes_and_shares_are_read() {
        for (text, limit) in [
            ("2GiB", Bytes(2 << 30)),
            ("512MiB", Bytes(512 << 20)),
            ("1.5GB", Bytes(1_500_000_000)),
            ("1.5GiB", Bytes(3 << 29)),
            ("1073741824", Bytes(1 << 30)),
            ("7B", Bytes(7)),
            ("3kb", Bytes(3_000)),
            (" 2 gib ", Bytes(2 << 30)),
            ("9007199254740993B", Bytes(9_007_199_254_740_993)),
            ("60%", Percent(60.0)),
            ("12.5 %", Percent(12.5)),
            ("100%", Percent(100.0)),
        ] {
            assert_eq!(MemoryLimit::parse(text), Ok(limit), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_reason() {
        for (text, reason) in [
            ("0", "no memory at all"),
            ("0GiB", "no memory at all"),
            ("0.1B", "no memory at all"),
            ("-1GiB", "negative"),
            ("12parsecs", "`parsecs` is not a unit"),
            ("2G", "`G` is not a unit"),
            ("1e9", "`e9` is not a unit"),
            ("200%", "up to 100%"),
            ("0%", "above 0%"),
            ("1.5", "no unit"),
            ("", "not a size"),
            ("GiB", "not a size"),
            ("%", "not a size"),
            ("1.2.3GiB", "not a size"),
            ("nan", "not a size"),
            ("99999999999TiB", "more bytes"),
            ("99999999999.5TiB", "more bytes"),
            ("99999999999999999999", "more bytes"),
        ] {
            let problem = MemoryLimit::parse(text).expect_err(text);
            assert!(problem.contains(reason), "{text}: {problem}");
        }
    }

    #[test]
    fn a_share_is_taken_of_what_is_available() {
        assert_eq!(Percent(25.0).limit_bytes(1 << 30), 1 << 28);
        assert_eq!(Percent(100.0).limit_bytes(12_345), 12_345);
        assert_eq!(Bytes(7).limit_bytes(1 << 30), 7);
    }

    proptest! {
        #[test]
        fn a_printed_limit_reads_back_the_same(bytes in 1_u64.., shift in 0_u32..40, percent in 0.001_f64..=100.0) {
            for limit in [Bytes(bytes), Bytes((bytes >> 40).max(1) << (shift % 24)), Percent(percent)] {
                prop_assert_eq!(MemoryLimit::parse(&limit.to_string()), Ok(limit));
            }
        }
    }
}
