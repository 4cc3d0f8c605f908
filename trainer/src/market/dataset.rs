//! Prepares a configuration's market: imports or makes the bars, computes the features once, lays them into streams
//! and splits time into training, validation and test.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use buffers::frames::{Clock, Dataset, FrameStream, Instrument, View};
use memsys::ledger::Owner;
use memsys::ledger::reservation::Reservation;
use sha2::{Digest, Sha256};

use crate::console::say_detail;
use crate::error::{Error, Result};
use crate::format;
use crate::market::account::{ACCOUNT_WIDTH, AccountRules};
use crate::market::bar::{Bar, DECISION_MILLIS, STRUCTURE_MILLIS};
use crate::market::features::{
    self, LVN_WIDTH, REGIME_ROWS, REGIME_STRIDE, REGIME_WIDTH, STRUCTURE_ROWS, STRUCTURE_WIDTH,
    TACTICAL_ROWS, TACTICAL_WIDTH,
};
use crate::market::import::{Imported, Source, extent_note, require_decision_clock};
use crate::market::instrument_names::InstrumentPattern;
use crate::market::instruments::{LoadedInstrument, Origin, load};
use crate::market::parts_table::{self, InstrumentRow};
use crate::market::price_jumps::jump_notes;
use crate::market::price_series::PriceSeries;
use crate::market::resample::{n_buckets, resample};
use crate::market::seen_bars::{DataRecord, SeenBars};
use crate::market::split::{Shares, Split, cut_times};
use crate::market::synthetic::{SyntheticOptions, synthesize};
use crate::market::unseen::{Judged, judged};

/// The embargo between two parts of the data: the longest window, in five-minute bars.
pub const EMBARGO_BARS: usize = STRUCTURE_ROWS * 6;

/// Five-minute bars that the first observation needs where a market trades around the clock.
const OBSERVATION_BARS: usize = 1_267;

/// A market, ready to be traded.
#[derive(Debug)]
pub struct Market {
    /// The streams of every instrument, and the views over them.
    pub dataset: Arc<Dataset>,
    /// The prices of every instrument.
    pub price_series: Arc<[PriceSeries]>,
    /// The parts of every instrument's time.
    pub splits: Vec<Split>,
    /// What the import found, one line each.
    pub notes: Vec<String>,
    /// SHA-256 over the bars: which data a run has seen.
    pub identity: String,
    /// On the synthetic market: the expected log return of each bar, known at the close of the bar before.
    pub expected_log_return: Option<Vec<f64>>,
    /// Costs and limits of an account.
    pub rules: AccountRules,
}

/// Which bars a market is made of, how they are divided, and the account that trades them.
#[derive(Debug, Clone, PartialEq)]
pub struct MarketOptions {
    /// The files of bars; none: the synthetic market.
    pub sources: Vec<Source>,
    /// Which files are of one instrument, where their names or symbols do not say it.
    pub instrument_patterns: Vec<InstrumentPattern>,
    /// The synthetic market.
    pub synthetic: SyntheticOptions,
    /// Share of the time that is trained on.
    pub train_fraction: f64,
    /// Share of the time that is validated on.
    pub validation_fraction: f64,
    /// Costs and limits of an account.
    pub rules: AccountRules,
    /// Bars after which an episode is truncated.
    pub episode_bars: u32,
}

impl Market {
    /// One part of the time of every instrument.
    pub fn ranges(&self, part: impl Fn(&Split) -> Range<usize>) -> Arc<[Range<usize>]> {
        self.splits.iter().map(part).collect()
    }
}

/// Prepares a market whose time is divided into training, validation and test. `say` receives one line per step.
///
/// # Errors
/// Where a file cannot be used, or there are fewer bars than one observation and the three parts need.
pub fn prepare(market: &MarketOptions, say: &(dyn Fn(&str) + Sync)) -> Result<Market> {
    let (mut prepared, instruments) = lay_out(market, say)?;
    let decisions = decisions(&prepared.price_series);
    let shares = Shares {
        train_fraction: market.train_fraction,
        validation_fraction: market.validation_fraction,
        embargo_bars: EMBARGO_BARS,
    };
    let cut =
        cut_times(&decisions, &shares).ok_or_else(|| too_few_to_divide(&prepared, &instruments, &shares))?;
    let split = |series: &PriceSeries| cut.split(&series.bars, series.first_decision, EMBARGO_BARS);
    prepared.splits = prepared.price_series.iter().map(split).collect();
    let is_empty =
        |part: fn(&Split) -> &Range<usize>| prepared.splits.iter().all(|split| part(split).is_empty());
    let has_validation = market.validation_fraction > 0.0;
    if is_empty(|split| &split.train)
        || is_empty(|split| &split.test)
        || has_validation && is_empty(|split| &split.validation)
    {
        return Err(too_few_to_divide(&prepared, &instruments, &shares));
    }
    prepared.tell_instruments(&instruments, true, say);
    Ok(prepared)
}

