//! The instruments of a run: which files and symbols are one, and their bars.
//!
//! ```text
//! files ──> import ──> pieces (file, symbol) ──> key of each ──> pieces of one key are joined ──> instruments
//! ```
//!
//! The key is the name that a pattern of `data.instrument` gives, else the file's own symbol, else the file's name
//! without the number or date at its end. Files in different folders are one only if the folders are named by numbers
//! and dates (`2024/`, `2025/`). Names that differ in a bare digit or letter at their end (`btc1`, `btc2`) are one
//! where each file goes on soon after another ends, as no two instruments' files do.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format;
use crate::market::bar::{Bar, BarSeries, DAY_MILLIS};
use crate::market::import::{Imported, Source, import};
use crate::market::instrument_names::{self, InstrumentPattern, stem_of, without_date};
use crate::market::join::{Piece, join};

/// Files that are one only by a bare count go on within this time.
const LONGEST_PAUSE_MILLIS: i64 = 7 * DAY_MILLIS;
/// And the price moves by no more than this share over the pause.
const LARGEST_MOVE_FRACTION: f64 = 0.5;

/// One instrument of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedInstrument {
    /// Its bars, under its name.
    pub series: BarSeries,
    /// The files that they come from, in order of time.
    pub files: Vec<PathBuf>,
}

/// What is told of an instrument once its imported bars are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The instrument's name.
    pub name: String,
    /// The files that its bars come from, in order of time.
    pub files: Vec<PathBuf>,
    /// Width of every imported bar, in milliseconds.
    pub width_millis: i64,
    /// Imported bars.
    pub n_bars: usize,
    /// Gaps between them.
    pub n_gaps: u64,
    /// The open of the first bar and the close of the last, UTC milliseconds; `None` without bars.
    pub span_millis: Option<(i64, i64)>,
}

impl Origin {
    /// The files as an error names them; the instrument's name where it has none.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        if self.files.is_empty() { self.name.clone().into() } else { list(&self.files).into() }
    }
}

impl LoadedInstrument {
    /// What is told of it without its bars.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let bars = &self.series.bars;
        let n_gaps = bars.windows(2).filter(|pair| pair[1].open_millis > pair[0].close_millis).count();
        Origin {
            name: self.series.name.clone(),
            files: self.files.clone(),
            width_millis: self.series.width_millis,
            n_bars: bars.len(),
            n_gaps: n_gaps as u64,
            span_millis: bars
                .first()
                .zip(bars.last())
                .map(|(first, last)| (first.open_millis, last.close_millis)),
        }
    }
}

/// What the files of a run hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// The instruments, in the order in which the files first name them.
    pub instruments: Vec<LoadedInstrument>,
    /// What the import and the joining found, in whole lines.
    pub notes: Vec<String>,
}

/// Reads the files and joins those of one instrument. `accept` may refuse what was imported from a file.
///
/// # Errors
/// Where a file cannot be used or is given twice, and where two files of one instrument do not agree.
pub fn load(
    sources: &[Source],
    patterns: &[InstrumentPattern],
    accept: &dyn Fn(&Path, &Imported) -> Result<()>,
) -> Result<Loaded> {
    require_each_once(sources)?;
    let mut notes = Vec::new();
    let mut pieces = Vec::new();
    for source in sources {
        let imported = import(source)?;
        let has_many = imported.len() > 1;
        for one in imported {
            accept(&source.path, &one)?;
            let told = match &one.symbol {
                Some(symbol) if has_many => format!("{} ({symbol})", source.path.display()),
                _ => source.path.display().to_string(),
            };
            notes.extend(one.notes.into_iter().map(|note| format!("{told}: {note}")));
            let key = key_of(&source.path, one.symbol.as_deref(), has_many, patterns);
            pieces.push((key, Piece { path: source.path.clone(), bars: one.bars }));
        }
    }
    let mut groups: Vec<(Key, Vec<Piece>)> = Vec::new();
    for (key, piece) in pieces {
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(piece),
            None => groups.push((key, vec![piece])),
        }
    }
    let groups = merge_counted(groups);
    let names = names_of(&groups);
    let mut instruments = Vec::new();
    for ((_, group), name) in groups.into_iter().zip(names) {
        let mut files: Vec<(i64, PathBuf)> = group
            .iter()
            .map(|piece| (piece.bars.bars.first().map_or(0, |bar| bar.open_millis), piece.path.clone()))
            .collect();
        files.sort();
        let (series, meetings) =
            join(&name, group, &|path, open_millis| line_of(sources, path, &name, open_millis))?;
        notes.extend(meetings);
        instruments
            .push(LoadedInstrument { series, files: files.into_iter().map(|(_, path)| path).collect() });
    }
    require_different(&instruments)?;
    Ok(Loaded { instruments, notes })
}

