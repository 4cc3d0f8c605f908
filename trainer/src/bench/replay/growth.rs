//! How inserting and sampling grow with the transitions held: points, and a plot that needs nothing else.
//!
//! Across is logarithmic and up is linear, so what grows as a logarithm is a straight line.

use std::fmt::Write as _;
use std::path::Path;

use buffers::replay::Tier;
use serde::Serialize;

use crate::bench::replay::measured::Bench;
use crate::bench::replay::writing;
use crate::console::say;
use crate::error::Result;
use crate::{atomic_file, format};

/// Transitions held at the points.
const SIZES: [usize; 9] = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];
/// Transitions of a batch.
const BATCH: usize = 256;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 300.0;
/// Left, right, top and bottom edge of the plot.
const EDGES: [f64; 4] = [70.0, 850.0, 30.0, 250.0];

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:920px;margin:32px auto;padding:0 16px;\
    color:#11181f;background:#fff}svg{width:100%;height:auto}text{font-size:12px;fill:#55616d}.grid{stroke:#e8ecf0}\
    .line{fill:none;stroke:#1666cc;stroke-width:2}.fit{fill:none;stroke:#7d8793;stroke-dasharray:5 4}\
    .point{fill:#1666cc}@media (prefers-color-scheme:dark){body{color:#e8edf2;background:#0c1116}\
    text{fill:#97a3af}.grid{stroke:#222a33}.line{stroke:#5aa5ff}.point{fill:#5aa5ff}}";

/// What a replay of one size takes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Point {
    transitions: usize,
    insert_nanos: f64,
    sample_nanos: f64,
}

/// Measures a full hot replay of each size up to `most`.
pub(super) fn measure(bench: &Bench, most: usize) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for transitions in SIZES.into_iter().filter(|size| *size <= most) {
        say(&format!("measuring growth at {}", format::count(transitions as u64)));
        let (mut filled, mut play) = bench.work.filled(transitions, Tier::Hot)?;
        let samples = bench.rate(|| filled.sample_and_update(BATCH).map(|()| BATCH))?;
        let inserts = writing::inserts_per_second(bench, &mut filled.replay, &mut play)?;
        points.push(Point { transitions, insert_nanos: 1e9 / inserts, sample_nanos: 1e9 / samples });
    }
    Ok(points)
}

/// The points as a table.
pub(super) fn text(points: &[Point]) -> String {
    let mut text = format!("\n{:>14} {:>18} {:>18}\n", "transitions", "insert, ns", "sample+update, ns");
    for Point { transitions, insert_nanos, sample_nanos } in points {
        let transitions = format::count(*transitions as u64);
        let _ = writeln!(text, "{transitions:>14} {insert_nanos:>18.1} {sample_nanos:>18.1}");
    }
    for (name, values) in series(points) {
        let _ = writeln!(text, "{}", fit_in_words(name, points, &values));
    }
    text
}

/// Writes the points: as a page where the file's name says so, as CSV elsewhere.
pub(super) fn write(points: &[Point], path: &Path) -> Result<()> {
    let is_page = path.extension().is_some_and(|extension| extension == "html");
    atomic_file::write_aside(path, if is_page { page(points) } else { csv(points) }.as_bytes())
}

fn csv(points: &[Point]) -> String {
    let mut text = "transitions,insert_nanos,sample_nanos\n".to_owned();
    for Point { transitions, insert_nanos, sample_nanos } in points {
        let _ = writeln!(text, "{transitions},{insert_nanos:.2},{sample_nanos:.2}");
    }
    text
}

fn series(points: &[Point]) -> [(&'static str, Vec<f64>); 2] {
    [
        ("insert, ns a transition", points.iter().map(|point| point.insert_nanos).collect()),
        ("sample and update, ns a transition", points.iter().map(|point| point.sample_nanos).collect()),
    ]
}

/// Least squares of `a + b log10 n`.
fn fit(points: &[Point], values: &[f64]) -> [f64; 2] {
    let across: Vec<f64> = points.iter().map(|point| (point.transitions as f64).log10()).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (mean_across, mean_value) = (mean(&across), mean(values));
    let spread: f64 = across.iter().map(|x| (x - mean_across).powi(2)).sum();
    let product: f64 = across.iter().zip(values).map(|(x, y)| (x - mean_across) * (y - mean_value)).sum();
    let slope = if spread > 0.0 { product / spread } else { 0.0 };
    [mean_value - slope * mean_across, slope]
}

fn fit_in_words(name: &str, points: &[Point], values: &[f64]) -> String {
    let [base, slope] = fit(points, values);
    format!("{name}: {base:.0} + {slope:.0} log10(transitions)")
}

fn page(points: &[Point]) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>Growth of the replay – Plimsoll</title><style>{STYLE}</style></head><body>\
         <h1>Growth of the replay</h1><p>A full hot replay of each size, one thread, medians. Dashed: the best \
         logarithm, a straight line here.</p>"
    );
    for (name, values) in series(points) {
        let _ = write!(
            page,
            "<h2>{name}</h2><p>{}</p>{}",
            fit_in_words(name, points, &values),
            plot(points, &values)
        );
    }
    page.push_str("</body></html>\n");
    page
}

fn plot(points: &[Point], values: &[f64]) -> String {
    let [left, right, top, bottom] = EDGES;
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let decades = (last.transitions as f64 / first.transitions as f64).log10().max(1e-9);
    let highest = values.iter().copied().fold(0.0, f64::max) * 1.15;
    let across = |n: f64| left + (n / first.transitions as f64).log10() / decades * (right - left);
    let up = |value: f64| bottom - value / highest * (bottom - top);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for i in 0..=4 {
        let value = highest * f64::from(i) / 4.0;
        let y = up(value);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/><text x=\"{:.0}\" y=\"{:.1}\" \
             text-anchor=\"end\">{value:.0}</text>",
            left - 8.0,
            y + 4.0
        );
    }
    for point in points {
        let (x, n) = (across(point.transitions as f64), format::count(point.transitions as u64));
        let y = bottom + 20.0;
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{n}</text>");
    }
    let [base, slope] = fit(points, values);
    let fitted = |point: &Point| up(base + slope * (point.transitions as f64).log10());
    let _ = write!(
        svg,
        "<path class=\"fit\" d=\"M{left} {:.1}L{right} {:.1}\"/><path class=\"line\" d=\"",
        fitted(first),
        fitted(last)
    );
    for (i, (point, value)) in points.iter().zip(values).enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        let _ = write!(svg, "{command}{:.1} {:.1}", across(point.transitions as f64), up(*value));
    }
    svg.push_str("\"/>");
    for (point, value) in points.iter().zip(values) {
        let (x, y) = (across(point.transitions as f64), up(*value));
        let _ = write!(
            svg,
            "<circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{value:.0} ns</title></circle>"
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_as_a_logarithm_fits_one() {
        let value = |n: usize| 40.0 + 7.0 * (n as f64).log10();
        let points: Vec<Point> = SIZES
            .iter()
            .map(|n| Point { transitions: *n, insert_nanos: value(*n), sample_nanos: 2.0 * value(*n) })
            .collect();
        for ((_, values), times) in series(&points).into_iter().zip([1.0, 2.0]) {
            let [base, slope] = fit(&points, &values);
            assert!((base - 40.0 * times).abs() < 1e-9 && (slope - 7.0 * times).abs() < 1e-9);
        }
        assert_eq!(page(&points).matches("<circle").count(), 2 * SIZES.len());
        assert_eq!(csv(&points).lines().count(), 1 + SIZES.len());
    }
}
