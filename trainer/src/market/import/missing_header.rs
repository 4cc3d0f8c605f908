//! What to tell of a file without a header: names that read it, tried on its first rows.

use crate::market::import::columns::reduce;
use crate::market::import::dialect::shape;
use crate::market::import::presets::Preset;
use crate::market::import::source_options::{Source, SourceOptions};
use crate::market::import::stamps::Stamps;

/// Names by the number of columns, for files of nobody known.
const USUAL: [&str; 6] = ["timestamp", "open", "high", "low", "close", "volume"];

/// Why the file is refused, with every way out that reads its first rows.
pub(super) fn missing_header(
    source: &Source,
    suggested: &[(&'static Preset, &'static [String])],
    head: &[Vec<String>],
) -> String {
    let problem = "its first line holds numbers where the names of the columns belong";
    let mut ways: Vec<String> = Vec::new();
    for (preset, names) in suggested {
        let mut told = source.clone();
        told.options.preset = Some(preset.name.clone());
        if reads(names, head, &told.options.clone().over(&preset.options)) {
            ways.push(format!("{} reads it if it is {}'s", told.to_argument(), preset.name));
        }
    }
    let of_presets = suggested.iter().map(|(_, names)| names.to_vec());
    let names = of_presets.chain(usual(head)).find(|names| reads(names, head, &source.options));
    if let Some(names) = names {
        let mut told = source.clone();
        told.options.header.clone_from(&names);
        ways.push(format!(
            "{} tells what its {} columns are; so does a first line {}",
            told.to_argument(),
            names.len(),
            names.join(",")
        ));
    }
    if ways.is_empty() {
        return format!(
            "{problem}: add a header such as timestamp,open,high,low,close,volume, or tell the names of its columns as \
             header=… after a `?` behind the file's name"
        );
    }
    format!("{problem}: {}", ways.join("; "))
}

/// The usual names, with further ones for further columns.
fn usual(head: &[Vec<String>]) -> Option<Vec<String>> {
    let row = head.first()?;
    let has_time = row.get(1).is_some_and(|field| shape(field).starts_with("99:99"));
    let mut names: Vec<String> = USUAL.iter().map(|name| (*name).to_owned()).collect();
    if has_time {
        names[0] = "date".to_owned();
        names.insert(1, "time".to_owned());
    }
    let further = names.len() + 1..=row.len();
    names.extend(further.map(|n| format!("column{n}")));
    names.truncate(row.len());
    (names.len() >= USUAL.len() - 1).then_some(names)
}

/// Whether these names and options make bars of the first rows.
fn reads(names: &[String], head: &[Vec<String>], options: &SourceOptions) -> bool {
    let at = |name: &str| names.iter().position(|other| reduce(other) == name);
    let prices = ["open", "high", "low", "close"].map(at);
    let date = names.iter().position(|name| matches!(reduce(name).as_str(), "date" | "timestamp" | "time"));
    let time = at("time").filter(|time| Some(*time) != date);
    let Ok(mut stamps) = Stamps::new(options) else { return false };
    !head.is_empty()
        && head.iter().all(|row| {
            let number = |index: Option<usize>| row.get(index?)?.parse::<f64>().ok();
            let [Some(open), Some(high), Some(low), Some(close)] = prices.map(number) else { return false };
            let stamp =
                date.and_then(|date| row.get(date)).map(|date| match time.and_then(|at| row.get(at)) {
                    Some(time) => format!("{date} {time}"),
                    None => date.clone(),
                });
            high >= open.max(close)
                && low <= open.min(close)
                && stamp.is_some_and(|stamp| stamps.read_text(&stamp).is_ok())
        })
}
