//! How the numbers of a text file are written: which sign stands before the decimals, and which between thousands.
//!
//! A point before the decimals is the rule. A comma is taken for it only if the user says so (`decimal`), or if the
//! numbers of the whole file cannot be read otherwise. A file whose every number is written as `1,234` could mean two
//! things and is refused with both.

use crate::market::import::source_options::{Decimal, Source};

/// How the numbers of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumberFormat {
    decimal: Decimal,
}

impl Default for NumberFormat {
    fn default() -> Self {
        NumberFormat { decimal: Decimal::Point }
    }
}

impl NumberFormat {
    /// The number that a text means; none where it says that there is none: empty, `NaN`, `null` and their like.
    ///
    /// # Errors
    ///
    /// What the text is, where it is no number.
    pub(super) fn read(self, text: &str) -> Result<Option<f64>, String> {
        let text = text.trim();
        if is_missing(text) {
            return Ok(None);
        }
        if self.decimal == Decimal::Point
            && let Ok(value) = text.parse()
        {
            return Ok(Some(value));
        }
        match plain(text, self.decimal) {
            Some(plain) => plain.parse().map(Some).map_err(|_| no_number(text)),
            None => Err(no_number(text)),
        }
    }
}

/// The sign before the decimals.
fn decimal_sign(decimal: Decimal) -> char {
    match decimal {
        Decimal::Point => '.',
        Decimal::Comma => ',',
    }
}

/// The sign that may then stand between thousands.
fn group_sign(decimal: Decimal) -> char {
    match decimal {
        Decimal::Point => ',',
        Decimal::Comma => '.',
    }
}