/// Prepares a market all of whose decisions are its test.
///
/// # Errors
/// Where a file cannot be used, or has fewer bars than one observation and a decision need.
pub fn prepare_whole(market: &MarketOptions, say: &(dyn Fn(&str) + Sync)) -> Result<Market> {
    let (mut prepared, instruments) = lay_out(market, say)?;
    let whole = |series: &PriceSeries| Split {
        train: 0..0,
        validation: 0..0,
        test: series.first_decision..series.bars.len() - 1,
    };
    prepared.splits = prepared.price_series.iter().map(whole).collect();
    prepared.tell_instruments(&instruments, false, say);
    Ok(prepared)
}

impl Market {
    /// Says of each instrument what was decided, and what is odd about it.
    fn tell_instruments(&mut self, instruments: &[Origin], is_divided: bool, say: &(dyn Fn(&str) + Sync)) {
        let is_of_files = |origin: &&Origin| !origin.files.is_empty();
        let rows: Vec<InstrumentRow> = instruments
            .iter()
            .zip(&self.splits)
            .filter(|(origin, _)| is_of_files(origin))
            .map(|(origin, split)| InstrumentRow::new(origin, split, is_divided))
            .collect();
        if !rows.is_empty() {
            parts_table::lines(&rows).iter().for_each(|line| say(line));
        }
        let mut notes: Vec<String> = rows.iter().map(InstrumentRow::sentence).collect();
        for series in self.price_series.iter() {
            for note in jump_notes(series, 0, series.bars.len() - 1) {
                say(&note);
                notes.push(note);
            }
        }
        // What was decided comes first, then what the import took of each file.
        self.notes.splice(0..0, notes);
    }

    /// Leaves in the test what `record`, that of a run, says the run has not learned from; all if `allow_seen`. Says of
    /// each instrument what is judged.
    ///
    /// # Errors
    /// [`Error::Config`] where nothing is left.
    pub fn judge_unseen(&mut self, record: &DataRecord, allow_seen: bool) -> Result<Vec<Judged>> {
        let mut all = Vec::new();
        for (series, split) in self.price_series.iter().zip(&mut self.splits) {
            let judged = judged(series, record.seen_millis(&series.bars), EMBARGO_BARS, allow_seen);
            split.test = match judged.decisions.is_empty() {
                true => series.bars.len()..series.bars.len(),
                false => judged.decisions.clone(),
            };
            all.push(judged);
        }
        if all.iter().all(|judged| judged.decisions.is_empty()) {
            let notes: Vec<String> =
                self.price_series.iter().zip(&all).map(|(series, judged)| judged.note(series)).collect();
            let problem = format!(
                "{}; give later bars, or judge all of them in sample by --allow-seen",
                notes.join("; ")
            );
            return Err(Error::Config { key: "--data".to_owned(), problem });
        }
        Ok(all)
    }

    /// What is odd about the prices over which the test was traded.
    #[must_use]
    pub fn test_warnings(&self) -> Vec<String> {
        let parts = self.price_series.iter().zip(&self.splits).filter(|(_, split)| !split.test.is_empty());
        parts.flat_map(|(series, split)| jump_notes(series, split.test.start, split.test.end)).collect()
    }

    /// What the run learns from, for its folder.
    #[must_use]
    pub fn record(&self) -> DataRecord {
        let learned = |(series, split): (&PriceSeries, &Split)| {
            let parts = [&split.train, &split.validation].into_iter().filter(|part| !part.is_empty());
            // The last decision is marked one bar later.
            let n_seen = parts.map(|part| part.end + 1).max()?;
            SeenBars::of(&series.name, &series.bars[..n_seen])
        };
        DataRecord {
            identity: self.identity.clone(),
            instruments: self.price_series.iter().zip(&self.splits).filter_map(learned).collect(),
        }
    }
}