/// The line of a file on which the bar of `name` that opens at a time stands; 0 if it cannot be told. It reads the file
/// again, for an error.
fn line_of(sources: &[Source], path: &Path, name: &str, open_millis: i64) -> u64 {
    let source = sources.iter().find(|source| source.path == path);
    let imported = source.and_then(|source| import(source).ok()).unwrap_or_default();
    let is_alone = imported.len() == 1;
    let mut of_name = imported.iter().filter(|one| is_alone || one.symbol.as_deref() == Some(name));
    let line = of_name.find_map(|one| {
        let at = one.bars.bars.binary_search_by_key(&open_millis, |bar| bar.open_millis).ok()?;
        Some(one.line_of(at))
    });
    line.unwrap_or(0)
}

/// What makes pieces one instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// A name that the user or the file's column of symbols gives.
    Told(String),
    /// The folder and the reduced name of a file.
    File { folder: PathBuf, stem: String },
}

impl Key {
    /// The key without a bare count at the end of the file's name; none for a name that is told.
    fn without_count(&self) -> Option<Key> {
        match self {
            Key::Told(_) => None,
            Key::File { folder, stem } => Some(Key::File {
                folder: folder.clone(),
                stem: instrument_names::without_count(stem).to_owned(),
            }),
        }
    }
}

fn key_of(path: &Path, symbol: Option<&str>, has_many: bool, patterns: &[InstrumentPattern]) -> Key {
    let told = patterns.iter().find_map(|pattern| pattern.name_of(path));
    // A file of several symbols has a name for each, whatever a pattern says of the file.
    if let Some(name) = told.filter(|_| !has_many).or(symbol.map(ToOwned::to_owned)) {
        return Key::Told(name);
    }
    let mut folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    while let Some(name) = folder.file_name()
        && without_date(&name.to_string_lossy()).is_empty()
    {
        folder.pop();
    }
    Key::File { folder, stem: without_date(&stem_of(path)).to_owned() }
}

/// Joins groups whose names differ only in a bare count, where the files go on one after another.
fn merge_counted(groups: Vec<(Key, Vec<Piece>)>) -> Vec<(Key, Vec<Piece>)> {
    let mut merged: Vec<(Key, Vec<Piece>)> = Vec::new();
    let mut rest: VecDeque<(Key, Vec<Piece>)> = groups.into();
    while let Some((key, mut pieces)) = rest.pop_front() {
        let Some(reduced) = key.without_count() else {
            merged.push((key, pieces));
            continue;
        };
        let is_alike = |(other, _): &(Key, Vec<Piece>)| other.without_count().as_ref() == Some(&reduced);
        let others = rest.iter().filter(|group| is_alike(group)).flat_map(|(_, pieces)| pieces);
        let all: Vec<&BarSeries> = pieces.iter().chain(others).map(|piece| &piece.bars).collect();
        if all.len() > pieces.len() && go_on(&all) {
            let (alike, apart): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_alike);
            pieces.extend(alike.into_iter().flat_map(|(_, pieces)| pieces));
            rest = apart.into();
            merged.push((reduced, pieces));
        } else {
            merged.push((key, pieces));
        }
    }
    merged
}

/// True where each series begins soon after another ends, at about its price, in bars of one width.
fn go_on(series: &[&BarSeries]) -> bool {
    let mut spans: Vec<(Bar, Bar, i64)> = Vec::new();
    for one in series {
        let (Some(first), Some(last)) = (one.bars.first(), one.bars.last()) else { return false };
        spans.push((*first, *last, one.width_millis));
    }
    spans.sort_by_key(|(first, ..)| first.open_millis);
    spans.windows(2).all(|pair| {
        let ((_, last, width), (first, _, next_width)) = (&pair[0], &pair[1]);
        let pause_millis = first.open_millis - last.close_millis;
        width == next_width
            && (0..=LONGEST_PAUSE_MILLIS).contains(&pause_millis)
            && (first.open / last.close - 1.0).abs() <= LARGEST_MOVE_FRACTION
    })
}

