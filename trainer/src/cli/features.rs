//! `plimsoll features`.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::settings::data_sets;
use crate::cli::table_file::{Column, write_table};
use crate::config::Config;
use crate::console::{Verbosity, say, say_always, tells};
use crate::error::{Error, Result};
use crate::market::bar::{BarSeries, DECISION_MILLIS, STRUCTURE_MILLIS};
use crate::market::features::{
    self, Features, LVN_NAMES, REGIME_NAMES, STRUCTURE_NAMES, TACTICAL_NAMES, View,
};
use crate::market::import::import;
use crate::market::lookahead_check::prove;
use crate::market::resample::resample;
use crate::resolve::sources;

/// The number of random times that `--check` tests.
const N_TIMES: usize = 1_000;

/// Write every feature row with its name and the time from which it is visible.
///
/// The table is in long form, with one row per view and bar: view, visible_at, then the view's numbers. Cells of
/// other views and cells whose windows are not full yet are empty. Bars of thirty minutes fill only the structure
/// view.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  plimsoll features --data btc_1m.csv --set data.label=end --out rows.parquet --check"
)]
pub(super) struct FeaturesArgs {
    /// A TOML file of settings. Only its section [data] is used.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// The file of bars, CSV or Parquet [data.files].
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Sets one key of [data], such as data.label=end or data.zone=UTC. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The file to write. The end of its name chooses CSV or Parquet.
    #[arg(long, value_name = "FILE.csv|FILE.parquet")]
    out: PathBuf,
    /// Checks on these bars that no row looks ahead: at a thousand random times it computes the features again from
    /// the bars up to that time only, and they must be equal to the bit.
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub(super) fn run(args: &FeaturesArgs) -> Result<()> {
    let mut sets = args.set.clone();
    sets.extend(data_sets(args.data.as_slice()));
    let config = Config::load(args.config.as_deref(), &sets)?;
    let sources = sources(&config.data)?;
    let [source] = sources.as_slice() else {
        let problem = "give one file of bars".to_owned();
        return Err(Error::Config { key: "--data".to_owned(), problem });
    };
    let out = &args.out;
    let file = &source.path;
    let mut imported = import(source)?;
    let Some(imported) = imported.pop().filter(|_| imported.is_empty()) else {
        let problem = "holds several instruments: give a file of one".to_owned();
        return Err(Error::File { path: file.clone(), problem });
    };
    for note in &imported.notes {
        say(&format!("{}: {note}", file.display()));
    }
    let instrument = imported.bars;
    let is_decision_clock = DECISION_MILLIS % instrument.width_millis == 0;
    if !is_decision_clock {
        say("these bars are wider than five minutes: only the structure view can be filled");
        if STRUCTURE_MILLIS % instrument.width_millis != 0 {
            let problem = "bars of this width fill neither the five- nor the thirty-minute views".to_owned();
            return Err(Error::File { path: file.clone(), problem });
        }
    }
    let five = if is_decision_clock { resample(&instrument.bars, DECISION_MILLIS) } else { Vec::new() };
    let thirty = resample(&instrument.bars, STRUCTURE_MILLIS);
    let features = features::compute(&five, &thirty);
    let n_rows = write(out, &features)?;
    say_always(&format!("{n_rows} rows in {}", out.display()));
    if args.check {
        check(file, &instrument)?;
    }
    Ok(())
}

fn write(out: &std::path::Path, features: &Features) -> Result<usize> {
    let mut table = Long::default();
    table.add("structure", &STRUCTURE_NAMES, &features.structure);
    table.add("tactical", &TACTICAL_NAMES, &features.tactical);
    table.add("regime", &REGIME_NAMES, &features.regime);
    table.add("lvn", &LVN_NAMES, &features.lvn);
    let n_rows = table.view.len();
    let mut columns = vec![
        Column::Text { name: "view".to_owned(), values: table.view },
        Column::Time { name: "visible_at".to_owned(), millis: table.visible_at },
    ];
    let numbers = table.numbers.into_iter().map(|(name, mut values)| {
        values.resize(n_rows, f32::NAN);
        Column::Float { name, values }
    });
    columns.extend(numbers);
    write_table(out, &columns)?;
    Ok(n_rows)
}

/// A table in long form: the rows of one view after those of another.
#[derive(Default)]
struct Long {
    view: Vec<String>,
    visible_at: Vec<i64>,
    numbers: Vec<(String, Vec<f32>)>,
}

impl Long {
    fn add<const W: usize>(&mut self, view: &str, names: &[&str; W], rows: &View<W>) {
        let start = self.view.len();
        self.view.extend(std::iter::repeat_n(view.to_owned(), rows.rows.len()));
        self.visible_at.extend_from_slice(&rows.visible_at_millis);
        for (i, name) in names.iter().enumerate() {
            let mut values = vec![f32::NAN; start];
            values.extend(rows.rows.iter().map(|row| row[i]));
            self.numbers.push((format!("{view}.{name}"), values));
        }
    }
}

fn check(file: &std::path::Path, instrument: &BarSeries) -> Result<()> {
    let bar = match tells(Verbosity::Usual) {
        true => ProgressBar::new(N_TIMES as u64),
        false => ProgressBar::hidden(),
    };
    bar.set_style(
        ProgressStyle::with_template("checking {bar:40} {pos}/{len} times, {eta} left")
            .expect("a fixed text"),
    );
    let proof = prove(&instrument.bars, N_TIMES, 1, &mut |n_done| bar.set_position(n_done as u64));
    bar.finish_and_clear();
    match &proof.first_violation {
        None => {
            say_always(&format!(
                "no row looks ahead: {} rows at {} random times are the same to the bit when computed from the bars up \
                 to then",
                proof.n_rows, proof.n_times
            ));
            Ok(())
        }
        Some(violation) => Err(Error::File {
            path: file.to_path_buf(),
            problem: format!("a feature looks ahead: {violation}"),
        }),
    }
}