/// True of a text that stands where a number is missing.
pub(super) fn is_missing(text: &str) -> bool {
    const WORDS: [&str; 9] = ["nan", "null", "none", "na", "n/a", "#n/a", "nil", "-", "\\n"];
    text.is_empty() || WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// What is known of the numbers of a file while its rows go by.
#[derive(Debug, Default)]
pub(super) struct NumberSurvey {
    /// How many numbers have no comma and a point.
    n_points: u64,
    /// How many numbers can be read with a comma before the decimals alone.
    n_only_with_comma: u64,
    /// Whether a number can be read with a point before the decimals alone.
    any_only_with_point: bool,
    /// The first text that means one number with a point and another with a comma, with its line.
    first_doubtful: Option<(u64, String)>,
    first_with_comma: Option<String>,
    /// The first text with a sign between its thousands when read with a point.
    first_grouped: Option<String>,
}

impl NumberSurvey {
    /// Takes note of one number of the file.
    pub(super) fn observe(&mut self, line: u64, text: &str) {
        let text = text.trim();
        // One number with a point and decimals that are not three settles what such numbers can tell.
        let is_simple =
            text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
        let has_point = text.contains('.');
        if is_simple && (self.any_only_with_point || !has_point) {
            self.n_points += u64::from(has_point);
            return;
        }
        if is_missing(text) {
            return;
        }
        let with_point = plain(text, Decimal::Point);
        let with_comma = plain(text, Decimal::Comma);
        if text.contains(',') {
            self.first_with_comma.get_or_insert_with(|| text.to_owned());
        } else {
            self.n_points += u64::from(has_point);
        }
        if with_point.as_ref().is_some_and(|plain| plain != text.trim_start_matches('+')) {
            self.first_grouped.get_or_insert_with(|| text.to_owned());
        }
        match (with_point, with_comma) {
            (Some(point), Some(comma)) if point != comma => {
                self.first_doubtful.get_or_insert_with(|| (line, text.to_owned()));
            }
            (Some(_), None) => self.any_only_with_point = true,
            (None, Some(_)) => self.n_only_with_comma += 1,
            // What is no number with either sign is the fault of its row, and says nothing of the others.
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// How the file's numbers are written, and a note on it where it is not the rule. Where the numbers contradict each
    /// other it is what most of them are; the others are then no numbers.
    ///
    /// # Errors
    ///
    /// A line and the two readings of its number, where the numbers leave open which is right.
    pub(super) fn decide(self, source: &Source) -> Result<(NumberFormat, Option<String>), (u64, String)> {
        if let Some(decimal) = source.options.decimal {
            let note = format!("numbers read with `{}` before the decimals", decimal_sign(decimal));
            return Ok((NumberFormat { decimal }, Some(note)));
        }
        let point = NumberFormat::default();
        if let Some(comma) = self.first_with_comma.as_ref().filter(|_| self.n_only_with_comma > self.n_points)
        {
            let note = format!("numbers such as `{comma}` taken with a comma before the decimals");
            return Ok((NumberFormat { decimal: Decimal::Comma }, Some(note)));
        }
        match self.first_doubtful {
            Some((line, text)) if self.first_with_comma.is_some() && !self.any_only_with_point => {
                let way = |decimal| {
                    let mut told = source.clone();
                    told.options.decimal = Some(decimal);
                    let number = plain(&text, decimal).unwrap_or_default();
                    format!("{} reads it as {number}", told.to_argument())
                };
                Err((
                    line,
                    format!(
                        "`{text}` may have a point or a comma before its decimals, and the other numbers of the file do \
                         not say which: {}; {}",
                        way(Decimal::Point),
                        way(Decimal::Comma)
                    ),
                ))
            }
            _ => {
                let note = |text| format!("numbers such as `{text}` taken with a sign between thousands");
                Ok((point, self.first_grouped.map(note)))
            }
        }
    }
}

fn no_number(text: &str) -> String {
    format!("`{text}`, which is no number")
}

/// The number as Rust writes it, from a text with a given sign before the decimals; none if it is none.
///
/// Between thousands may stand the other of point and comma, a space or an apostrophe: one kind, every three digits.
fn plain(text: &str, decimal: Decimal) -> Option<String> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let (sign, digits) = match mantissa.as_bytes().first()? {
        b'-' => ("-", &mantissa[1..]),
        b'+' => ("", &mantissa[1..]),
        _ => ("", mantissa),
    };
    let (whole, decimals) = digits.split_once(decimal_sign(decimal)).unwrap_or((digits, ""));
    if !decimals.bytes().all(|byte| byte.is_ascii_digit()) || whole.len() + decimals.len() == 0 {
        return None;
    }
    let separator = whole.chars().find(|c| !c.is_ascii_digit());
    let whole = match separator {
        None => whole.to_owned(),
        Some(c) if c == group_sign(decimal) || matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\'' | '’') => {
            let mut groups = whole.split(c);
            let first = groups.next()?;
            let is_group = |group: &str| group.len() == 3 && group.bytes().all(|byte| byte.is_ascii_digit());
            let is_first = (1..=3).contains(&first.len()) && first.bytes().all(|byte| byte.is_ascii_digit());
            if !is_first || !groups.all(is_group) {
                return None;
            }
            whole.replace(c, "")
        }
        Some(_) => return None,
    };
    let exponent_digits = exponent.get(1..).unwrap_or_default();
    let exponent_digits = exponent_digits.strip_prefix(['+', '-']).unwrap_or(exponent_digits);
    if !exponent.is_empty()
        && (exponent_digits.is_empty() || !exponent_digits.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return None;
    }
    let point = if decimals.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{decimals}{exponent}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decide(told: Option<Decimal>, texts: &[&str]) -> Result<Vec<Option<f64>>, String> {
        let mut source = Source::from_text("bars.csv".as_ref()).unwrap();
        source.options.decimal = told;
        let mut survey = NumberSurvey::default();
        for (line, text) in (2..).zip(texts) {
            survey.observe(line, text);
        }
        let (format, _) = survey.decide(&source).map_err(|(line, problem)| format!("{line}: {problem}"))?;
        texts.iter().map(|text| format.read(text)).collect()
    }

    #[test]
    fn numbers_are_read_as_all_of_them_are_written() {
        for (texts, expected) in [
            (&["101.5", "+101.25", " 1e-5 ", "1,234.5"][..], [101.5, 101.25, 1e-5, 1234.5]),
            (&["101,5", "1.234,5", "-7", "2,5E3"], [101.5, 1234.5, -7.0, 2500.0]),
            (&["1,234", "101.50", "1,234,567", "8"], [1234.0, 101.5, 1_234_567.0, 8.0]),
            (&["1.234", "1.01000", "101.700", ".5"], [1.234, 1.01, 101.7, 0.5]),
            (&["1 234.5", "1'234", "1\u{a0}234", "12"], [1234.5, 1234.0, 1234.0, 12.0]),
            (&["1 234,5", "1'234", "1\u{202f}234", "12"], [1234.5, 1234.0, 1234.0, 12.0]),
        ] {
            assert_eq!(decide(None, texts), Ok(expected.map(Some).to_vec()), "{texts:?}");
        }
    }

    #[test]
    fn a_comma_that_may_be_either_is_refused_with_both_readings_and_read_as_told() {
        let texts = ["1,234", "2,345", "7"];
        let error = decide(None, &texts).unwrap_err();
        assert!(error.starts_with("2: `1,234` may have"), "{error}");
        for way in
            ["'bars.csv?decimal=point' reads it as 1234;", "'bars.csv?decimal=comma' reads it as 1.234"]
        {
            assert!(error.contains(way), "{error}");
        }
        let point = decide(Some(Decimal::Point), &texts);
        assert_eq!(point, Ok([1234.0, 2345.0, 7.0].map(Some).to_vec()));
        let comma = decide(Some(Decimal::Comma), &texts);
        assert_eq!(comma, Ok([1.234, 2.345, 7.0].map(Some).to_vec()));
        let error = decide(None, &["101.700", "101.250", "101.800", "11,5"]).unwrap_err();
        assert!(error.contains("reads it as 101700"), "{error}");
    }

    #[test]
    fn where_numbers_contradict_each_other_the_fewer_are_none() {
        let error = decide(None, &["101.5", "7", "101.25", "101,5"]).unwrap_err();
        assert_eq!(error, "`101,5`, which is no number");
        let error = decide(None, &["101,5", "7", "101,25", "101.5"]).unwrap_err();
        assert_eq!(error, "`101.5`, which is no number");
    }

    #[test]
    fn a_missing_number_is_none_and_says_nothing_of_the_others() {
        let read = decide(None, &["", "NaN", "null", "N/A", "-", "101,5"]).unwrap();
        assert_eq!(read, [None, None, None, None, None, Some(101.5)]);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["eleven", "1,23,456", "1.2.3", "1,5,", "--1", "+", "1e", "12,34.5", "1 2", "0x10", "1_000"]
        {
            let error = NumberFormat::default().read(text).unwrap_err();
            assert!(error.contains("no number"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_number_written_with_either_sign_is_read_back(
            value in -1e12..1e12f64,
            decimal in prop_oneof![Just(Decimal::Point), Just(Decimal::Comma)],
            grouped: bool,
        ) {
            let written = format!("{value}");
            let (whole, decimals) = written.split_once('.').unwrap_or((&written, ""));
            let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
            let mut text = sign.to_owned();
            for (at, digit) in whole.chars().enumerate() {
                if grouped && at > 0 && (whole.len() - at) % 3 == 0 {
                    text.push(group_sign(decimal));
                }
                text.push(digit);
            }
            if !decimals.is_empty() {
                text.push(decimal_sign(decimal));
                text.push_str(decimals);
            }
            prop_assert_eq!(NumberFormat { decimal }.read(&text), Ok(Some(value)));
        }
    }
}
