//! Which files are of one instrument, by their names.
//!
//! Without a word from the user the end of a name that counts or dates the file is left out: `BTCUSDT-1m-2024-01.csv`
//! and `BTCUSDT-1m-2024-02.csv` are both `BTCUSDT-1m`. Patterns ([`InstrumentPattern`]) say it otherwise.

use std::path::Path;

/// Endings of a file's name that say how it is stored.
const ENDINGS: [&str; 13] =
    ["csv", "txt", "tsv", "dat", "parquet", "pq", "feather", "arrow", "json", "jsonl", "gz", "zst", "zip"];

/// The months, of which a name may hold the first three letters or more.
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A pattern of `data.instrument`: it names the instrument of the files that it fits.
///
/// It is compared with the whole of a file's name, or of the end of its path where the pattern has slashes. `*` stands
/// for any text without a slash, `?` for one character, and `{}` for the part that is the instrument's name, as short
/// as it can be. `PATTERN=NAME` gives the name outright.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstrumentPattern {
    pattern: Vec<char>,
    name: Option<String>,
    n_slashes: usize,
}

impl InstrumentPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (pattern, name) = match text.split_once('=') {
            Some((pattern, name)) => (pattern, Some(name.trim().to_owned())),
            None => (text, None),
        };
        let n_names = pattern.matches("{}").count();
        if pattern.is_empty() || name.as_ref().is_some_and(String::is_empty) {
            return Err(format!("`{text}` is no pattern: write PATTERN=NAME, such as BTCUSDT-*=BTC"));
        }
        if name.is_none() && n_names != 1 {
            return Err(format!(
                "`{text}` names no instrument: mark the part of the file's name that does by {{}}, as in \
                 {{}}-1m-*, or give the name, as in BTCUSDT-*=BTC"
            ));
        }
        if name.is_some() && n_names > 0 {
            return Err(format!("`{text}` names the instrument twice: by {{}} and after the ="));
        }
        let n_slashes = pattern.matches('/').count();
        Ok(Self { pattern: pattern.chars().collect(), name, n_slashes })
    }

    /// The name of the instrument of the file at `path`, if the pattern fits it.
    #[must_use]
    pub fn name_of(&self, path: &Path) -> Option<String> {
        let components: Vec<String> =
            path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let from = components.len().checked_sub(self.n_slashes + 1)?;
        let text: Vec<char> = components[from..].join("/").chars().collect();
        let marked = fit(&self.pattern, &text)?;
        Some(self.name.clone().unwrap_or(marked))
    }
}

/// What `{}` stands for if `pattern` fits the whole of `text`; empty where the pattern has none.
fn fit(pattern: &[char], text: &[char]) -> Option<String> {
    match pattern {
        [] => text.is_empty().then(String::new),
        ['{', '}', rest @ ..] => (1..=text.len())
            .take_while(|n| text[n - 1] != '/')
            .find(|n| fit(rest, &text[*n..]).is_some())
            .map(|n| text[..n].iter().collect()),
        ['*', rest @ ..] => {
            let n_most = text.iter().position(|c| *c == '/').unwrap_or(text.len());
            (0..=n_most).find_map(|n| fit(rest, &text[n..]))
        }
        [first, rest @ ..] => {
            let (next, after) = text.split_first()?;
            let is_same = *first == '?' && *next != '/' || first == next;
            if is_same { fit(rest, after) } else { None }
        }
    }
}

/// A file's name without folders and the endings that say how it is stored.
#[must_use]
pub fn stem_of(path: &Path) -> String {
    let mut stem = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    while let Some((before, ending)) = stem.rsplit_once('.') {
        if before.is_empty() || !ENDINGS.contains(&ending.to_ascii_lowercase().as_str()) {
            break;
        }
        stem.truncate(before.len());
    }
    stem
}

/// A stem without the numbers and dates at its end, such as `-2024-01`, `_20240101`, ` (2)`; empty where it has
/// nothing else.
#[must_use]
pub fn without_date(stem: &str) -> &str {
    let mut rest = stem;
    loop {
        let trimmed = rest.trim_end_matches(is_separator);
        let start = trimmed.rfind(is_separator).map_or(0, |at| at + separator_len(trimmed, at));
        let last = &trimmed[start..];
        if trimmed.is_empty() || !is_date(last) {
            break trimmed;
        }
        rest = &trimmed[..start];
    }
}

