//! The sections on the test part of a market: equity, drawdown, positions.
//!
//! All charts here run along bars, not along time: a market that is closed takes no room, so sessions and weekends do
//! not stretch the lines. Labels tell the time.

use crate::format;
use crate::report::html::chart::{Band, Chart, FULL_COLUMNS, SMALL_COLUMNS, Series, Style, legend};
use crate::report::html::downsample::position_columns;
use crate::report::html::escape::{escape, push, typeset};
use crate::report::html::report_data::{Curve, Market, Positions, Role};
use crate::report::html::scale::{Scale, Unit, range, time_ticks};

/// A curve may widen the axis of the agent's by this much; one that would widen it further leaves the chart.
const MOST_WIDENING: f64 = 3.5;
/// The share of a logarithmic axis that the agent's curve has at least: with less it could not be read.
const LEAST_LOG_SHARE: f64 = 0.12;
/// Panels of positions beyond this many are drawn with fewer columns, to keep the page small.
const N_FULL_PANELS: usize = 3;

/// The class and the line of a curve or a row, from its role and its number among those of that role.
pub(super) fn look(role: Role, number: usize) -> (&'static str, Style) {
    const BASELINES: [&str; 6] = ["b0", "b1", "b2", "b3", "b4", "b5"];
    match role {
        Role::Agent => ("agent", Style::Line),
        Role::Baseline => (BASELINES[number % BASELINES.len()], Style::Line),
        Role::Beside => ("other", Style::Line),
        Role::Oracle => ("oracle", Style::Dashed),
    }
}

/// The looks of a list of results, each by its role, in order.
pub(super) fn looks(roles: impl Iterator<Item = Role>) -> Vec<(&'static str, Style)> {
    let mut n_baselines = 0;
    roles
        .map(|role| {
            let look = look(role, n_baselines);
            n_baselines += usize::from(role == Role::Baseline);
            look
        })
        .collect()
}

/// Equity and drawdown.
pub(super) fn equity_section(market: &Market) -> String {
    let times = all_times(&market.curves);
    if times.is_empty() {
        return String::new();
    }
    let series = equity_series(market, &times);
    let EquityAxis { scale, is_log, beyond } = equity_axis(&series);
    let mut out = String::from(
        "<section class=\"card\" aria-labelledby=\"equity\"><h2 id=\"equity\">Test part: equity</h2>",
    );
    push(
        &mut out,
        format_args!(
            "<p class=\"note\">Profit since the starting balance, costs paid: {}. <time>{}</time> to <time>{}</time> UTC, {} bars. The axis counts \
             bars: time without bars takes no room.{}</p>",
            escape(&market.costs),
            format::utc_minute(times[0]),
            format::utc_minute(times[times.len() - 1]),
            format::count(times.len() as u64),
            if is_log {
                " The vertical axis is logarithmic: the same factor is as long everywhere."
            } else {
                ""
            }
        ),
    );
    out.push_str(&legend(&series, "narrow-only"));
    let words = |place: f64| bar_time(&times, place);
    let chart = Chart {
        description: describe(&series),
        height_pixels: 320,
        across: (0.0, times.len().saturating_sub(1) as f64),
        across_ticks: time_ticks(&times, 6),
        across_words: &words,
        scale,
        unit: Unit::Change,
        n_ticks: 7,
        n_columns: FULL_COLUMNS,
        bands: Vec::new(),
        series,
        rules: Vec::new(),
        marks: Vec::new(),
        has_end_labels: true,
    };
    out.push_str(&chart.draw());
    if !beyond.is_empty() {
        push(
            &mut out,
            format_args!(
                "<p class=\"note\">Runs out of this chart, which is scaled to the agent: {}. The table has all numbers.</p>",
                escape(&beyond.join(", "))
            ),
        );
    }
    out.push_str(&drawdown_chart(market, &times));
    out.push_str("</section>");
    out
}

