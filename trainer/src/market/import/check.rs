//! Checks of an instrument's bars: time that runs one way, and one width.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use crate::error::Result;
use crate::market::bar::{Bar, DAY_MILLIS, MINUTE_MILLIS};

use crate::market::import::dirty::{Dirt, DirtyRows};
use crate::market::import::gather::Gathered;
use crate::market::import::source::file_error;
use crate::market::import::source_options::Label;

/// Puts an instrument's bars in order where all rows of the file have the newest first; true if they had.
///
/// # Errors
/// Rows whose stamps are not in order, all of them counted.
pub(super) fn put_in_order(path: &Path, gathered: &mut Gathered) -> Result<bool> {
    let has_symbols = gathered.symbol.is_some();
    let bars = &gathered.bars;
    let n_forward = bars.windows(2).filter(|pair| pair[1].open_millis > pair[0].open_millis).count();
    let n_backward = bars.windows(2).filter(|pair| pair[1].open_millis < pair[0].open_millis).count();
    let newest_first = n_forward == 0 && n_backward > 0;
    let mut faults = DirtyRows::default();
    for (i, pair) in bars.windows(2).enumerate() {
        let ([before, this], line) = ([pair[0].open_millis, pair[1].open_millis], gathered.lines.of(i + 1));
        if this == before {
            let line_before = gathered.lines.of(i);
            faults.push(Dirt::Duplicate, line, || duplicate(&pair[0], &pair[1], line_before, has_symbols));
        } else if !newest_first && this < before {
            let is_again = this >= bars[0].open_millis;
            faults.push(Dirt::Order, line, || backward(this, before, is_again && !has_symbols));
        }
    }
    if let Some(error) = faults.error(path, bars.len() as u64) {
        return Err(error);
    }
    if newest_first {
        gathered.bars.reverse();
    }
    Ok(newest_first)
}

fn duplicate(before: &Bar, this: &Bar, line_before: u64, has_symbols: bool) -> String {
    let stamp = moment(this.open_millis);
    if before == this {
        return format!(
            "duplicate stamp: {stamp} stands in line {line_before} too, with the same numbers: remove one of the two rows"
        );
    }
    if has_symbols {
        return format!(
            "duplicate stamp: {stamp} stands in line {line_before} too, with other numbers and the same symbol: mend \
             the rows"
        );
    }
    format!(
        "duplicate stamp: {stamp} stands in line {line_before} too, with other numbers: this looks like several \
         instruments in one file; name each row's in a column `symbol`, or give each a file of its own"
    )
}

fn backward(this: i64, before: i64, is_again: bool) -> String {
    let again = if is_again {
        "; if these are several instruments, name each row's in a column `symbol`, or give each a file of its own"
    } else {
        ""
    };
    format!(
        "time runs backward: {} comes after {}; put the rows in order of time, or correct data.time_format and data.zone \
         if the stamps are misread{again}",
        moment(this),
        moment(before)
    )
}

/// The width of bars in order, in milliseconds: the step that most of them are apart, if all stamps lie on its grid.
///
/// # Errors
/// Where there are fewer than two bars, or bars off that grid, all of them counted.
pub(super) fn width(path: &Path, gathered: &Gathered, newest_first: bool) -> Result<i64> {
    let bars = &gathered.bars;
    if bars.len() < 2 {
        let problem = if bars.is_empty() {
            "holds a header and no bars"
        } else {
            "holds one bar: how wide its bars are cannot be told from fewer than two"
        };
        return Err(file_error(path, problem));
    }
    let mut n_of_step: BTreeMap<i64, u64> = BTreeMap::new();
    for pair in bars.windows(2) {
        *n_of_step.entry(pair[1].open_millis - pair[0].open_millis).or_default() += 1;
    }
    // Of steps equally common the smallest: `max_by_key` takes the last of equals.
    let width = n_of_step.iter().rev().max_by_key(|(_, n)| **n).map_or(MINUTE_MILLIS, |(step, _)| *step);
    let mut faults = DirtyRows::default();
    for (i, pair) in bars.windows(2).enumerate() {
        let step = pair[1].open_millis - pair[0].open_millis;
        let off_grid = (pair[1].open_millis - bars[0].open_millis) % width != 0;
        if step < width || off_grid {
            let row = if newest_first { bars.len() - 2 - i } else { i + 1 };
            faults.push(Dirt::OffGrid, gathered.lines.of(row), || {
                format!(
                    "{} comes {} after the row before, and most rows of the file are {} apart: a file holds bars of \
                     one width, on one grid; split it, or remove the rows that do not belong",
                    moment(pair[1].open_millis),
                    span(step),
                    span(width)
                )
            });
        }
    }
    if let Some(error) = faults.error(path, bars.len() as u64) {
        return Err(error);
    }
    if width % MINUTE_MILLIS != 0 {
        let problem = format!(
            "its bars are {} wide, and bars are taken in whole minutes: join them to 1-minute bars first",
            span(width)
        );
        return Err(file_error(path, problem));
    }
    Ok(width)
}

/// Sets the span of each bar from its stamp and the width.
pub(super) fn set_spans(bars: &mut [Bar], width_millis: i64, label: Option<Label>) {
    for bar in bars {
        if label == Some(Label::End) {
            bar.open_millis -= width_millis;
        }
        bar.close_millis = bar.open_millis + width_millis;
    }
}

/// What is said of the label.
pub(super) fn label_note(label: Option<Label>) -> String {
    match label {
        None => {
            "stamps taken as the start of their bar (if they mark the end: data.label = \"end\")".to_owned()
        }
        Some(Label::Start) => "stamps mark the start of their bar, as told".to_owned(),
        Some(Label::End) => "stamps mark the end of their bar, as told".to_owned(),
    }
}

/// How many bars there are, how wide they are, and when they begin and end.
pub(super) fn extent_note(width_millis: i64, bars: &[Bar]) -> String {
    let [from, to] = [bars.first().map(|bar| bar.open_millis), bars.last().map(|bar| bar.close_millis)];
    let [from, to] = [from, to].map(|millis| moment(millis.unwrap_or_default()));
    format!("{} bars of {}, from {from} to {to}", bars.len(), span(width_millis))
}

/// How many gaps there are between bars, and the longest.
pub(super) fn gaps(bars: &[Bar]) -> String {
    let mut n_gaps = 0u64;
    let mut longest: Option<(i64, i64)> = None;
    for pair in bars.windows(2) {
        let (from, until) = (pair[0].close_millis, pair[1].open_millis);
        if until > from {
            n_gaps += 1;
            if longest.is_none_or(|(a, b)| until - from > b - a) {
                longest = Some((from, until));
            }
        }
    }
    match longest {
        None => "no gaps".to_owned(),
        Some((from, until)) => {
            let gaps = if n_gaps == 1 { "gap" } else { "gaps" };
            format!(
                "{n_gaps} {gaps}, kept as such; the longest is {} from {}",
                span(until - from),
                moment(from)
            )
        }
    }
}

/// A moment in ISO 8601, UTC.
#[must_use]
pub fn moment(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| format!("{millis} ms"), |stamp| stamp.to_string())
}

/// A length of time in the units a person would use: `30 min`, `2 d 1 h`.
pub(super) fn span(millis: i64) -> String {
    let mut rest = millis;
    let mut parts = Vec::new();
    for (unit, length) in
        [("d", DAY_MILLIS), ("h", 60 * MINUTE_MILLIS), ("min", MINUTE_MILLIS), ("s", 1_000), ("ms", 1)]
    {
        if rest / length > 0 {
            parts.push(format!("{} {unit}", rest / length));
            rest %= length;
        }
    }
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}