/// The closes at which some instrument decides, ascending and each once.
fn decisions(price_series: &[PriceSeries]) -> Vec<i64> {
    let of = |series: &PriceSeries| {
        let decided = series.first_decision..series.bars.len() - 1;
        series.bars[decided].iter().map(|bar| bar.close_millis).collect::<Vec<_>>()
    };
    let mut all: Vec<i64> = price_series.iter().flat_map(of).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The instruments, their features and their streams, with no parts yet.
fn lay_out(market: &MarketOptions, say: &(dyn Fn(&str) + Sync)) -> Result<(Market, Vec<Origin>)> {
    let (mut instruments, notes, expected_log_return) = instruments(market, say)?;
    let identity = identity(&instruments);
    let origins = instruments.iter().map(LoadedInstrument::origin).collect();
    say(&format!("computing the features of {} instrument(s)", instruments.len()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(instruments.len());
    let mut parts: Vec<Option<Result<(PriceSeries, Instrument)>>> =
        instruments.iter().map(|_| None).collect();
    let rest = Mutex::new(instruments.iter_mut().zip(&mut parts));
    let next = || rest.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some((instrument, part)) = next() {
            *part = Some(lay_out_one(instrument));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system allows no more threads, fewer do the work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let (mut price_series, mut dataset) = (Vec::new(), Vec::new());
    for part in parts {
        let (series, instrument) = part.expect("every instrument was laid out")?;
        price_series.push(series);
        dataset.push(instrument);
    }
    let market = Market {
        dataset: Arc::new(Dataset::new(views(), dataset)),
        price_series: price_series.into(),
        splits: Vec::new(),
        notes,
        identity,
        expected_log_return,
        rules: market.rules,
    };
    Ok((market, origins))
}

type Instruments = (Vec<LoadedInstrument>, Vec<String>, Option<Vec<f64>>);

fn instruments(market: &MarketOptions, say: &(dyn Fn(&str) + Sync)) -> Result<Instruments> {
    if market.sources.is_empty() {
        let options = &market.synthetic;
        let synthetic = synthesize(options);
        let note = format!(
            "the synthetic market: {} five-minute bars over {} days, seed {}; the predictable part of a bar's return \
             has {} of its standard deviation",
            synthetic.instrument.bars.len(),
            options.days,
            options.seed,
            options.predictable_fraction
        );
        say(&note);
        let instrument = LoadedInstrument { series: synthetic.instrument, files: Vec::new() };
        return Ok((vec![instrument], vec![note], Some(synthetic.expected_log_return)));
    }
    let accept = |path: &Path, imported: &Imported| {
        say(&format!("{}: {}", path.display(), extent_note(&imported.bars)));
        require_decision_clock(path, &imported.bars)
    };
    let loaded = load(&market.sources, &market.instrument_patterns, &accept)?;
    // What the import took is in the report.
    loaded.notes.iter().for_each(|note| say_detail(note));
    Ok((loaded.instruments, loaded.notes, None))
}

/// SHA-256 over the bars, whatever their files and instruments are called.
fn identity(instruments: &[LoadedInstrument]) -> String {
    let mut hash = Sha256::new();
    for LoadedInstrument { series, .. } in instruments {
        add_bars(&mut hash, &series.bars);
    }
    hex(&hash.finalize())
}

/// SHA-256 over bars.
#[must_use]
pub fn bars_sha256(bars: &[Bar]) -> String {
    let mut hash = Sha256::new();
    add_bars(&mut hash, bars);
    hex(&hash.finalize())
}

fn add_bars(hash: &mut Sha256, bars: &[Bar]) {
    hash.update((bars.len() as u64).to_le_bytes());
    for bar in bars {
        hash.update(bar.open_millis.to_le_bytes());
        for number in [bar.open, bar.high, bar.low, bar.close, bar.volume] {
            hash.update(number.to_le_bytes());
        }
    }
}

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of the bars of both clocks, per five-minute bar.
const CLOCK_BYTES_PER_BAR: usize = size_of::<Bar>() + size_of::<Bar>() / 6;
/// Bytes of the streams, the ATR and the structure rows, per five-minute bar.
const STREAM_BYTES_PER_BAR: usize =
    4 * (TACTICAL_WIDTH + REGIME_WIDTH + LVN_WIDTH) + 4 * STRUCTURE_WIDTH / 6 + 12;

/// Makes the streams of an instrument, and lets its imported bars go as soon as they are resampled.
fn lay_out_one(loaded: &mut LoadedInstrument) -> Result<(PriceSeries, Instrument)> {
    // The bars and streams keep their bytes; the reservation asks for them beforehand, and names their owner meanwhile.
    let mut reservation = Reservation::of_heap(Owner::named("run/loading"));
    let n_five = n_buckets(&loaded.series.bars, DECISION_MILLIS);
    reservation.try_set((n_five * CLOCK_BYTES_PER_BAR) as u64)?;
    let five = resample(&loaded.series.bars, DECISION_MILLIS);
    let thirty = resample(&loaded.series.bars, STRUCTURE_MILLIS);
    reservation.set(reservation.bytes());
    let origin = loaded.origin();
    loaded.series.bars = Vec::new();
    reservation.try_set((n_five * (CLOCK_BYTES_PER_BAR + STREAM_BYTES_PER_BAR)) as u64)?;
    let widths = [STRUCTURE_WIDTH, TACTICAL_WIDTH, REGIME_WIDTH, LVN_WIDTH];
    let mut streams = widths.map(FrameStream::new);
    let features = {
        let [structure, tactical, regime, lvn] = &mut streams;
        features::give_rows(
            &five,
            &thirty,
            [
                &mut |row| _ = structure.append(row),
                &mut |row| _ = tactical.append(row),
                &mut |row| _ = regime.append(row),
                &mut |row| _ = lvn.append(row),
            ],
        )?
    };
    reservation.set(reservation.bytes());
    // A decision is marked at the next bar.
    let first_decision = features.first_decision.filter(|first| first + 1 < five.len()).ok_or_else(|| {
        let problem = format!(
            "{}, and one observation with a decision needs {} where a market trades around the clock, and more days where \
             it does not: give a longer history",
            n_bars_told(&origin, five.len()),
            format::count(OBSERVATION_BARS as u64 + 1)
        );
        Error::File { path: origin.path(), problem }
    })?;
    let [structure, tactical, regime, lvn] = streams;
    let instrument = Instrument {
        streams: vec![structure, tactical, regime, lvn, FrameStream::new(ACCOUNT_WIDTH)],
        slow_row: features.structure_row,
        first_step: first_decision,
    };
    let prices = PriceSeries { name: origin.name, bars: five, atr: features.atr, first_decision };
    Ok((prices, instrument))
}

/// How many bars an instrument has.
fn n_bars_told(origin: &Origin, n_five: usize) -> String {
    let five = format!("holds {} five-minute bars", format::count(n_five as u64));
    match origin.width_millis {
        DECISION_MILLIS => five,
        _ => format!("{five} in its {}", format::count(origin.n_bars as u64)),
    }
}

/// The error of bars that are too few for the parts.
fn too_few_to_divide(market: &Market, origins: &[Origin], shares: &Shares) -> Error {
    let longest = market.price_series.iter().zip(origins).max_by_key(|(series, _)| series.bars.len());
    let Some((series, origin)) = longest else {
        return Error::Config { key: "data.files".to_owned(), problem: "there is no instrument".to_owned() };
    };
    let first = series.first_decision;
    let needed = shares.n_needed().map_or_else(
        || "more".to_owned(),
        // The last decision is marked one bar later.
        |n| format::count((first + n + 1) as u64),
    );
    let problem = format!(
        "{}, and training, validation and test need {needed}: the first decision is at bar {}, and {} x {} bars of \
         embargo stand between the parts; give a longer history",
        n_bars_told(origin, series.bars.len()),
        format::count(first as u64),
        shares.n_embargoes(),
        shares.embargo_bars
    );
    Error::File { path: origin.path(), problem }
}

/// The views of a market observation, in the order of its tensors.
#[must_use]
pub fn views() -> Vec<View> {
    let view = |name, length, width, stride, clock| View { name, length, width, stride, clock };
    vec![
        view("structure", STRUCTURE_ROWS, STRUCTURE_WIDTH, 1, Clock::Slow),
        view("tactical", TACTICAL_ROWS, TACTICAL_WIDTH, 1, Clock::Decision),
        view("regime", REGIME_ROWS, REGIME_WIDTH, REGIME_STRIDE, Clock::Decision),
        view("lvn", 1, LVN_WIDTH, 1, Clock::Decision),
        view("account", 1, ACCOUNT_WIDTH, 1, Clock::Local),
    ]
}

/// The span of a range of decisions, as UTC milliseconds of the first and the last close.
#[must_use]
pub fn span_millis(bars: &[Bar], range: &Range<usize>) -> (i64, i64) {
    let last = range.end.clamp(1, bars.len()) - 1;
    (bars[range.start.min(last)].close_millis, bars[last].close_millis)
}
