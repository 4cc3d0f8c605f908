//! Prepares a configuration's market: imports or makes the bars, computes the features once, lays them into streams
//! and splits time into training, validation and test.

use std::ops::Range;
use std::sync::Arc;

use buffers::frames::{Clock, Dataset, FrameStream, Instrument, View};
use sha2::{Digest, Sha256};

use crate::console::say_detail;
use crate::error::{Error, Result};
use crate::market::account::{ACCOUNT_WIDTH, AccountRules};
use crate::market::bar::{Bar, BarSeries, DECISION_MILLIS, STRUCTURE_MILLIS};
use crate::market::features::{
    self, Features, LVN_WIDTH, REGIME_ROWS, REGIME_STRIDE, REGIME_WIDTH, STRUCTURE_ROWS, STRUCTURE_WIDTH,
    TACTICAL_ROWS, TACTICAL_WIDTH,
};
use crate::market::import::{Imported, Source, extent_note, import, require_decision_clock};
use crate::market::price_series::PriceSeries;
use crate::market::resample::resample;
use crate::market::split::{Split, split};
use crate::market::synthetic::{SyntheticOptions, synthesize};

/// The embargo between two parts of the data: the longest window, in five-minute bars.
pub const EMBARGO_BARS: usize = STRUCTURE_ROWS * 6;

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

/// Reads a file of bars that can fill the five-minute views.
///
/// # Errors
/// Where the file is missing, dirty or of bars too wide.
pub fn import_for_decisions(source: &Source) -> Result<Vec<Imported>> {
    let imported = import(source)?;
    for one in &imported {
        require_decision_clock(&source.path, &one.bars)?;
    }
    Ok(imported)
}

/// Prepares a market. `say` receives one line per step.
///
/// # Errors
/// Where a file cannot be used, or has fewer bars than one observation and the three parts need.
pub fn prepare(market: &MarketOptions, say: &(dyn Fn(&str) + Sync)) -> Result<Market> {
    let (instruments, notes, expected_log_return) = instruments(market, say)?;
    let identity = identity(&instruments);
    say(&format!("computing the features of {} instrument(s)", instruments.len()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(instruments.len());
    let mut parts: Vec<Option<Result<(PriceSeries, Instrument, Split)>>> =
        instruments.iter().map(|_| None).collect();
    let per_thread = instruments.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for (instruments, parts) in instruments.chunks(per_thread).zip(parts.chunks_mut(per_thread)) {
            scope.spawn(move || {
                for (instrument, part) in instruments.iter().zip(parts) {
                    *part = Some(lay_out(instrument, market));
                }
            });
        }
    });
    let (mut price_series, mut dataset, mut splits) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let (series, instrument, split) = part.expect("every instrument was laid out")?;
        price_series.push(series);
        dataset.push(instrument);
        splits.push(split);
    }
    Ok(Market {
        dataset: Arc::new(Dataset::new(views(), dataset)),
        price_series: price_series.into(),
        splits,
        notes,
        identity,
        expected_log_return,
        rules: market.rules,
    })
}

type Instruments = (Vec<BarSeries>, Vec<String>, Option<Vec<f64>>);

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
        return Ok((vec![synthetic.instrument], vec![note], Some(synthetic.expected_log_return)));
    }
    let (mut instruments, mut notes) = (Vec::new(), Vec::new());
    for source in &market.sources {
        let path = source.path.display();
        for imported in import_for_decisions(source)? {
            say(&format!("{path}: {}", extent_note(&imported.bars)));
            // The rest of what import took is in the report.
            for line in imported.notes {
                let line = format!("{path}: {line}");
                say_detail(&line);
                notes.push(line);
            }
            instruments.push(imported.bars);
        }
    }
    Ok((instruments, notes, None))
}

fn identity(instruments: &[BarSeries]) -> String {
    let mut hash = Sha256::new();
    for instrument in instruments {
        hash.update(instrument.name.as_bytes());
        hash.update((instrument.bars.len() as u64).to_le_bytes());
        for bar in &instrument.bars {
            hash.update(bar.open_millis.to_le_bytes());
            for number in [bar.open, bar.high, bar.low, bar.close, bar.volume] {
                hash.update(number.to_le_bytes());
            }
        }
    }
    hex(&hash.finalize())
}

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lay_out(series: &BarSeries, market: &MarketOptions) -> Result<(PriceSeries, Instrument, Split)> {
    let five = resample(&series.bars, DECISION_MILLIS);
    let thirty = resample(&series.bars, STRUCTURE_MILLIS);
    let features = features::compute(&five, &thirty);
    let too_few = |needed: &str| Error::File {
        path: series.name.clone().into(),
        problem: format!(
            "{} five-minute bars are too few {needed}; give a longer history (a few weeks at the least)",
            five.len()
        ),
    };
    let first_decision = features.first_decision().ok_or_else(|| {
        too_few("for one observation: the windows and warm-ups of the features are not full at any of them")
    })?;
    let split = split(first_decision, five.len(), market.train_fraction, market.validation_fraction, EMBARGO_BARS)
        .ok_or_else(|| {
            too_few(&format!(
                "for training, validation and test: the first decision is at bar {first_decision}, and {EMBARGO_BARS} \
                 bars of embargo stand between two parts"
            ))
        })?;
    let instrument = streams_of(&features, first_decision);
    let prices = PriceSeries { name: series.name.clone(), bars: five, atr: features.atr, first_decision };
    Ok((prices, instrument, split))
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

fn streams_of(features: &Features, first_decision: usize) -> Instrument {
    fn stream<const W: usize>(view: &features::View<W>) -> FrameStream {
        let mut stream = FrameStream::new(W);
        for row in &view.rows {
            stream.append(row);
        }
        stream
    }
    Instrument {
        streams: vec![
            stream(&features.structure),
            stream(&features.tactical),
            stream(&features.regime),
            stream(&features.lvn),
            FrameStream::new(ACCOUNT_WIDTH),
        ],
        slow_row: features.structure_row.clone(),
        first_step: first_decision,
    }
}

/// The span of a range of decisions, as UTC milliseconds of the first and the last close.
#[must_use]
pub fn span_millis(bars: &[Bar], range: &Range<usize>) -> (i64, i64) {
    let last = range.end.clamp(1, bars.len()) - 1;
    (bars[range.start.min(last)].close_millis, bars[last].close_millis)
}