fn drawdown_chart(market: &Market, times: &[i64]) -> String {
    let looks = looks(market.curves.iter().map(|curve| curve.role));
    let fall = |curve: &Curve, look: (&'static str, Style), style| Series {
        name: curve.name.clone(),
        class: look.0,
        style,
        points: along_bars(&curve.times_millis, &drawdown(market.starting_balance, &curve.values), times),
        words: format::percent,
    };
    let mut series: Vec<Series> = Vec::new();
    if let Some(at) = market.curves.iter().position(|curve| curve.role == Role::Agent) {
        series.push(fall(&market.curves[at], looks[at], Style::Area));
    }
    // A baseline that never trades has no drawdown to compare with.
    let best = (0..market.curves.len())
        .filter(|&at| market.curves[at].role == Role::Baseline)
        .filter(|&at| {
            let (low, high) = range(market.curves[at].values.iter().copied());
            high > low
        })
        .max_by(|&a, &b| last(&market.curves[a]).total_cmp(&last(&market.curves[b])));
    if let Some(at) = best {
        series.push(fall(&market.curves[at], looks[at], Style::Line));
    }
    if series.is_empty() {
        return String::new();
    }
    let deepest = |series: &Series| range(series.points.iter().map(|point| point.1)).0.min(0.0);
    // As with equity, a baseline that fell much deeper leaves the chart.
    let own = deepest(&series[0]).min(-0.002);
    let low = series.iter().map(deepest).filter(|low| *low >= own * MOST_WIDENING).fold(own, f64::min);
    let mut out = String::from(
        "<h3>Drawdown</h3><p class=\"note\">Fall below the highest equity so far, the starting balance included. Deepest: ",
    );
    let words: Vec<String> = series
        .iter()
        .map(|series| format!("{} {}", escape(&series.name), typeset(&format::percent(deepest(series)))))
        .collect();
    push(&mut out, format_args!("{}.</p>", words.join(", ")));
    let words = |place: f64| bar_time(times, place);
    let chart = Chart {
        description: "Drawdown of the agent over the test part".to_string(),
        height_pixels: 120,
        across: (0.0, times.len().saturating_sub(1) as f64),
        across_ticks: time_ticks(times, 6),
        across_words: &words,
        scale: Scale::linear(low * 1.08, 0.0),
        unit: Unit::Change,
        n_ticks: 4,
        n_columns: FULL_COLUMNS,
        bands: Vec::new(),
        series,
        rules: Vec::new(),
        marks: Vec::new(),
        has_end_labels: true,
    };
    out.push_str(&chart.draw());
    out
}

/// The agent's positions, one panel per instrument; all but the first are folded.
pub(super) fn positions_section(market: &Market) -> String {
    let panels: Vec<&Positions> = market.positions.iter().filter(|panel| !panel.price.is_empty()).collect();
    if panels.is_empty() {
        return String::new();
    }
    let n_columns = if panels.len() > N_FULL_PANELS { SMALL_COLUMNS } else { FULL_COLUMNS };
    let mut out = String::from(
        "<section class=\"card\" aria-labelledby=\"positions\"><h2 id=\"positions\">Test part: positions on the price</h2>\
         <ul class=\"legend\"><li><i class=\"swatch long\"></i>long</li><li><i class=\"swatch short\"></i>short</li>\
         <li><i class=\"swatch flat\"></i>flat</li><li><i class=\"key price\"></i>price</li></ul>",
    );
    for (at, panel) in panels.iter().enumerate() {
        if panels.len() == 1 {
            out.push_str(&positions_panel(panel, n_columns));
            continue;
        }
        push(
            &mut out,
            format_args!(
                "<details{}><summary>{}</summary>{}</details>",
                if at == 0 { " open" } else { "" },
                escape(&panel.instrument),
                positions_panel(panel, n_columns)
            ),
        );
    }
    out.push_str("</section>");
    out
}

