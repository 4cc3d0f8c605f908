//! Checks of rows: sound prices, time that runs forward, one width.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::market::bar::{Bar, DAY_MILLIS, MINUTE_MILLIS};

use crate::market::import::source::file_error;
use crate::market::import::source_options::Label;

/// Open, high, low, close and volume.
pub(super) type Numbers = [f64; 5];

/// The names of [`Numbers`], in order.
pub(super) const NUMBER_NAMES: [&str; 5] = ["open", "high", "low", "close", "volume"];

struct Row {
    line: u64,
    stamp_millis: i64,
    numbers: Numbers,
}

/// The rows of one file, each checked as it comes in.
pub(super) struct Rows {
    path: PathBuf,
    rows: Vec<Row>,
}

impl Rows {
    /// No rows yet, of the file at `path`.
    pub(super) fn new(path: &Path) -> Rows {
        Rows { path: path.to_path_buf(), rows: Vec::new() }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The error of one line.
    pub(super) fn line_error(&self, line: u64, problem: impl Into<String>) -> Error {
        Error::Line { path: self.path.clone(), line, problem: problem.into() }
    }

    /// Appends a row.
    pub(super) fn push(&mut self, line: u64, stamp_millis: i64, numbers: Numbers) -> Result<()> {
        if let Some(problem) = fault(&numbers) {
            return Err(self.line_error(line, problem));
        }
        if let Some(before) = self.rows.last() {
            if stamp_millis == before.stamp_millis {
                let problem = format!(
                    "duplicate stamp: {} stands in line {} too; leave one of them",
                    moment(stamp_millis),
                    before.line
                );
                return Err(self.line_error(line, problem));
            }
            if stamp_millis < before.stamp_millis {
                let problem = format!(
                    "time runs backward: {} comes after {}; put the rows in order of time, or correct \
                     data.time_format and data.zone if the stamps are misread",
                    moment(stamp_millis),
                    moment(before.stamp_millis)
                );
                return Err(self.line_error(line, problem));
            }
        }
        self.rows.push(Row { line, stamp_millis, numbers });
        Ok(())
    }

    /// The width of the bars in milliseconds, and the bars; appends to `notes` what was found.
    pub(super) fn into_bars(self, label: Option<Label>, notes: &mut Vec<String>) -> Result<(i64, Vec<Bar>)> {
        let width_millis = self.width()?;
        let taken = label.unwrap_or_default();
        notes.push(match (label, taken) {
            (None, _) => {
                "stamps taken as the start of their bar (if they mark the end: data.label = \"end\")"
                    .to_owned()
            }
            (Some(_), Label::Start) => "stamps mark the start of their bar, as told".to_owned(),
            (Some(_), Label::End) => "stamps mark the end of their bar, as told".to_owned(),
        });
        let bars: Vec<Bar> = self
            .rows
            .iter()
            .map(|row| {
                let open_millis = match taken {
                    Label::Start => row.stamp_millis,
                    Label::End => row.stamp_millis - width_millis,
                };
                let [open, high, low, close, volume] = row.numbers;
                Bar { open_millis, close_millis: open_millis + width_millis, open, high, low, close, volume }
            })
            .collect();
        notes.push(extent_note(width_millis, &bars));
        notes.push(gaps(&bars));
        let n_without_volume = bars.iter().filter(|bar| bar.volume == 0.0).count();
        if n_without_volume > 0 {
            notes.push(format!("{n_without_volume} bars without volume"));
        }
        Ok((width_millis, bars))
    }

    /// The step that most rows are apart, if it is the smallest and all stamps lie on its grid.
    fn width(&self) -> Result<i64> {
        let (Some(first), true) = (self.rows.first(), self.rows.len() > 1) else {
            let problem = if self.rows.is_empty() {
                "holds a header and no bars"
            } else {
                "holds one bar: how wide its bars are cannot be told from fewer than two"
            };
            return Err(file_error(&self.path, problem));
        };
        let mut steps: Vec<i64> =
            self.rows.windows(2).map(|pair| pair[1].stamp_millis - pair[0].stamp_millis).collect();
        steps.sort_unstable();
        // Of steps equally common the smallest: `max_by_key` takes the last of equals.
        let width = steps
            .chunk_by(|a, b| a == b)
            .rev()
            .max_by_key(|run| run.len())
            .map_or(MINUTE_MILLIS, |run| run[0]);
        for pair in self.rows.windows(2) {
            let step = pair[1].stamp_millis - pair[0].stamp_millis;
            let off_grid = (pair[1].stamp_millis - first.stamp_millis) % width != 0;
            if step < width || off_grid {
                let problem = format!(
                    "{} comes {} after the row before, and most rows of the file are {} apart: a file holds bars of \
                     one width, on one grid; split it, or remove the rows that do not belong",
                    moment(pair[1].stamp_millis),
                    span(step),
                    span(width)
                );
                return Err(self.line_error(pair[1].line, problem));
            }
        }
        if width % MINUTE_MILLIS != 0 {
            let problem = format!(
                "its bars are {} wide, and bars are taken in whole minutes: join them to 1-minute bars first",
                span(width)
            );
            return Err(file_error(&self.path, problem));
        }
        Ok(width)
    }
}

/// What is wrong with a bar's numbers.
fn fault(numbers: &Numbers) -> Option<String> {
    for (name, value) in NUMBER_NAMES.iter().zip(numbers) {
        if !value.is_finite() {
            return Some(format!("`{name}` is {value}: remove the row, or fetch its numbers again"));
        }
    }
    let [open, high, low, close, volume] = *numbers;
    for (name, price) in NUMBER_NAMES.iter().zip([open, high, low, close]) {
        if price <= 0.0 {
            return Some(format!("`{name}` is {price}, and prices must be above 0: remove or mend the row"));
        }
    }
    if volume < 0.0 {
        return Some(format!("`volume` is {volume}, and volume cannot be negative: remove or mend the row"));
    }
    if high < low {
        return Some(format!(
            "`high` {high} is below `low` {low}: mend the row; are the columns named right?"
        ));
    }
    for (name, price) in [("open", open), ("close", close)] {
        if price < low || price > high {
            return Some(format!(
                "`{name}` {price} is outside [`low` {low}, `high` {high}]: mend the row; are the columns named right?"
            ));
        }
    }
    None
}

/// How many bars there are, how wide they are, and when they begin and end.
pub(super) fn extent_note(width_millis: i64, bars: &[Bar]) -> String {
    let [from, to] = [bars.first().map(|bar| bar.open_millis), bars.last().map(|bar| bar.close_millis)];
    let [from, to] = [from, to].map(|millis| moment(millis.unwrap_or_default()));
    format!("{} bars of {}, from {from} to {to}", bars.len(), span(width_millis))
}

/// How many gaps there are between bars, and the longest.
fn gaps(bars: &[Bar]) -> String {
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
pub(super) fn moment(millis: i64) -> String {
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
