//! `plimsoll data`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::atomic_file;
use crate::cli::settings::{MemoryArgs, data_sets, require_text};
use crate::config::Config;
use crate::console::{complain, print};
use crate::error::{Error, Result};
use crate::market::bar::Bar;
use crate::market::import::{Imported, Source, import, moment, require_decision_clock};
use crate::resolve::sources;

/// The most instruments of one file that are shown in full.
const MOST_SHOWN: usize = 8;

/// Show what would be read of files of bars, without training.
///
/// For each file: the vendor it is recognised as, its columns, the spelling and zone of its stamps, and for each
/// instrument the width, span, gaps, first and last bars and the rows left out. A file that cannot be read is refused
/// with the number of its dirty rows by kind, the first lines of each, and what to type.
///
/// A file's own options stand after a `?`: label=start|end, zone=NAME, time_format=FORMAT, as=PRESET,
/// columns=close:Last,volume:Lots, header=time,open,high,low,close, skip_rows=N, decimal=point|comma,
/// missing=refuse|drop.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plimsoll data btc_1m.csv\n  plimsoll data 'DAT_ASCII_EURUSD_M1_2024.csv?as=histdata'\n  \
                  plimsoll data 'es.csv?label=end&zone=America/Chicago' nq.parquet --json bars.json"
)]
pub(super) struct DataArgs {
    /// The files of bars, each with options of its own after a `?` [default: data.files and data.source].
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A TOML file of settings. Only its section [data] is used.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Sets one key of [data] for all files, such as data.zone=UTC or data.missing=drop. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Also writes what was found to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// Runs the command.
pub(super) fn run(args: &DataArgs) -> Result<()> {
    atomic_file::expect_folder(args.json.as_deref())?;
    let mut sets = args.set.clone();
    require_text("FILE", &args.files)?;
    sets.extend(data_sets(&args.files));
    let config = Config::load(args.config.as_deref(), &sets)?;
    let sources = sources(&config.data)?;
    if sources.is_empty() {
        let problem = "give a file of bars, such as btc_1m.csv".to_owned();
        return Err(Error::Config { key: "data.files".to_owned(), problem });
    }
    args.memory.hold()?;
    let (mut first_error, mut found) = (None, Vec::new());
    for source in &sources {
        match import(source) {
            Ok(imported) => {
                print(&text_of(source, &imported));
                found.push(json_of(source, &imported));
            }
            Err(error) if first_error.is_none() => first_error = Some(error),
            Err(error) => complain(&error),
        }
    }
    atomic_file::write_json(args.json.as_deref(), &json!({ "files": found }))?;
    first_error.map_or(Ok(()), Err)
}

fn text_of(source: &Source, imported: &[Imported]) -> String {
    let mut text = format!("{}\n", source.path.display());
    for one in imported.iter().take(MOST_SHOWN) {
        for note in &one.notes {
            text.push_str(&format!("  {note}\n"));
        }
        for (word, bar) in [("first", one.bars.bars.first()), ("last", one.bars.bars.last())] {
            text.push_str(&bar.map_or_else(String::new, |bar| format!("  {word} {}\n", row(bar))));
        }
    }
    if imported.len() > 1 {
        let names: Vec<&str> = imported.iter().take(MOST_SHOWN).map(|one| one.bars.name.as_str()).collect();
        let more = if imported.len() > MOST_SHOWN { ", …" } else { "" };
        text.push_str(&format!("  {} instruments: {}{more}\n", imported.len(), names.join(", ")));
    }
    let unfit = imported.iter().find_map(|one| require_decision_clock(&source.path, &one.bars).err());
    text.push_str(&match unfit {
        None => format!("  to train on it: plimsoll train {}\n", source.to_argument()),
        Some(error) => format!("  not to be trained on: {error}\n"),
    });
    text
}

fn row(bar: &Bar) -> String {
    format!(
        "{}: open {}, high {}, low {}, close {}, volume {}",
        moment(bar.open_millis),
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume
    )
}

fn json_of(source: &Source, imported: &[Imported]) -> Value {
    let bar = |bar: Option<&Bar>| {
        bar.map(|bar| {
            json!({
                "open_millis": bar.open_millis, "close_millis": bar.close_millis, "open": bar.open, "high": bar.high,
                "low": bar.low, "close": bar.close, "volume": bar.volume,
            })
        })
    };
    let instruments: Vec<Value> = imported
        .iter()
        .map(|one| {
            let bars = &one.bars.bars;
            let n_gaps = bars.windows(2).filter(|pair| pair[1].open_millis > pair[0].close_millis).count();
            let dropped: serde_json::Map<String, Value> = one
                .dirty
                .kinds()
                .iter()
                .map(|kind| {
                    let value = json!({ "rows": kind.n_rows, "first_lines": kind.first_lines });
                    (kind.kind.words().to_owned(), value)
                })
                .collect();
            json!({
                "name": one.bars.name, "symbol": one.symbol, "bars": bars.len(),
                "width_millis": one.bars.width_millis, "gaps": n_gaps, "first": bar(bars.first()),
                "last": bar(bars.last()), "dropped": dropped, "notes": one.notes,
            })
        })
        .collect();
    json!({ "file": source.path, "spelling": source.to_text(), "instruments": instruments })
}
