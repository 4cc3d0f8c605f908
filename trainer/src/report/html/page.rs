//! The page: its head, and its sections in the order in which they are read.

use crate::format;
use crate::report::html::details::details_section;
use crate::report::html::escape::{escape, push};
use crate::report::html::market::{equity_section, positions_section};
use crate::report::html::report_data::{DataPart, ReportData, Tile};
use crate::report::html::table::{performance_section, returns_section};
use crate::report::html::training::{learning_section, memory_section};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("readout.js");

/// Tiles in a row of a wide screen, at most.
const MOST_TILES: usize = 6;

/// A ship's load line: the mark that the program is named for.
const LOGO: &str = "<svg class=\"logo\" viewBox=\"0 0 40 40\" aria-hidden=\"true\"><circle cx=\"20\" cy=\"20\" r=\"12\"/>\
                    <path d=\"M2 20H38\"/></svg>";

pub(super) fn page(report: &ReportData) -> String {
    let mut out = String::with_capacity(256 << 10);
    push(
        &mut out,
        format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
             <title>{} – Plimsoll</title><style>{STYLE}</style></head><body><main>",
            escape(&report.title)
        ),
    );
    out.push_str(&head(report));
    out.push_str(&tiles(&report.tiles));
    if let Some(market) = &report.market {
        out.push_str(&performance_section(market));
        out.push_str(&equity_section(market));
    }
    out.push_str(&returns_section(&report.returns));
    out.push_str(&limitations(&report.limitations));
    if let Some(market) = &report.market {
        out.push_str(&positions_section(market));
        out.push_str(&details_section(market));
    }
    out.push_str(&learning_section(&report.learning));
    if let Some(memory) = &report.memory {
        out.push_str(&memory_section(memory));
    }
    out.push_str(&data(&report.data, &report.parts));
    out.push_str(&run(report));
    push(&mut out, format_args!("</main><script>{SCRIPT}</script></body></html>\n"));
    out
}

fn head(report: &ReportData) -> String {
    let mut out = format!("<header><p class=\"brand\">{LOGO}Plimsoll</p><h1>{}</h1>", escape(&report.title));
    if !report.subtitle.is_empty() {
        push(&mut out, format_args!("<p class=\"subtitle\">{}</p>", escape(&report.subtitle)));
    }
    if let Some(verdict) = &report.verdict {
        push(&mut out, format_args!("<p class=\"verdict\">{}</p>", escape(verdict)));
    }
    out.push_str("</header>");
    out
}

fn tiles(tiles: &[Tile]) -> String {
    if tiles.is_empty() {
        return String::new();
    }
    // Rows as even as they can be: a lone tile in the last row looks like a mistake.
    let n_columns = tiles.len().div_ceil(tiles.len().div_ceil(MOST_TILES));
    let mut out = format!("<dl class=\"tiles\" style=\"--columns:{n_columns}\" aria-label=\"Key numbers\">");
    for tile in tiles {
        push(&mut out, format_args!("<div><dt>{}</dt><dd>{}", escape(&tile.label), escape(&tile.value)));
        if let Some(note) = &tile.note {
            push(&mut out, format_args!("<small>{}</small>", escape(note)));
        }
        out.push_str("</dd></div>");
    }
    out.push_str("</dl>");
    out
}

fn limitations(notes: &[String]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let items: String = notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
    format!(
        "<section class=\"card limitations\" aria-labelledby=\"limitations\"><h2 id=\"limitations\">Limitations</h2><p class=\"note\">What these \
         numbers say, and what they do not.</p><ul>{items}</ul></section>"
    )
}

fn data(lines: &[String], parts: &[DataPart]) -> String {
    if lines.is_empty() && parts.is_empty() {
        return String::new();
    }
    let mut out = String::from("<section class=\"card\" aria-labelledby=\"data\"><h2 id=\"data\">Data</h2>");
    if !lines.is_empty() {
        let items: String = lines.iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
        push(&mut out, format_args!("<ul>{items}</ul>"));
    }
    if !parts.is_empty() {
        out.push_str("<div class=\"parts\" aria-hidden=\"true\">");
        for (at, part) in parts.iter().enumerate() {
            push(
                &mut out,
                format_args!("<i class=\"part{}\" style=\"flex-grow:{}\"></i>", at % 3, part.n_bars.max(1)),
            );
        }
        out.push_str(
            "</div><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Parts of the data\"><table class=\"plain\">\
             <caption>Parts of the data</caption><thead><tr><th scope=\"col\">Part</th><th scope=\"col\">From (UTC)</th>\
             <th scope=\"col\">To (UTC)</th><th scope=\"col\">Bars</th></tr></thead><tbody>",
        );
        for (at, part) in parts.iter().enumerate() {
            push(
                &mut out,
                format_args!(
                    "<tr><th scope=\"row\"><i class=\"swatch part{}\"></i>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
                    at % 3,
                    escape(&part.name),
                    format::utc_minute(part.from_millis),
                    format::utc_minute(part.to_millis),
                    format::count(part.n_bars)
                ),
            );
        }
        out.push_str("</tbody></table></div>");
    }
    out.push_str("</section>");
    out
}

fn run(report: &ReportData) -> String {
    let mut out = String::from(
        "<section class=\"card\" aria-labelledby=\"run\"><h2 id=\"run\">Run</h2><dl class=\"facts\">",
    );
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            push(&mut out, format_args!("<dt>{}</dt><dd><code>{}</code></dd>", escape(name), escape(value)));
        }
    };
    fact("Command", &report.command_line);
    let seeds: Vec<String> = report.seeds.iter().map(u64::to_string).collect();
    fact(if seeds.len() == 1 { "Seed" } else { "Seeds" }, &seeds.join(", "));
    for (name, value) in &report.facts {
        fact(name, value);
    }
    out.push_str("</dl>");
    if let Some(configuration) = &report.configuration {
        push(
            &mut out,
            format_args!(
                "<details><summary>Resolved configuration</summary><pre>{}</pre></details>",
                escape(configuration)
            ),
        );
    }
    out.push_str("</section>");
    out
}
