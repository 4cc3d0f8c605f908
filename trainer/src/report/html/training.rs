//! The sections on the training: learning curves and memory.

use crate::format;
use crate::report::html::chart::{Chart, FULL_COLUMNS, Rule, SMALL_COLUMNS, Series, Style, legend};
use crate::report::html::escape::{escape, push, typeset};
use crate::report::html::report_data::{Along, LearningCurve, Memory};
use crate::report::html::scale::{Scale, Unit, range};

/// Points from which on a learning curve is smoothed.
const SMOOTHED_FROM: usize = 60;
/// A line further above the data than this is named at the top instead of drawn.
const FAR_ABOVE: f64 = 2.5;

/// Small charts, one per measure.
pub(super) fn learning_section(curves: &[LearningCurve]) -> String {
    let charts: Vec<String> = curves.iter().filter_map(learning_chart).collect();
    if charts.is_empty() {
        return String::new();
    }
    format!(
        "<section class=\"card\" aria-labelledby=\"learning\"><h2 id=\"learning\">Learning</h2><p class=\"note\">Along the \
         environment steps of the training.</p><div class=\"grid\">{}</div></section>",
        charts.concat()
    )
}

fn learning_chart(curve: &LearningCurve) -> Option<String> {
    let points: Vec<(f64, f64)> = curve
        .points
        .iter()
        .map(|&(step, value)| (step as f64, value))
        .filter(|point| point.1.is_finite())
        .collect();
    let (first, last) = (*points.first()?, *points.last()?);
    let (unit, words): (Unit, fn(f64) -> String) = if curve.is_percent {
        (Unit::Change, format::signed_percent)
    } else {
        (Unit::Number, format::number)
    };
    let smoothed = (points.len() >= SMOOTHED_FROM).then(|| moving_mean(&points, points.len() / 20));
    let is_smoothed = smoothed.is_some();
    let line = |style, points| Series { name: curve.title.clone(), class: "agent", style, points, words };
    let reference = curve.reference.as_ref().map(|reference| reference.0);
    let scale = Scale::fitting(points.iter().map(|point| point.1).chain(reference));
    let series = match smoothed {
        Some(smoothed) => vec![line(Style::Line, smoothed), line(Style::Faint, points)],
        None => vec![line(Style::Line, points)],
    };
    let rules = curve.reference.iter().map(|(value, name)| Rule {
        value: *value,
        label: format!("{name} {}", typeset(&words(*value))),
        class: "reference",
    });
    let chart = Chart {
        description: format!(
            "{} over {} environment steps, from {} to {}",
            curve.title,
            format::count(last.0 as u64),
            words(first.1),
            words(last.1)
        ),
        height_pixels: 180,
        across: (0.0, last.0),
        across_ticks: Scale::linear(0.0, last.0).ticks(Unit::Count, 3),
        across_words: &|step| format!("step {}", format::count(step as u64)),
        scale,
        unit,
        n_ticks: 6,
        n_columns: SMALL_COLUMNS,
        bands: Vec::new(),
        series,
        rules: rules.collect(),
        marks: curve.mark.iter().map(|(step, name)| (*step as f64, name.clone())).collect(),
        has_end_labels: false,
    };
    let mut notes = vec![escape(&curve.note)];
    if scale.is_log() {
        notes.push("logarithmic axis".to_string());
    }
    if is_smoothed {
        notes.push("strong line: moving mean over a twentieth of the run".to_string());
    }
    notes.retain(|note| !note.is_empty());
    Some(format!(
        "<figure><figcaption><h3>{}</h3><p class=\"note\">{}</p></figcaption>{}</figure>",
        escape(&curve.title),
        notes.join("; "),
        chart.draw()
    ))
}

