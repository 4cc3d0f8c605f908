//! `plimsoll features`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use memsys::ledger::Owner;
use memsys::ledger::reservation::Reservation;
use memsys::os::probe;

use crate::atomic_file;
use crate::cli::settings::{MemoryArgs, data_sets, require_text};
use crate::cli::work_progress::WorkProgress;
use crate::config::Config;
use crate::console::{say, say_always};
use crate::error::{Error, Result};
use crate::format;
use crate::market::bar::{Bar, DECISION_MILLIS, MINUTE_MILLIS, STRUCTURE_MILLIS};
use crate::market::features::{
    LVN_NAMES, LvnRows, REGIME_NAMES, RegimeRows, STRUCTURE_NAMES, StructureRows, TACTICAL_NAMES,
    TacticalRows,
};
use crate::market::import::Imported;
use crate::market::instruments::{LoadedInstrument, load};
use crate::market::lookahead_check::{clocks, prove};
use crate::market::resample::{n_buckets, off_grid_millis};
use crate::resolve::{instrument_patterns, sources};
use crate::signals;
use crate::table_file::{Column, TableWriter, write_table};

/// The number of random times that `--check` tests.
const N_TIMES: usize = 1_000;
/// Rows that are made before they are written.
const BATCH_ROWS: usize = 4_096;
/// Bytes of the rows that are made and not written yet, and of what the writer of a Parquet file holds.
const WRITER_BYTES: u64 = 32 << 20;
/// Bytes of the bars of both clocks per five-minute bar, and of a check beside them: all features, and the bars of both
/// clocks again.
const CLOCK_BYTES_PER_BAR: u64 = 66;
const CHECK_BYTES_PER_BAR: u64 = 270;

