//! One chart: lines, areas and bands over a common horizontal axis.
//!
//! The plot itself is an SVG that stretches to the width it gets, with strokes that do not; every label is HTML beside
//! it, placed in percent across and in pixels down. Type is therefore of the same size on a phone and on a wide screen,
//! and one drawing serves both. Colours are classes of the style sheet, which knows light and dark.

use crate::report::html::downsample::thin;
use crate::report::html::escape::{escape, push, typeset};
use crate::report::html::scale::{Scale, Unit};

/// Columns that a full-width chart is thinned to: about one per pixel.
pub(super) const FULL_COLUMNS: usize = 900;
/// The same for a chart of a third of the width.
pub(super) const SMALL_COLUMNS: usize = 360;

const WIDTH: f64 = 2000.0;
const HEIGHT: f64 = 1000.0;
/// Moments that can be read out under the pointer.
const N_READOUTS: usize = 300;
/// Height of an end label, in pixels: labels closer than this are pushed apart.
const END_LABEL_PIXELS: f64 = 18.0;

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A line.
    Line,
    /// A line that is there to be compared with.
    Dashed,
    /// Raw values behind a smoothed line.
    Faint,
    /// A line over an area down (or up) to zero.
    Area,
    /// An area to zero without a line.
    Fill,
    /// Not drawn; only read out.
    Unseen,
}

/// One series.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    /// The class that gives it its colour.
    pub(super) class: &'static str,
    pub(super) style: Style,
    /// (place along the axis, value), in order. Thinned when drawn.
    pub(super) points: Vec<(f64, f64)>,
    /// How a value is read out.
    pub(super) words: fn(f64) -> String,
}

/// A horizontal line with a name.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) value: f64,
    pub(super) label: String,
    pub(super) class: &'static str,
}

/// A span of the axis with a shade.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) class: &'static str,
}

/// A chart, ready to be drawn.
pub(super) struct Chart<'a> {
    /// What a person who cannot see it is told.
    pub(super) description: String,
    pub(super) height_pixels: u32,
    /// Low and high end of the horizontal axis.
    pub(super) across: (f64, f64),
    pub(super) across_ticks: Vec<(f64, String)>,
    /// How a place along the axis is read out.
    pub(super) across_words: &'a dyn Fn(f64) -> String,
    pub(super) scale: Scale,
    pub(super) unit: Unit,
    pub(super) n_ticks: usize,
    pub(super) n_columns: usize,
    pub(super) bands: Vec<Band>,
    pub(super) series: Vec<Series>,
    pub(super) rules: Vec<Rule>,
    /// Places along the axis to mark, with a name.
    pub(super) marks: Vec<(f64, String)>,
    /// True where the last value of each series stands beside its end (on screens that have the room).
    pub(super) has_end_labels: bool,
}

