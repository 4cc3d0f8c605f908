//! What was decided about the instruments of a run: their files, their bars, and their parts.

use crate::format;
use crate::market::bar::MINUTE_MILLIS;
use crate::market::instruments::{Origin, list};
use crate::market::split::Split;

/// One row: an instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstrumentRow {
    name: String,
    files: String,
    span: String,
    bars: String,
    gaps: String,
    parts: String,
}

impl InstrumentRow {
    /// The row of an instrument whose decisions are divided by `split`, or are all in its test if not `is_divided`.
    #[must_use]
    pub fn new(origin: &Origin, split: &Split, is_divided: bool) -> Self {
        let ends = origin.span_millis.map(|(from, until)| [from, until].map(format::utc_minute));
        let [from, until] = ends.unwrap_or_default();
        let part = |name: &str, range: &std::ops::Range<usize>| match range.len() {
            0 => format!("no {name}"),
            n => format!("{name} {}", format::count(n as u64)),
        };
        Self {
            name: origin.name.clone(),
            files: match origin.files.as_slice() {
                [alone] => alone.display().to_string(),
                many => format!("{} files: {}", many.len(), list(many)),
            },
            span: format!("{from} to {until}"),
            bars: format!(
                "{} of {} min",
                format::count(origin.n_bars as u64),
                origin.width_millis / MINUTE_MILLIS
            ),
            gaps: format::count(origin.n_gaps),
            parts: match is_divided {
                true => [
                    part("train", &split.train),
                    part("validation", &split.validation),
                    part("test", &split.test),
                ]
                .join(", "),
                false => format::count(split.test.len() as u64),
            },
        }
    }

    /// The row as one sentence for a report.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { name, files, span, bars, gaps, parts } = self;
        format!("{name}: {files}; {span} UTC; {bars}, gaps: {gaps}; decisions: {parts}")
    }

    fn cells(&self) -> [&str; 6] {
        [&self.name, &self.files, &self.span, &self.bars, &self.gaps, &self.parts]
    }
}

/// The rows as lines under a head.
#[must_use]
pub fn lines(rows: &[InstrumentRow]) -> Vec<String> {
    let head = ["instrument", "files", "span (UTC)", "bars", "gaps", "decisions"];
    let all: Vec<[&str; 6]> = std::iter::once(head).chain(rows.iter().map(InstrumentRow::cells)).collect();
    let width = |column: usize| all.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |cells: &[&str; 6]| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}", padded.join("  ").trim_end())
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::bar::{Bar, BarSeries, DECISION_MILLIS};
    use crate::market::instruments::LoadedInstrument;

    #[test]
    fn a_row_tells_files_span_bars_gaps_and_parts() {
        let bar = |i: i64| Bar {
            open_millis: i * DECISION_MILLIS,
            close_millis: (i + 1) * DECISION_MILLIS,
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 0.0,
        };
        let bars: Vec<Bar> = (0..2000).filter(|i| i % 100 != 7).map(bar).collect();
        let series = BarSeries { name: "BTC".to_owned(), width_millis: DECISION_MILLIS, bars };
        let files = ["a.csv", "b.csv", "c.csv", "d.csv"].map(Into::into).to_vec();
        let split = Split { train: 0..0, validation: 100..300, test: 400..1800 };
        let row = InstrumentRow::new(&LoadedInstrument { series, files }.origin(), &split, true);
        assert_eq!(
            row.sentence(),
            "BTC: 4 files: a.csv, b.csv, c.csv and 1 more; 1970-01-01 00:00 to 1970-01-07 22:40 UTC; 1,980 of 5 min, \
             gaps: 20; decisions: no train, validation 200, test 1,400"
        );
        let lines = lines(&[row]);
        assert_eq!(lines[0].find("span"), lines[1].find("1970"));
    }
}