/// A name for each group, no two alike.
fn names_of(groups: &[(Key, Vec<Piece>)]) -> Vec<String> {
    let plain: Vec<String> = groups
        .iter()
        .map(|(key, pieces)| match (key, pieces.as_slice()) {
            (Key::Told(name), _) => name.clone(),
            (Key::File { .. }, [alone]) => stem_of(&alone.path),
            (Key::File { folder, stem }, _) if stem.is_empty() => folder
                .file_name()
                .map_or_else(|| "bars".to_owned(), |name| name.to_string_lossy().into_owned()),
            (Key::File { stem, .. }, _) => stem.clone(),
        })
        .collect();
    let mut used: BTreeMap<String, usize> = BTreeMap::new();
    let mut names = Vec::new();
    for ((key, _), name) in groups.iter().zip(&plain) {
        let is_alone = plain.iter().filter(|other| *other == name).count() == 1;
        let name = match key {
            Key::File { folder, .. } if !is_alone => match folder.file_name() {
                Some(folder) => format!("{}/{name}", folder.to_string_lossy()),
                None => name.clone(),
            },
            _ => name.clone(),
        };
        let n_used = used.entry(name.clone()).or_insert(0);
        *n_used += 1;
        names.push(if *n_used == 1 { name } else { format!("{name} ({n_used})") });
    }
    names
}

/// Refuses a file that is given twice, under whichever path.
fn require_each_once(sources: &[Source]) -> Result<()> {
    let real = |source: &Source| std::fs::canonicalize(&source.path).unwrap_or_else(|_| source.path.clone());
    let paths: Vec<PathBuf> = sources.iter().map(real).collect();
    for (at, path) in paths.iter().enumerate() {
        if let Some(before) = paths[..at].iter().position(|other| other == path) {
            let (path, before) = (&sources[at].path, &sources[before].path);
            let problem = if path == before {
                "is given twice: give it once".to_owned()
            } else {
                format!("is the same file as {}: give it once", before.display())
            };
            return Err(Error::File { path: path.clone(), problem });
        }
    }
    Ok(())
}

/// Refuses two instruments of the same prices at the same times: one market would be trained on twice.
fn require_different(instruments: &[LoadedInstrument]) -> Result<()> {
    let is_same = |a: &Bar, b: &Bar| {
        (a.open_millis, a.open, a.high, a.low, a.close) == (b.open_millis, b.open, b.high, b.low, b.close)
    };
    for (at, one) in instruments.iter().enumerate() {
        for before in &instruments[..at] {
            let (a, b) = (&one.series.bars, &before.series.bars);
            if a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)) {
                let problem = format!(
                    "holds the bars of {} again, {} of them: leave one of the two",
                    list(&before.files),
                    format::count(a.len() as u64)
                );
                return Err(Error::File { path: one.files[0].clone(), problem });
            }
        }
    }
    Ok(())
}

