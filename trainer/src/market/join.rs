//! Joins files of one instrument, such as monthly archives, to one series of bars.
//!
//! ```text
//! month_a  |||||||||||||||          a gap is kept as a gap, and told
//! month_b              |||||||||    bars that both hold: equal ones are dropped and counted, else refused
//! ```

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format;
use crate::market::bar::{Bar, BarSeries};
use crate::market::indicators::tolerance::same;

/// The bars of one instrument from one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The file.
    pub path: PathBuf,
    /// Its bars.
    pub bars: BarSeries,
}

/// Joins the pieces of one instrument, in any order, under `name`; with a line for each place where two meet.
///
/// `line_of` tells the line of a piece on which a bar stands, by its open; 0 where it cannot.
///
/// # Errors
/// [`Error::File`] where the widths of the bars, their grids, or whether there is volume differ; [`Error::Line`] for the
/// first bar of two pieces that cover the same time and do not agree on it.
pub fn join(
    name: &str,
    mut pieces: Vec<Piece>,
    line_of: &dyn Fn(&Path, i64) -> u64,
) -> Result<(BarSeries, Vec<String>)> {
    pieces.sort_by_key(|piece| {
        let ends = |bar: Option<&Bar>| bar.map_or(i64::MIN, |bar| bar.open_millis);
        (ends(piece.bars.bars.first()), ends(piece.bars.bars.last()))
    });
    let mut notes = Vec::new();
    let mut pieces = pieces.into_iter();
    let Some(first) = pieces.next() else {
        return Ok((BarSeries { name: name.to_owned(), width_millis: 0, bars: Vec::new() }, notes));
    };
    let mut joined = BarSeries { name: name.to_owned(), ..first.bars };
    let mut before = first.path;
    for Piece { path, bars } in pieces {
        require_one_kind(name, &joined, &before, &bars, &path)?;
        let from_millis = bars.bars.first().map_or(i64::MAX, |bar| bar.open_millis);
        let until_millis = joined.bars.last().map_or(i64::MIN, |bar| bar.close_millis);
        let n_shared = bars.bars.partition_point(|bar| bar.open_millis < until_millis);
        require_equal(&joined.bars, &before, &bars.bars[..n_shared], &path, line_of)?;
        let meets = match n_shared {
            0 if from_millis == until_millis => "without a gap".to_owned(),
            0 => format!("after a gap of {}", format::duration((from_millis - until_millis) as f64 / 1e3)),
            n => format!("with an overlap of {} bars, equal in both and taken once", format::count(n as u64)),
        };
        notes.push(format!(
            "{}: goes on where {} ends, at {}, {meets}",
            path.display(),
            before.display(),
            format::utc_minute(until_millis)
        ));
        // Exactly: a vector that grows by itself takes up to twice its bytes.
        joined.bars.reserve_exact(bars.bars.len() - n_shared);
        joined.bars.extend_from_slice(&bars.bars[n_shared..]);
        if n_shared < bars.bars.len() {
            before = path;
        }
    }
    Ok((joined, notes))
}

/// Refuses files that cannot be of one series.
fn require_one_kind(
    name: &str,
    joined: &BarSeries,
    before: &Path,
    bars: &BarSeries,
    path: &Path,
) -> Result<()> {
    let refuse = |differ: String| {
        let problem = format!(
            "is taken for the instrument `{name}` together with {}, and {differ}: give files of one kind, or name their \
             instruments apart by data.instrument",
            before.display()
        );
        Err(Error::File { path: path.to_path_buf(), problem })
    };
    let minutes = |width_millis: i64| width_millis as f64 / 6e4;
    if joined.width_millis != bars.width_millis {
        return refuse(format!(
            "its bars are {} and not {} minutes wide",
            minutes(bars.width_millis),
            minutes(joined.width_millis)
        ));
    }
    let grid = |series: &BarSeries| {
        series.bars.first().map_or(0, |bar| bar.open_millis.rem_euclid(series.width_millis.max(1)))
    };
    if grid(joined) != grid(bars) {
        return refuse("its bars begin at other marks of the clock".to_owned());
    }
    let has_volume = |series: &BarSeries| series.bars.iter().any(|bar| bar.volume > 0.0);
    match (has_volume(joined), has_volume(bars)) {
        (true, false) => refuse("it has no volume where the other has".to_owned()),
        (false, true) => refuse("it has volume where the other has none".to_owned()),
        _ => Ok(()),
    }
}

/// Refuses the first bar of the time that both cover which the two do not agree on.
fn require_equal(
    joined: &[Bar],
    before: &Path,
    shared: &[Bar],
    path: &Path,
    line_of: &dyn Fn(&Path, i64) -> u64,
) -> Result<()> {
    let (Some(first), Some(last)) = (shared.first(), shared.last()) else { return Ok(()) };
    let from = joined.partition_point(|bar| bar.open_millis < first.open_millis);
    let until = joined.partition_point(|bar| bar.open_millis <= last.open_millis);
    let (mut ours, mut theirs) = (joined[from..until].iter().peekable(), shared.iter().peekable());
    loop {
        let (path, other, open_millis, differ) = match (ours.peek(), theirs.peek()) {
            (None, None) => return Ok(()),
            (Some(a), Some(b)) if a.open_millis == b.open_millis => match difference(a, b) {
                None => {
                    ours.next();
                    theirs.next();
                    continue;
                }
                Some(said) => (path, before, b.open_millis, said),
            },
            (Some(a), b) if b.is_none_or(|b| a.open_millis < b.open_millis) => {
                (before, path, a.open_millis, "which lacks this bar".to_owned())
            }
            (_, Some(b)) => (path, before, b.open_millis, "which lacks this bar".to_owned()),
            (Some(_), None) => unreachable!("a bar that stands alone was taken above"),
        };
        let problem = format!(
            "the bar of {} disagrees with {}, {differ}: give one of the two files, mend the bar, or name their \
             instruments apart by data.instrument",
            format::utc_minute(open_millis),
            other.display()
        );
        return Err(match line_of(path, open_millis) {
            0 => Error::File { path: path.to_path_buf(), problem },
            line => Error::Line { path: path.to_path_buf(), line, problem },
        });
    }
}

