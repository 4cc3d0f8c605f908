//! The line: how many bytes a run may hold resident.

use std::fmt;
use std::str::FromStr;

/// The line as a user states it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Line {
    /// So many bytes.
    Bytes(u64),
    /// A percentage, over 0 and at most 100, of what the machine and its control group allow.
    Percent(f64),
}

/// Why a line cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no amount of memory: {problem}; write for example 2GiB, 1500MB or 60%")]
pub struct LineError {
    text: String,
    problem: &'static str,
}

impl Line {
    /// Bytes of the line where `allowed_bytes` may be used at most.
    #[must_use]
    pub fn bytes(self, allowed_bytes: u64) -> u64 {
        match self {
            Line::Bytes(bytes) => bytes,
            Line::Percent(percent) => (allowed_bytes as f64 * percent / 100.0) as u64,
        }
    }
}

const UNITS: [(&str, f64); 9] = [
    ("", 1.0),
    ("b", 1.0),
    ("kib", 1024.0),
    ("mib", 1048576.0),
    ("gib", 1073741824.0),
    ("tib", 1099511627776.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
];

impl FromStr for Line {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        let refuse = |problem| Err(LineError { text: text.to_owned(), problem });
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| c.is_alphabetic() || c == '%').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let Ok(number) = number.trim().parse::<f64>() else { return refuse("it does not begin with a number") };
        if !number.is_finite() || number <= 0.0 {
            return refuse("it must be more than 0");
        }
        if unit == "%" {
            return if number <= 100.0 { Ok(Line::Percent(number)) } else { refuse("it is more than 100 %") };
        }
        let unit = unit.trim().to_lowercase();
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return refuse("its unit is not known");
        };
        let bytes = number * factor;
        if bytes < 1.0 || bytes >= u64::MAX as f64 { refuse("it is out of range") } else { Ok(Line::Bytes(bytes as u64)) }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Bytes(bytes) if bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            Line::Bytes(bytes) => write!(f, "{bytes}B"),
            Line::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_percentages_are_understood() {
        let check = |text: &str, line: Line| assert_eq!(text.parse(), Ok(line), "{text}");
        check("2GiB", Line::Bytes(2 << 30));
        check("512 MiB", Line::Bytes(512 << 20));
        check("1.5GB", Line::Bytes(1_500_000_000));
        check("1073741824", Line::Bytes(1 << 30));
        check("60%", Line::Percent(60.0));
        assert_eq!(Line::Percent(25.0).bytes(1000), 250);
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let check = |text: &str, part: &str| {
            let message = text.parse::<Line>().unwrap_err().to_string();
            assert!(message.contains(part) && message.contains(text), "{message}");
        };
        check("0", "more than 0");
        check("-1GiB", "more than 0");
        check("12parsecs", "unit is not known");
        check("200%", "more than 100 %");
        check("", "begin with a number");
        check("lots", "begin with a number");
        check("1e30TiB", "unit is not known");
    }

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        for line in [Line::Bytes(3 << 20), Line::Bytes(12345), Line::Percent(80.0)] {
            assert_eq!(line.to_string().parse(), Ok(line));
        }
    }
}