/// The names of files, a few of many.
#[must_use]
pub fn list(files: &[PathBuf]) -> String {
    const MOST: usize = 3;
    let mut text =
        files.iter().take(MOST).map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    if files.len() > MOST {
        text.push_str(&format!(" and {} more", files.len() - MOST));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTES: i64 = 5;

    /// A file of `n` five-minute bars from bar `from` of one walk on.
    fn write(folder: &Path, name: &str, from: i64, n: i64, price: f64) -> Source {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = "timestamp,open,high,low,close,volume\n".to_owned();
        for i in from..from + n {
            let stamp = 1_709_510_400_000 + i * MINUTES * 60_000;
            let open = price * (1.0 + 0.001 * (i % 13) as f64);
            text.push_str(&format!("{stamp},{open},{},{},{open},3\n", open * 1.01, open * 0.99));
        }
        std::fs::write(&path, text).unwrap();
        Source { path, options: Default::default() }
    }

    fn loaded(sources: &[Source], patterns: &[&str]) -> Result<Loaded> {
        let patterns: Vec<InstrumentPattern> =
            patterns.iter().map(|text| InstrumentPattern::parse(text).unwrap()).collect();
        load(sources, &patterns, &|_, _| Ok(()))
    }

    /// Name, number of files and number of bars of each instrument.
    fn found(sources: &[Source], patterns: &[&str]) -> Vec<(String, usize, usize)> {
        let loaded = loaded(sources, patterns).unwrap();
        let row = |one: &LoadedInstrument| (one.series.name.clone(), one.files.len(), one.series.bars.len());
        loaded.instruments.iter().map(row).collect()
    }

    fn rows(rows: &[(&str, usize, usize)]) -> Vec<(String, usize, usize)> {
        rows.iter().map(|(name, files, bars)| ((*name).to_owned(), *files, *bars)).collect()
    }

    #[test]
    fn monthly_archives_are_one_instrument_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name, from, n| write(folder.path(), name, from, n, 100.0);
        let files = [
            file("BTC-5m-2024-03.csv", 200, 50),
            file("BTC-5m-2024-01.csv", 0, 100),
            file("BTC-5m-2024-02.csv", 100, 105),
        ];
        assert_eq!(found(&files, &[]), rows(&[("BTC-5m", 3, 250)]));
        let loaded = loaded(&files, &[]).unwrap();
        let whole = file("whole.csv", 0, 250);
        assert_eq!(
            loaded.instruments[0].series.bars,
            super::tests::loaded(&[whole], &[]).unwrap().instruments[0].series.bars
        );
        assert!(loaded.notes.iter().any(|note| note.contains("overlap of 5 bars")), "{:?}", loaded.notes);
        assert!(loaded.instruments[0].files[0].ends_with("BTC-5m-2024-01.csv"));
    }

    #[test]
    fn a_bare_count_joins_only_files_that_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name, from, price| write(folder.path(), name, from, 100, price);
        let months = [file("month_b.csv", 100, 100.0), file("month_a.csv", 0, 100.0)];
        assert_eq!(found(&months, &[]), rows(&[("month", 2, 200)]));
        let indices = [file("US30.csv", 0, 100.0), file("US500.csv", 50, 100.0)];
        assert_eq!(found(&indices, &[]), rows(&[("US30", 1, 100), ("US500", 1, 100)]));
        let shares = [file("BRK_A.csv", 0, 600_000.0), file("BRK_B.csv", 100, 400.0)];
        assert_eq!(found(&shares, &[]), rows(&[("BRK_A", 1, 100), ("BRK_B", 1, 100)]));
    }

    #[test]
    fn one_name_in_two_folders_is_told_apart_unless_the_folders_are_dates() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name, from, price| write(folder.path(), name, from, 100, price);
        let venues = [file("binance/BTC.csv", 0, 100.0), file("kraken/BTC.csv", 0, 101.0)];
        assert_eq!(found(&venues, &[]), rows(&[("binance/BTC", 1, 100), ("kraken/BTC", 1, 100)]));
        let years = [file("2023/ETH.csv", 0, 100.0), file("2024/ETH.csv", 100, 100.0)];
        assert_eq!(found(&years, &[]), rows(&[("ETH", 2, 200)]));
    }

    #[test]
    fn patterns_come_before_the_names_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name, from, price| write(folder.path(), name, from, 100, price);
        let files = [file("old.csv", 0, 100.0), file("new.csv", 100, 100.0), file("ether.csv", 0, 9.0)];
        assert_eq!(found(&files, &["???.csv=BTC", "never=X"]), rows(&[("BTC", 2, 200), ("ether", 1, 100)]));
    }

    #[test]
    fn an_overlap_that_disagrees_is_refused_with_its_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let first = write(folder.path(), "btc-1.csv", 0, 50, 100.0);
        let second = write(folder.path(), "btc-2.csv", 40, 50, 101.0);
        let error = loaded(&[second, first], &[]).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("btc-2.csv:2: "), "{error}");
    }

    #[test]
    fn a_file_given_twice_and_the_same_bars_twice_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let one = write(folder.path(), "btc.csv", 0, 50, 100.0);
        let mut again = one.clone();
        again.path = folder.path().join("../").join(folder.path().file_name().unwrap()).join("btc.csv");
        let error = loaded(&[one.clone(), again], &[]).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("same file"), "{error}");
        let copy = write(folder.path(), "copy.csv", 0, 50, 100.0);
        let error = loaded(&[one, copy], &[]).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("holds the bars of"), "{error}");
    }
}