/// A stem whose last word is without the digits at its end, or left out if it is a single letter: `btc1` and `btc2`,
/// `btc_a` and `btc_b`. These may also be names of two instruments (`US30` and `US500`).
#[must_use]
pub fn without_count(stem: &str) -> &str {
    let word = stem.rfind(is_separator).map_or(0, |at| at + separator_len(stem, at));
    if word > 0 && stem[word..].chars().count() == 1 && stem[word..].chars().all(char::is_alphabetic) {
        return stem[..word].trim_end_matches(is_separator);
    }
    let counted = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    if counted.len() > word { counted } else { stem }
}

fn is_separator(c: char) -> bool {
    matches!(c, '-' | '_' | ' ' | '.' | '(' | ')' | '[' | ']' | '+' | ',' | '~')
}

/// Bytes of the separator at `at`.
fn separator_len(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(1, char::len_utf8)
}

/// True of a word that counts or dates a file: digits, a quarter or half (`Q1`, `2024Q1`, `H2`), a month's name with
/// or without a year or day.
fn is_date(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let letters = lower.trim_matches(|c: char| c.is_ascii_digit());
    let is_period = |letter: char, most: char| {
        lower.split_once(letter).is_some_and(|(year, number)| {
            is_digits(year) && number.len() == 1 && number.chars().all(|c| ('1'..=most).contains(&c))
        })
    };
    let is_month =
        letters.len() >= 3 && MONTHS.iter().any(|month| month.starts_with(letters) || letters == "sept");
    !word.is_empty() && (is_digits(word) || is_period('q', '4') || is_period('h', '2') || is_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_at_the_end_of_a_name_are_left_out() {
        for (stem, name) in [
            ("BTCUSDT-1m-2024-01", "BTCUSDT-1m"),
            ("BTCUSDT-5m-2024-01-31", "BTCUSDT-5m"),
            ("EURUSD_20240101_20240131", "EURUSD"),
            ("XBTUSD_1", "XBTUSD"),
            ("btc (2)", "btc"),
            ("es.2024Q1", "es"),
            ("eth-Jan-2024", "eth"),
            ("eth_March2024", "eth"),
            ("2024-01", ""),
            ("btc_perp_1m", "btc_perp_1m"),
            ("US500", "US500"),
            ("spot_maybe", "spot_maybe"),
            ("Bitcoin", "Bitcoin"),
        ] {
            assert_eq!(without_date(stem), name, "{stem}");
        }
    }

    #[test]
    fn a_count_without_a_mark_before_it_may_be_left_out_where_the_bars_allow() {
        for (stem, name) in [
            ("month_a", "month"),
            ("btc2", "btc"),
            ("pair_old", "pair_old"),
            ("US500", "US"),
            ("a", "a"),
            ("7", "7"),
            ("btc_7", "btc_7"),
        ] {
            assert_eq!(without_count(stem), name, "{stem}");
        }
    }

    #[test]
    fn endings_that_say_how_a_file_is_stored_are_no_part_of_its_stem() {
        for (path, stem) in [
            ("a/b.c/BTC.csv", "BTC"),
            ("2025-01-02.csv.gz", "2025-01-02"),
            ("BTC_USDT-5m.feather", "BTC_USDT-5m"),
            ("5_us_txt.txt", "5_us_txt"),
            ("BRK.B.csv", "BRK.B"),
            (".csv", ".csv"),
        ] {
            assert_eq!(stem_of(Path::new(path)), stem, "{path}");
        }
    }

    #[test]
    fn a_pattern_names_the_instrument_of_the_files_that_it_fits() {
        let name = |pattern: &str, path: &str| {
            InstrumentPattern::parse(pattern).map(|pattern| pattern.name_of(Path::new(path)))
        };
        let is = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(name("{}-1m-*", "x/BTCUSDT-1m-2024-01.csv"), is("BTCUSDT"));
        assert_eq!(name("{}-????-??.csv", "BTC-USD-2024-01.csv"), is("BTC-USD"));
        assert_eq!(name("month_?.csv=month", "month_a.csv"), is("month"));
        assert_eq!(name("kraken/{}_*", "data/kraken/XBT_1.csv"), is("XBT"));
        assert_eq!(name("{}/*.csv", "data/BTC/2024.csv"), is("BTC"));
        assert_eq!(name("kraken/{}_*", "data/binance/XBT_1.csv"), Ok(None));
        assert_eq!(name("btc*=BTC", "eth.csv"), Ok(None));
        assert_eq!(name("*/a.csv=A", "a.csv"), Ok(None));
        for (pattern, said) in [
            ("btc*", "names no instrument"),
            ("{}*=BTC", "twice"),
            ("=BTC", "no pattern"),
            ("btc*=", "no pattern"),
        ] {
            let error = name(pattern, "btc.csv").unwrap_err();
            assert!(error.contains(said), "{pattern}: {error}");
        }
    }
}