/// Write every feature row with its name and the time from which it is visible.
///
/// The table is in long form, with one row per view and bar: view, visible_at, then the view's numbers. Cells of
/// other views and cells whose windows are not full yet are empty. Bars of ten, fifteen or thirty minutes fill only the
/// structure view. Where the bars are of several instruments, a first column names the instrument. Rows are written as
/// they are made.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  plimsoll features --data btc_1m.csv --set data.label=end --out rows.parquet --check"
)]
pub(super) struct FeaturesArgs {
    /// A TOML file of settings. Only its section [data] is used.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Files of bars [data.files].
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Sets one key of [data], such as data.label=end or data.zone=UTC. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The file to write. The end of its name chooses CSV or Parquet.
    #[arg(long, value_name = "FILE.csv|FILE.parquet")]
    out: PathBuf,
    /// Checks on these bars that no row looks ahead: at a thousand random times it makes the rows that are visible again
    /// from the bars that have closed by then, and they must be equal to the bit.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// Runs the command.
pub(super) fn run(args: &FeaturesArgs) -> Result<()> {
    let began = Instant::now();
    atomic_file::expect_folder(Some(&args.out))?;
    end_on_signals(&args.out);
    require_text("--data", &args.data)?;
    let mut sets = args.set.clone();
    sets.extend(data_sets(&args.data));
    let config = Config::load(args.config.as_deref(), &sets)?;
    let sources = sources(&config.data)?;
    if sources.is_empty() {
        let problem = "give a file of bars".to_owned();
        return Err(Error::Config { key: "--data".to_owned(), problem });
    }
    args.memory.hold()?;
    let loaded = load(&sources, &instrument_patterns(&config.data)?, &|path, imported| {
        require_a_clock(path, imported)
    })?;
    loaded.notes.iter().for_each(|note| say(note));
    let mut instruments = loaded.instruments;
    let has_many = instruments.len() > 1;
    let mut n_rows = 0;
    let mut reservation = Reservation::of_heap(Owner::named("features/rows"));
    let most_five = instruments.iter().map(|one| n_buckets(&one.series.bars, DECISION_MILLIS)).max();
    let clock_bytes = most_five.unwrap_or(0) as u64 * CLOCK_BYTES_PER_BAR;
    reservation.try_set(WRITER_BYTES + clock_bytes)?;
    write_table(&args.out, &Long::new(has_many).columns(0), |table| {
        for instrument in &mut instruments {
            n_rows += write_rows(table, instrument, has_many, args.check)?;
        }
        Ok(())
    })?;
    drop(reservation);
    let peak_bytes = probe::peak_resident_bytes()?;
    say_always(&format!(
        "{n_rows} rows in {} ({} rows/s with the import, peak {})",
        args.out.display(),
        format::count((n_rows as f64 / began.elapsed().as_secs_f64().max(1e-9)) as u64),
        format::bytes(peak_bytes)
    ));
    if args.check {
        instruments.iter().try_for_each(check)?;
    }
    Ok(())
}

/// Ends the command on the first signal, without a half-written file.
fn end_on_signals(out: &Path) {
    let out = out.to_owned();
    let end = move |_request| {
        atomic_file::remove_unfinished(&out);
        say_always("plimsoll: ended as asked, nothing was written");
        // At once: the rows of a large file take minutes.
        signal_hook::low_level::exit(130);
    };
    // Where signals cannot be caught, they end the command as they do any program.
    let _ = signals::catch().and_then(|caught| caught.act(end));
}

/// Refuses bars that fill neither clock, and says of others which views they fill and when their rows are visible.
fn require_a_clock(path: &Path, imported: &Imported) -> Result<()> {
    let width_millis = imported.bars.width_millis;
    if width_millis <= 0 || STRUCTURE_MILLIS % width_millis != 0 {
        let problem = format!(
            "its bars are {} minutes wide, which fill neither the five- nor the thirty-minute views: give bars of 1, 5, 10, \
             15 or 30 minutes",
            width_millis / MINUTE_MILLIS
        );
        return Err(Error::File { path: path.to_path_buf(), problem });
    }
    let name = path.display();
    if DECISION_MILLIS % width_millis != 0 {
        say(&format!(
            "{name}: its bars do not fill five minutes: only the structure view, of thirty minutes, can be filled"
        ));
    }
    let off_millis = imported.bars.bars.first().map_or(0, off_grid_millis);
    if off_millis > 0 {
        say(&format!(
            "{name}: its bars begin {} past the marks of the clock, and so do the views': a row is visible when the last \
             bar in it has closed",
            format::duration(off_millis as f64 / 1e3)
        ));
    }
    Ok(())
}

/// Writes the rows of an instrument, and lets its bars go unless they are kept. Returns the number of rows.
fn write_rows(
    table: &mut TableWriter,
    instrument: &mut LoadedInstrument,
    has_many: bool,
    are_bars_kept: bool,
) -> io::Result<u64> {
    let (five, thirty) = clocks(&instrument.series.bars);
    if !are_bars_kept {
        instrument.series.bars = Vec::new();
    }
    let n_rows = (thirty.len() + 3 * five.len()) as u64;
    let mut batch = Long::new(has_many);
    batch.instrument.clone_from(&instrument.series.name);
    let mut writer = ViewWriter { table, batch, progress: WorkProgress::new("rows", n_rows) };
    let (mut structure, mut tactical) = (StructureRows::default(), TacticalRows::default());
    let (mut regime, mut lvn) = (RegimeRows::default(), LvnRows::default());
    let from = [STRUCTURE_NAMES.len(), TACTICAL_NAMES.len(), REGIME_NAMES.len()];
    writer.write("structure", 0, &thirty, |bars| structure.push(bars))?;
    writer.write("tactical", from[0], &five, |bars| tactical.push(bars))?;
    writer.write("regime", from[0] + from[1], &five, |bars| regime.push(bars))?;
    writer.write("lvn", from[0] + from[1] + from[2], &five, |bars| lvn.push(bars))?;
    writer.progress.finish();
    Ok(n_rows)
}

/// Writes view after view in batches of rows.
struct ViewWriter<'a, 'b> {
    table: &'a mut TableWriter<'b>,
    batch: Long,
    progress: WorkProgress,
}

impl ViewWriter<'_, '_> {
    /// Makes and writes the rows of a view, whose numbers stand in the columns from `first_number` on.
    fn write<const W: usize>(
        &mut self,
        view: &'static str,
        first_number: usize,
        bars: &[Bar],
        mut push: impl FnMut(&[Bar]) -> [f32; W],
    ) -> io::Result<()> {
        self.batch.view = view;
        self.batch.first_number = first_number;
        for (end, bar) in (1..).zip(bars) {
            self.batch.visible_at.push(bar.close_millis);
            self.batch.numbers.push(push(&bars[..end]).to_vec());
            if self.batch.visible_at.len() == BATCH_ROWS || end == bars.len() {
                let n_rows = self.batch.visible_at.len();
                self.table.write(&self.batch.columns(n_rows))?;
                self.batch.visible_at.clear();
                self.batch.numbers.clear();
                self.progress.advance(n_rows as u64);
            }
        }
        Ok(())
    }
}

/// Rows of one view of one instrument, in the columns of the whole table.
struct Long {
    has_instrument: bool,
    instrument: String,
    view: &'static str,
    first_number: usize,
    visible_at: Vec<i64>,
    numbers: Vec<Vec<f32>>,
}

impl Long {
    fn new(has_instrument: bool) -> Self {
        Self {
            has_instrument,
            instrument: String::new(),
            view: "",
            first_number: 0,
            visible_at: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// The columns of the table with the first `n_rows` rows.
    fn columns(&self, n_rows: usize) -> Vec<Column> {
        let text = |name: &str, value: &str| Column::Text {
            name: name.to_owned(),
            values: vec![value.to_owned(); n_rows],
        };
        let mut columns = Vec::new();
        if self.has_instrument {
            columns.push(text("instrument", &self.instrument));
        }
        columns.push(text("view", self.view));
        columns
            .push(Column::Time { name: "visible_at".to_owned(), millis: self.visible_at[..n_rows].to_vec() });
        let of = |view: &'static str, names: &'static [&'static str]| {
            names.iter().map(move |name| format!("{view}.{name}"))
        };
        let names = of("structure", &STRUCTURE_NAMES)
            .chain(of("tactical", &TACTICAL_NAMES))
            .chain(of("regime", &REGIME_NAMES))
            .chain(of("lvn", &LVN_NAMES));
        columns.extend(names.enumerate().map(|(at, name)| {
            let cell = |row: &Vec<f32>| {
                at.checked_sub(self.first_number).and_then(|at| row.get(at)).copied().unwrap_or(f32::NAN)
            };
            Column::Float { name, values: self.numbers[..n_rows].iter().map(cell).collect() }
        }));
        columns
    }
}

fn check(instrument: &LoadedInstrument) -> Result<()> {
    let mut reservation = Reservation::of_heap(Owner::named("features/check"));
    let n_five = n_buckets(&instrument.series.bars, DECISION_MILLIS) as u64;
    reservation.try_set(n_five * (CLOCK_BYTES_PER_BAR + CHECK_BYTES_PER_BAR))?;
    let mut progress = WorkProgress::new("times checked", N_TIMES as u64);
    let proof = prove(&instrument.series.bars, N_TIMES, 1, &mut |_| progress.advance(1));
    progress.finish();
    let name = &instrument.series.name;
    match &proof.first_violation {
        Some(violation) => Err(Error::File {
            path: instrument.origin().path(),
            problem: format!("a feature of {name} looks ahead: {violation}"),
        }),
        None if proof.n_rows == 0 => {
            say_always(&format!(
                "{name}: so few bars define no number of any row, so that none can look ahead"
            ));
            Ok(())
        }
        None => {
            say_always(&format!(
                "{name}: no row looks ahead: {} rows at {} random times are the same to the bit when made from the bars \
                 that had closed by then, and none is visible sooner",
                format::count(proof.n_rows as u64),
                format::count(proof.n_times as u64)
            ));
            Ok(())
        }
    }
}