impl Chart<'_> {
    /// The chart as HTML.
    pub(super) fn draw(&self) -> String {
        let mut out = String::new();
        let ends = if self.has_end_labels { " with-ends" } else { "" };
        push(
            &mut out,
            format_args!("<div class=\"plot{ends}\" style=\"--height:{}px\">", self.height_pixels),
        );
        let ticks = self.scale.ticks(self.unit, self.n_ticks);
        out.push_str("<div class=\"y\" aria-hidden=\"true\">");
        for (value, label) in &ticks {
            push(
                &mut out,
                format_args!(
                    "<span style=\"top:{:.1}px\">{}</span>",
                    self.down(*value),
                    escape(&typeset(label))
                ),
            );
        }
        push(
            &mut out,
            format_args!(
                "</div><div class=\"area\" role=\"img\" tabindex=\"0\" aria-label=\"{}\" data-readout='{}'>",
                escape(&self.description),
                single_quoted(&self.readouts())
            ),
        );
        self.draw_svg(&mut out, &ticks);
        for rule in &self.rules {
            let place = self.scale.place(rule.value);
            // A label above a line at the top would lie outside.
            let side = if self.down(rule.value) < 22.0 { "below" } else { "above" };
            if (0.0..=1.0).contains(&place) {
                push(
                    &mut out,
                    format_args!(
                        "<span class=\"rule-name {side} {}\" style=\"top:{:.1}px\">{}</span>",
                        rule.class,
                        self.down(rule.value),
                        escape(&rule.label)
                    ),
                );
            } else {
                let (at, arrow) = if place > 1.0 { ("top", "▲") } else { ("bottom", "▼") };
                push(
                    &mut out,
                    format_args!(
                        "<span class=\"beyond {at} {}\">{arrow} {}</span>",
                        rule.class,
                        escape(&rule.label)
                    ),
                );
            }
        }
        for (place, label) in &self.marks {
            let across = self.along(*place) * 100.0;
            let side = if across > 70.0 { "left" } else { "right" };
            push(
                &mut out,
                format_args!(
                    "<span class=\"mark {side}\" style=\"left:{across:.2}%\">{}</span>",
                    escape(label)
                ),
            );
        }
        out.push_str("</div>");
        if self.has_end_labels {
            self.draw_end_labels(&mut out);
        }
        self.draw_across_ticks(&mut out);
        out.push_str("</div>");
        out
    }

    fn draw_svg(&self, out: &mut String, ticks: &[(f64, String)]) {
        push(
            out,
            format_args!(
                "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
            ),
        );
        self.draw_bands(out);
        for (value, _) in ticks {
            let class = if *value == 0.0 && self.scale.ends().0 < 0.0 { "zero" } else { "grid" };
            push(out, format_args!("<path class=\"{class}\" d=\"M0 {:.0}H{WIDTH}\"/>", self.y(*value)));
        }
        for rule in self.rules.iter().filter(|rule| (0.0..=1.0).contains(&self.scale.place(rule.value))) {
            push(
                out,
                format_args!(
                    "<path class=\"rule {}\" d=\"M0 {:.0}H{WIDTH}\"/>",
                    rule.class,
                    self.y(rule.value)
                ),
            );
        }
        for (place, _) in &self.marks {
            push(
                out,
                format_args!(
                    "<path class=\"mark-line\" d=\"M{:.0} 0V{HEIGHT}\"/>",
                    self.along(*place) * WIDTH
                ),
            );
        }
        // The first series is the one that matters: it is drawn last, on top.
        for series in self.series.iter().rev() {
            self.draw_series(out, series);
        }
        out.push_str("</svg>");
    }

    fn draw_bands(&self, out: &mut String) {
        let mut classes: Vec<_> = self.bands.iter().map(|band| band.class).collect();
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            push(out, format_args!("<path class=\"band {class}\" d=\""));
            for band in self.bands.iter().filter(|band| band.class == class) {
                let (from, to) = (self.along(band.from) * WIDTH, self.along(band.to) * WIDTH);
                push(out, format_args!("M{from:.1} 0H{to:.1}V{HEIGHT}H{from:.1}"));
            }
            out.push_str("\"/>");
        }
    }

    fn draw_series(&self, out: &mut String, series: &Series) {
        let points = match series.style {
            Style::Unseen => return,
            Style::Fill => series.points.clone(),
            _ => thin(&series.points, self.n_columns),
        };
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let line = self.line(&points);
        if matches!(series.style, Style::Area | Style::Fill) {
            let (low, high) = self.scale.ends();
            let base = self.y(0f64.clamp(low, high));
            push(
                out,
                format_args!(
                    "<path class=\"fill {}\" d=\"{line}L{:.0} {base:.0}H{:.0}\"/>",
                    series.class,
                    self.along(last.0) * WIDTH,
                    self.along(first.0) * WIDTH
                ),
            );
        }
        let style = match series.style {
            Style::Line | Style::Area => "line",
            Style::Dashed => "line dashed",
            Style::Faint => "line faint",
            Style::Fill | Style::Unseen => return,
        };
        push(out, format_args!("<path class=\"{style} {}\" d=\"{line}\"/>", series.class));
    }

    /// The path of a polyline; points in a level row need only its ends.
    fn line(&self, points: &[(f64, f64)]) -> String {
        let observation_refs: Vec<(i64, i64)> = points
            .iter()
            .map(|&(x, y)| {
                // Far outside the picture is outside: this keeps the numbers short.
                let down = self.y(y).clamp(-HEIGHT, 2.0 * HEIGHT);
                ((self.along(x) * WIDTH).round() as i64, down.round() as i64)
            })
            .collect();
        let mut path = String::new();
        for (at, &(x, y)) in observation_refs.iter().enumerate() {
            let is_inside_level_run = at > 0
                && observation_refs[at - 1].1 == y
                && observation_refs.get(at + 1).is_some_and(|next| next.1 == y);
            if at == 0 {
                push(&mut path, format_args!("M{x} {y}"));
            } else if !is_inside_level_run {
                push(&mut path, format_args!("L{x} {y}"));
            }
        }
        if let [(x, y)] = observation_refs[..] {
            // A lone point has no line: a round cap on a line of no length is a dot.
            push(&mut path, format_args!("L{x} {y}"));
        }
        path
    }

    fn draw_end_labels(&self, out: &mut String) {
        let height = f64::from(self.height_pixels);
        let mut labels: Vec<(f64, &Series, f64)> = self
            .series
            .iter()
            .filter(|series| series.style != Style::Unseen)
            .filter_map(|series| {
                let last = series.points.iter().rev().find(|point| point.1.is_finite())?.1;
                Some((
                    self.down(last).clamp(END_LABEL_PIXELS / 2.0, height - END_LABEL_PIXELS / 2.0),
                    series,
                    last,
                ))
            })
            .collect();
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut tops: Vec<f64> = labels.iter().map(|label| label.0).collect();
        push_apart(&mut tops, height);
        out.push_str("<div class=\"ends\" aria-hidden=\"true\">");
        for ((_, series, last), top) in labels.into_iter().zip(tops) {
            let place = self.scale.place(last);
            let arrow = if place > 1.0 {
                "▲ "
            } else if place < 0.0 {
                "▼ "
            } else {
                ""
            };
            push(
                out,
                format_args!(
                    "<span style=\"top:{top:.1}px\"><i class=\"key {}{}\"></i>{} <b>{arrow}{}</b></span>",
                    series.class,
                    if series.style == Style::Dashed { " dashed" } else { "" },
                    escape(&series.name),
                    typeset(&(series.words)(last))
                ),
            );
        }
        out.push_str("</div>");
    }

    fn draw_across_ticks(&self, out: &mut String) {
        out.push_str("<div class=\"x\" aria-hidden=\"true\">");
        for (at, (place, label)) in self.across_ticks.iter().enumerate() {
            let across = self.along(*place) * 100.0;
            let align = if across < 4.0 {
                " first"
            } else if across > 93.0 {
                " last"
            } else {
                ""
            };
            let minor = if at % 2 == 1 { " minor" } else { "" };
            push(
                out,
                format_args!(
                    "<span class=\"tick{align}{minor}\" style=\"left:{across:.2}%\">{}</span>",
                    escape(&typeset(label))
                ),
            );
        }
        out.push_str("</div>");
    }

    /// What stands under the pointer, as JSON: places in [0, 1], their names, and for each series its values there.
    fn readouts(&self) -> String {
        let longest = self.series.iter().max_by_key(|series| series.points.len());
        let observation_refs: Vec<f64> = match longest {
            Some(series) if series.points.len() <= N_READOUTS => {
                series.points.iter().map(|point| point.0).collect()
            }
            _ => (0..=N_READOUTS)
                .map(|at| {
                    let place =
                        self.across.0 + (self.across.1 - self.across.0) * at as f64 / N_READOUTS as f64;
                    place.round()
                })
                .collect(),
        };
        let rounded: Vec<f64> =
            observation_refs.iter().map(|&place| (self.along(place) * 1e4).round() / 1e4).collect();
        let names: Vec<String> = observation_refs.iter().map(|&place| (self.across_words)(place)).collect();
        let series: Vec<_> = self
            .series
            .iter()
            .filter(|series| !matches!(series.style, Style::Faint | Style::Fill))
            .map(|series| {
                let values: Vec<String> = observation_refs
                    .iter()
                    .map(|&place| {
                        let next = series.points.partition_point(|point| point.0 <= place);
                        let value = next.checked_sub(1).map_or(f64::NAN, |at| series.points[at].1);
                        typeset(&(series.words)(value))
                    })
                    .collect();
                serde_json::json!([series.name, series.class, values])
            })
            .collect();
        serde_json::json!({ "x": rounded, "t": names, "s": series }).to_string()
    }

    /// The place across, in [0, 1].
    fn along(&self, x: f64) -> f64 {
        let (low, high) = self.across;
        if high > low { ((x - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 }
    }

    /// The place down, in units of the drawing.
    fn y(&self, value: f64) -> f64 {
        (1.0 - self.scale.place(value)) * HEIGHT
    }

    /// The place down, in pixels.
    fn down(&self, value: f64) -> f64 {
        (1.0 - self.scale.place(value)) * f64::from(self.height_pixels)
    }
}

/// A legend: a key, a name and a value for each series that is drawn.
pub(super) fn legend(series: &[Series], class: &str) -> String {
    let mut out = format!("<ul class=\"legend {class}\">");
    for series in series.iter().filter(|series| !matches!(series.style, Style::Unseen | Style::Faint)) {
        let last =
            series.points.iter().rev().find(|point| point.1.is_finite()).map(|point| (series.words)(point.1));
        push(
            &mut out,
            format_args!(
                "<li><i class=\"key {}{}\"></i>{} <b>{}</b></li>",
                series.class,
                if series.style == Style::Dashed { " dashed" } else { "" },
                escape(&series.name),
                typeset(&last.unwrap_or_default())
            ),
        );
    }
    out.push_str("</ul>");
    out
}

/// Moves the centres of labels, ascending, so that none covers another and all stay within the height.
fn push_apart(tops: &mut [f64], height: f64) {
    for at in 1..tops.len() {
        tops[at] = tops[at].max(tops[at - 1] + END_LABEL_PIXELS);
    }
    let mut highest = height - END_LABEL_PIXELS / 2.0;
    for top in tops.iter_mut().rev() {
        *top = top.min(highest);
        highest = *top - END_LABEL_PIXELS;
    }
}

/// Makes JSON safe inside an attribute in single quotes, which leaves its many double quotes as they are.
fn single_quoted(json: &str) -> String {
    json.replace('&', "&amp;").replace('\'', "&#39;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart<'static> {
        Chart {
            description: "a <test>".to_string(),
            height_pixels: 200,
            across: (0.0, 10.0),
            across_ticks: vec![(0.0, "start".to_string())],
            across_words: &|x| format!("at {x}"),
            scale: Scale::linear(0.0, 10.0),
            unit: Unit::Number,
            n_ticks: 4,
            n_columns: FULL_COLUMNS,
            bands: vec![Band { from: 0.0, to: 5.0, class: "long" }],
            series: vec![Series {
                name: "a'b<c".to_string(),
                class: "agent",
                style: Style::Line,
                points,
                words: |value| format!("{value}"),
            }],
            rules: Vec::new(),
            marks: Vec::new(),
            has_end_labels: true,
        }
    }

    #[test]
    fn points_land_where_their_values_say() {
        let html = chart(vec![(0.0, 0.0), (5.0, 10.0), (10.0, 5.0)]).draw();
        assert!(html.contains("d=\"M0 1000L1000 0L2000 500\""), "{html}");
        assert!(html.contains("M0.0 0H1000.0V1000H0.0"), "{html}");
    }

    #[test]
    fn a_rule_beyond_the_axis_is_named_and_does_not_squash_it() {
        let mut chart = chart(vec![(0.0, 0.0), (10.0, 5.0)]);
        chart.rules.push(Rule { value: 1000.0, label: "the limit".to_string(), class: "limit" });
        let html = chart.draw();
        assert!(html.contains("▲ the limit"), "{html}");
        assert!(!html.contains("class=\"rule "), "{html}");
    }

    #[test]
    fn names_cannot_leave_their_attribute() {
        let html = chart(vec![(0.0, 1.0)]).draw();
        assert!(html.contains("a&#39;b&lt;c"), "{html}");
        assert!(!html.contains("<c") && !html.contains("<test>"), "{html}");
    }

    #[test]
    fn level_stretches_are_drawn_by_their_ends() {
        let html = chart((0..=10).map(|i| (f64::from(i), 5.0)).collect()).draw();
        assert!(html.contains("d=\"M0 500L2000 500\""), "{html}");
    }

    #[test]
    fn end_labels_never_overlap_and_stay_inside() {
        let mut tops = [9.0, 10.0, 11.0, 190.0, 191.0];
        push_apart(&mut tops, 200.0);
        assert!(tops.windows(2).all(|pair| pair[1] - pair[0] >= END_LABEL_PIXELS), "{tops:?}");
        assert!(tops[0] >= 9.0 && tops[4] <= 191.0, "{tops:?}");
    }
}