fn positions_panel(panel: &Positions, n_columns: usize) -> String {
    let times = &panel.times_millis;
    let n_bars = panel.price.len().min(panel.position.len()).min(times.len());
    let columns = position_columns(&panel.position[..n_bars], n_columns);
    let mut bands: Vec<Band> = Vec::new();
    let (mut long, mut short) = (Vec::new(), Vec::new());
    for column in &columns {
        let (from, to) = (column.from as f64, column.to as f64);
        let class = if column.most > 0 { "long" } else { "short" };
        match bands.last_mut() {
            _ if column.most == 0 => {}
            Some(band) if band.class == class && band.to == from => band.to = to,
            _ => bands.push(Band { from, to, class }),
        }
        long.extend([(from, column.mean.max(0.0)), (to, column.mean.max(0.0))]);
        short.extend([(from, column.mean.min(0.0)), (to, column.mean.min(0.0))]);
    }
    let price: Vec<(f64, f64)> =
        panel.price[..n_bars].iter().enumerate().map(|(bar, &p)| (bar as f64, p)).collect();
    let position: Vec<(f64, f64)> =
        panel.position[..n_bars].iter().enumerate().map(|(bar, &p)| (bar as f64, f64::from(p))).collect();
    let (low, high) = range(price.iter().map(|point| point.1));
    let words = |place: f64| bar_time(times, place);
    let across = (0.0, n_bars as f64);
    let mut out = String::new();
    push(
        &mut out,
        format_args!(
            "<p class=\"note\">{}: long {}, short {}, flat {} of {} bars.{}</p>",
            escape(&panel.instrument),
            share(&panel.position[..n_bars], |position| position > 0),
            share(&panel.position[..n_bars], |position| position < 0),
            share(&panel.position[..n_bars], |position| position == 0),
            format::count(n_bars as u64),
            if n_bars > n_columns {
                format!(
                    " A column is about {} bars wide; its shade is the position held longest, the strip below the mean position.",
                    n_bars.div_ceil(n_columns)
                )
            } else {
                String::new()
            }
        ),
    );
    let line = |name: &str, class, style, points, words| Series {
        name: name.to_string(),
        class,
        style,
        points,
        words,
    };
    let side: fn(f64) -> String = |position| match position {
        p if p > 0.0 => "long".to_string(),
        p if p < 0.0 => "short".to_string(),
        _ => "flat".to_string(),
    };
    let chart = Chart {
        description: format!(
            "Price of {} with the agent's long and short positions shaded",
            panel.instrument
        ),
        height_pixels: 240,
        across,
        across_ticks: Vec::new(),
        across_words: &words,
        scale: Scale::padded(low, high),
        unit: Unit::Number,
        n_ticks: 6,
        n_columns,
        bands,
        series: vec![
            line("price", "price", Style::Line, price, format::number),
            line("position", "agent", Style::Unseen, position, side),
        ],
        rules: Vec::new(),
        marks: Vec::new(),
        has_end_labels: false,
    };
    out.push_str(&chart.draw());
    let strip = Chart {
        description: format!("Mean position of the agent in {}, from short to long", panel.instrument),
        height_pixels: 56,
        across_ticks: time_ticks(&times[..n_bars], 6),
        scale: Scale::linear(-1.0, 1.0),
        unit: Unit::Side,
        bands: Vec::new(),
        series: vec![
            line("long", "long", Style::Fill, long, format::number),
            line("short", "short", Style::Fill, short, format::number),
        ],
        ..chart
    };
    out.push_str(&strip.draw());
    out
}

fn equity_series(market: &Market, times: &[i64]) -> Vec<Series> {
    let looks = looks(market.curves.iter().map(|curve| curve.role));
    let mut series: Vec<(Role, Series)> = market
        .curves
        .iter()
        .zip(looks)
        .map(|(curve, (class, style))| {
            let profit: Vec<f64> =
                curve.values.iter().map(|value| value / market.starting_balance - 1.0).collect();
            let points = along_bars(&curve.times_millis, &profit, times);
            (
                curve.role,
                Series { name: curve.name.clone(), class, style, points, words: format::signed_percent },
            )
        })
        .collect();
    series.sort_by_key(|(role, _)| *role != Role::Agent);
    series.into_iter().map(|(_, series)| series).collect()
}

/// The vertical axis of equity.
struct EquityAxis {
    scale: Scale,
    is_log: bool,
    /// The names of the curves that leave it.
    beyond: Vec<String>,
}