/// The first number in which two bars of one time differ by more than 1e-9 of it.
fn difference(a: &Bar, b: &Bar) -> Option<String> {
    let numbers = |bar: &Bar| [bar.open, bar.high, bar.low, bar.close, bar.volume];
    let names = ["open", "high", "low", "close", "volume"];
    let pairs = names.iter().zip(numbers(a)).zip(numbers(b));
    pairs
        .filter(|((_, a), b)| !same(*a, *b))
        .map(|((name, a), b)| format!("where `{name}` is {a} and not {b}"))
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::bar::DECISION_MILLIS;
    use proptest::prelude::*;

    fn bar(i: i64) -> Bar {
        let open = 100.0 + (i % 7) as f64;
        Bar {
            open_millis: i * DECISION_MILLIS,
            close_millis: (i + 1) * DECISION_MILLIS,
            open,
            high: open + 1.0,
            low: open - 1.0,
            close: open + 0.5,
            volume: 1.0,
        }
    }

    fn piece(name: &str, bars: impl IntoIterator<Item = i64>) -> Piece {
        let bars = bars.into_iter().map(bar).collect();
        Piece {
            path: name.into(),
            bars: BarSeries { name: name.to_owned(), width_millis: DECISION_MILLIS, bars },
        }
    }

    fn joined(pieces: Vec<Piece>) -> Result<(BarSeries, Vec<String>)> {
        join("x", pieces, &|_, open_millis| (open_millis / DECISION_MILLIS) as u64 + 2)
    }

    #[test]
    fn files_that_go_on_are_joined_in_any_order_and_gaps_and_overlaps_are_told() {
        let (a, b, c) = (piece("a", 0..10), piece("b", 10..20), piece("c", 18..30));
        let (bars, notes) = joined(vec![c, a, b]).unwrap();
        assert_eq!(bars.bars, (0..30).map(bar).collect::<Vec<_>>());
        assert!(
            notes[0].contains("b: goes on where a ends") && notes[0].contains("without a gap"),
            "{notes:?}"
        );
        assert!(notes[1].contains("overlap of 2 bars"), "{notes:?}");
        let (_, notes) = joined(vec![piece("b", 22..30), piece("a", 0..10)]).unwrap();
        assert!(notes[0].contains("gap of 1 h 00 min"), "{notes:?}");
    }

    #[test]
    fn a_file_within_another_adds_nothing() {
        let (bars, notes) = joined(vec![piece("a", 0..30), piece("b", 5..9), piece("c", 30..40)]).unwrap();
        assert_eq!(bars.bars.len(), 40);
        assert!(
            notes[0].contains("overlap of 4") && notes[1].contains("c: goes on where a ends"),
            "{notes:?}"
        );
    }

    #[test]
    fn an_overlap_that_disagrees_is_refused_by_line() {
        let mut other = piece("b", 5..15);
        other.bars.bars[2].close += 1e-4;
        let error = joined(vec![piece("a", 0..10), other.clone()]).unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with("b:9: "), "{error}");
        assert!(error.to_string().contains("`close`"), "{error}");
        other.bars.bars[2].close -= 1e-4 - 1e-11;
        joined(vec![piece("a", 0..10), other]).expect("equal within 1e-9");

        let lacks = piece("b", (5..15).filter(|i| *i != 6));
        let error = joined(vec![piece("a", 0..10), lacks]).unwrap_err();
        assert!(error.to_string().starts_with("a:8: "), "{error}");
        let lacks = piece("a", (0..10).filter(|i| *i != 6));
        let error = joined(vec![lacks, piece("b", 5..15)]).unwrap_err();
        assert!(error.to_string().starts_with("b:8: "), "{error}");
    }

    #[test]
    fn files_of_two_kinds_are_refused() {
        let mut wide = piece("b", 20..30);
        wide.bars.width_millis *= 2;
        let mut off = piece("b", 20..30);
        off.bars.bars.iter_mut().for_each(|bar| bar.open_millis += 60_000);
        let mut silent = piece("b", 20..30);
        silent.bars.bars.iter_mut().for_each(|bar| bar.volume = 0.0);
        for (other, said) in [(wide, "10 and not 5 minutes"), (off, "other marks"), (silent, "no volume")] {
            let error = joined(vec![piece("a", 0..10), other]).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(said), "{error}");
            assert!(error.to_string().contains("data.instrument"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_series_cut_into_overlapping_files_is_joined_to_itself(
            cuts in prop::collection::vec((0usize..300, 0usize..40), 0..6), seed in any::<u64>(),
        ) {
            let all: Vec<i64> = (0..400).filter(|i| i % 50 < 37).collect();
            let mut pieces = Vec::new();
            let mut from = 0;
            let mut cuts = cuts;
            cuts.sort_unstable();
            for (at, overlap) in &cuts {
                let until = (*at).clamp(from + 1, all.len());
                pieces.push(piece("p", all[from.saturating_sub(*overlap)..until].iter().copied()));
                from = until.min(all.len() - 1);
            }
            pieces.push(piece("p", all[from..].iter().copied()));
            let n = pieces.len();
            pieces.rotate_left(seed as usize % n);
            let (bars, _) = joined(pieces).unwrap();
            prop_assert_eq!(bars.bars, all.into_iter().map(bar).collect::<Vec<_>>());
        }
    }
}