/// Memory against the memory limit.
pub(super) fn memory_section(memory: &Memory) -> String {
    let series_of = |name: &str, class, style, points: &[(f64, u64)]| Series {
        name: name.to_string(),
        class,
        style,
        points: points.iter().map(|&(at, n_bytes)| (at, n_bytes as f64)).collect(),
        words: |value| Unit::Bytes.value(value),
    };
    let mut series = Vec::new();
    if !memory.resident.is_empty() {
        series.push(series_of("resident", "resident", Style::Area, &memory.resident));
    }
    if !memory.counted.is_empty() {
        series.push(series_of("counted by the ledger", "counted", Style::Line, &memory.counted));
    }
    if series.is_empty() {
        return String::new();
    }
    let highest = |points: &[(f64, u64)]| points.iter().map(|point| point.1).max().unwrap_or(0);
    let peak = memory.peak_resident_bytes.unwrap_or(0).max(highest(&memory.resident));
    let drawn = peak.max(highest(&memory.counted)) as f64;
    let end = range(series.iter().flat_map(|series| series.points.iter().map(|point| point.0))).1;
    let limit = memory.limit_bytes.map(|n_bytes| n_bytes as f64);
    let top = limit.filter(|limit| *limit <= FAR_ABOVE * drawn).map_or(drawn, |limit| limit.max(drawn));
    let mut out = String::from(
        "<section class=\"card\" aria-labelledby=\"memory\"><h2 id=\"memory\">Memory</h2><p class=\"note\">",
    );
    push(
        &mut out,
        format_args!("Resident bytes of the whole process; highest seen: {}", typeset(&format::bytes(peak))),
    );
    match memory.limit_bytes {
        Some(limit) if limit > 0 => push(
            &mut out,
            format_args!(
                ", which is {} of the memory limit of {}.</p>",
                typeset(&format::percent(peak as f64 / limit as f64)),
                typeset(&format::bytes(limit))
            ),
        ),
        _ => out.push_str(". No memory limit was set.</p>"),
    }
    out.push_str(&legend(&series, ""));
    let (unit, words): (Unit, &dyn Fn(f64) -> String) = match memory.along {
        Along::Seconds => (Unit::Seconds, &format::duration),
        Along::EnvironmentSteps => (Unit::Count, &|step| format!("step {}", format::count(step as u64))),
    };
    let chart = Chart {
        description: format!("Resident bytes over the run; highest {}", format::bytes(peak)),
        height_pixels: 220,
        across: (0.0, end),
        across_ticks: Scale::linear(0.0, end).ticks(unit, 5),
        across_words: words,
        // A memory limit that is only named stands above the data, not on them.
        scale: Scale::linear(0.0, top * if limit.is_some_and(|limit| limit > top) { 1.35 } else { 1.12 }),
        unit: Unit::Bytes,
        n_ticks: 6,
        n_columns: FULL_COLUMNS,
        bands: Vec::new(),
        series,
        rules: limit
            .map(|value| Rule {
                value,
                label: format!(
                    "the memory limit: {}{}",
                    typeset(&format::bytes(value as u64)),
                    far_above(value, top, peak)
                ),
                class: "limit",
            })
            .into_iter()
            .collect(),
        marks: Vec::new(),
        has_end_labels: false,
    };
    out.push_str(&chart.draw());
    push(
        &mut out,
        format_args!(
            "<p class=\"note\">Along {}.</p></section>",
            match memory.along {
                Along::Seconds => "the time since the run began",
                Along::EnvironmentSteps => "environment steps",
            }
        ),
    );
    out
}

fn far_above(limit: f64, top: f64, peak: u64) -> String {
    if limit > top && peak > 0 {
        let ratio = limit / peak as f64;
        format!(", {} × the highest seen", format::fixed(ratio, usize::from(ratio < 9.95)))
    } else {
        String::new()
    }
}

/// A mean over a window around each point; nearer the ends the window is what there is.
fn moving_mean(points: &[(f64, f64)], width: usize) -> Vec<(f64, f64)> {
    let half = (width / 2).max(1);
    (0..points.len())
        .map(|at| {
            let window = &points[at.saturating_sub(half)..(at + half + 1).min(points.len())];
            (points[at].0, window.iter().map(|point| point.1).sum::<f64>() / window.len() as f64)
        })
        .collect()
}