/// An axis on which the agent's curve (the first) can be read. Where a linear one would leave curves out, it is a
/// logarithmic one if that shows all of them and the agent.
fn equity_axis(series: &[Series]) -> EquityAxis {
    let span = |series: &Series| {
        let (low, high) = range(series.points.iter().map(|point| point.1));
        (low.min(0.0), high.max(0.0))
    };
    let spans: Vec<(f64, f64)> = series.iter().map(span).collect();
    let union = |a: (f64, f64), b: (f64, f64)| (a.0.min(b.0), a.1.max(b.1));
    let width = |span: (f64, f64)| span.1 - span.0;
    // An agent that hardly moves gives no axis: then the calmest curve that does move gives it.
    let own = spans.first().copied().unwrap_or((0.0, 0.0));
    let calmest = spans
        .iter()
        .copied()
        .filter(|&span| width(span) >= 0.01)
        .min_by(|&a, &b| width(a).total_cmp(&width(b)));
    let start = if width(own) >= 0.01 { own } else { union(own, calmest.unwrap_or(own)) };
    let within = |axis: (f64, f64), most: f64| {
        let fits = move |&span: &(f64, f64)| width(union(axis, span)) <= most * width(axis);
        spans.iter().copied().filter(fits).fold(axis, union)
    };
    // What is only a little wider than the axis so found is not worth leaving out.
    let (low, high) = within(within(start, MOST_WIDENING), 1.3);
    let is_beyond = |span: (f64, f64)| span.0 < low || span.1 > high;
    let beyond = series
        .iter()
        .zip(&spans)
        .filter(|(_, span)| is_beyond(**span))
        .map(|(series, _)| series.name.clone());
    let beyond: Vec<String> = beyond.collect();
    let (lowest, highest) = spans.iter().copied().fold(start, union);
    let growth = Scale::growth(lowest, highest);
    if !beyond.is_empty() && growth.place(start.1) - growth.place(start.0) >= LEAST_LOG_SHARE {
        return EquityAxis { scale: growth, is_log: true, beyond: Vec::new() };
    }
    EquityAxis { scale: Scale::padded(low, high), is_log: false, beyond }
}

/// The times of all curves, each once.
fn all_times(curves: &[Curve]) -> Vec<i64> {
    let mut times: Vec<i64> = curves.iter().flat_map(|curve| curve.times_millis.iter().copied()).collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// Values at the numbers of their bars.
fn along_bars(times_millis: &[i64], values: &[f64], all_times: &[i64]) -> Vec<(f64, f64)> {
    times_millis
        .iter()
        .zip(values)
        .map(|(time, &value)| (all_times.partition_point(|other| other < time) as f64, value))
        .collect()
}

fn bar_time(times: &[i64], place: f64) -> String {
    let bar = (place.max(0.0) as usize).min(times.len().saturating_sub(1));
    times.get(bar).map_or_else(String::new, |&time| format::utc_minute(time))
}

fn describe(series: &[Series]) -> String {
    let ends: Vec<String> = series
        .iter()
        .filter_map(|series| Some(format!("{} {}", series.name, (series.words)(series.points.last()?.1))))
        .collect();
    format!("Profit over the test part. At its end: {}", ends.join(", "))
}

fn share(position: &[i8], is_meant: fn(i8) -> bool) -> String {
    let n = position.iter().filter(|&&position| is_meant(position)).count();
    typeset(&format::percent(n as f64 / position.len().max(1) as f64))
}

fn last(curve: &Curve) -> f64 {
    curve.values.last().copied().unwrap_or(f64::NEG_INFINITY)
}

/// The drawdown from the highest equity so far, as fractions ≤ 0; the starting balance counts as the first equity.
fn drawdown(starting_balance: f64, equity: &[f64]) -> Vec<f64> {
    let mut highest = starting_balance;
    equity
        .iter()
        .map(|&value| {
            highest = highest.max(value);
            if highest > 0.0 { value / highest - 1.0 } else { f64::NAN }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[f64]) -> Series {
        Series {
            name: name.to_owned(),
            class: "agent",
            style: Style::Line,
            points: values.iter().enumerate().map(|(at, &value)| (at as f64, value)).collect(),
            words: format::signed_percent,
        }
    }

    #[test]
    fn curves_that_would_vanish_get_a_logarithmic_axis_where_all_can_be_read() {
        let agent = series("agent", &[0.0, 0.4, -0.3]);
        let axis = equity_axis(&[agent.clone(), series("oracle", &[0.0, 12.46])]);
        assert!(axis.is_log && axis.beyond.is_empty());
        assert!((0.0..=1.0).contains(&axis.scale.place(12.46)) && axis.scale.place(-0.3) > 0.0);
        // An agent that hardly moves could not be read beside it.
        let still = series("agent", &[0.0, 0.02, -0.01]);
        let axis = equity_axis(&[still, series("oracle", &[0.0, 12.46])]);
        assert!(!axis.is_log && axis.beyond == ["oracle"]);
        assert!(!equity_axis(&[agent, series("held", &[0.0, 0.5])]).is_log);
    }

    #[test]
    fn drawdown_starts_from_the_starting_balance() {
        let falls = drawdown(100.0, &[95.0, 110.0, 99.0, 120.0]);
        let expected = [-0.05, 0.0, -0.1, 0.0];
        assert!(
            falls.iter().zip(expected).all(|(fall, expected)| (fall - expected).abs() < 1e-12),
            "{falls:?}"
        );
    }
}
