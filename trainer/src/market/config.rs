//! Settings of the market: the bars and their parts, the synthetic market, and the account.

use std::path::PathBuf;

use documented::{Documented, DocumentedFields};
use memsys::settings::{Check, Settings, above_up_to, between, optional};
use serde::{Deserialize, Deserializer, Serialize};

use crate::market::import::{Decimal, Label, Missing, SourceOptions};
use crate::market::instrument_names::InstrumentPattern;

/// The bars, and how they are divided by time into training, validation and test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Documented, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// Files of bars, each with options of its own after a `?`, as in `a.csv?label=end&zone=America/New_York`; empty:
    /// the synthetic market.
    #[serde(deserialize_with = "one_or_many")]
    pub files: Vec<PathBuf>,
    /// Further files, as tables `[[data.source]]` with `files` and the options that they share: `as`, `label`, `zone`,
    /// `time_format`, `columns`, `header`, `skip_rows`, `decimal`, `missing`.
    pub source: Vec<SourceTable>,
    /// The preset of files that name none, such as `binance`; empty: the one that a file's head fits.
    #[serde(with = "optional")]
    pub preset: Option<String>,
    /// How the files spell time, in strftime's letters such as `%d/%m/%Y %H:%M:%S`; empty: ISO 8601.
    #[serde(with = "optional")]
    pub time_format: Option<String>,
    /// The time zone of stamps that name none, as IANA calls it, such as `America/New_York`; empty: UTC.
    #[serde(with = "optional")]
    pub zone: Option<String>,
    /// Which moment of its bar a stamp names: `start` or `end`; empty: not told, and taken for `start`.
    #[serde(with = "optional")]
    pub label: Option<Label>,
    /// The mark before the fraction of a number: `point` or `comma`; empty: the one that every row agrees on.
    #[serde(with = "optional")]
    pub decimal: Option<Decimal>,
    /// Rows without prices (NaN, null or empty): `refuse` the file, or `drop` and count them; empty: `refuse`.
    #[serde(with = "optional")]
    pub missing: Option<Missing>,
    /// Which files are of one instrument, where their names do not say it: patterns of file names such as `{}-1m-*`,
    /// in which `{}` is the instrument's name and `*` any text, or `PATTERN=NAME`; a file follows the first that fits.
    #[serde(deserialize_with = "one_or_many_patterns")]
    pub instrument: Vec<String>,
    /// Share of the time that is trained on: the first part.
    pub train_fraction: f64,
    /// Share of the time that is validated on: the second part. The rest, which must not be nothing, is the test.
    pub validation_fraction: f64,
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            source: Vec::new(),
            preset: None,
            time_format: None,
            zone: None,
            label: None,
            decimal: None,
            missing: None,
            instrument: Vec::new(),
            train_fraction: 0.6,
            validation_fraction: 0.2,
        }
    }
}

impl Settings for DataSettings {
    fn check(&self, check: &mut Check) {
        let (train, validation) = (self.train_fraction, self.validation_fraction);
        check.range("train_fraction", train, between(0.0, 1.0), "share of the bars");
        check.range("validation_fraction", validation, 0.0..1.0, "share of the bars");
        // Shares such as 0.7 and 0.3 may add up to just below 1.
        let leaves_a_test = train + validation <= 1.0 - 1e-9;
        check.agree(["train_fraction", "validation_fraction"], leaves_a_test, || {
            format!(
                "train_fraction {train} and validation_fraction {validation} leave nothing to test on: their sum must \
                 be below 1"
            )
        });
    }
}

/// A list of patterns of file names, or one pattern alone.
fn one_or_many_patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    use serde::de::Error;
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelling {
        One(String),
        Many(Vec<String>),
    }
    let patterns = match Spelling::deserialize(deserializer) {
        Ok(Spelling::One(pattern)) => vec![pattern],
        Ok(Spelling::Many(patterns)) => patterns,
        Err(_) => return Err(D::Error::custom("takes patterns in quotes, such as [\"{}-1m-*\"]")),
    };
    patterns
        .iter()
        .try_for_each(|pattern| InstrumentPattern::parse(pattern).map(|_| ()))
        .map_err(D::Error::custom)?;
    Ok(patterns)
}

/// Files that share their options: a table `[[data.source]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "toml::Table", into = "toml::Table")]
pub struct SourceTable {
    /// The files.
    pub files: Vec<PathBuf>,
    /// How they are spelled.
    pub options: SourceOptions,
}

impl TryFrom<toml::Table> for SourceTable {
    type Error = String;

    fn try_from(mut table: toml::Table) -> Result<Self, String> {
        let files = table.remove("files").ok_or("a [[data.source]] needs `files`, such as [\"a.csv\"]")?;
        let files = one_or_many(files).map_err(|error: toml::de::Error| error.message().to_owned())?;
        let options = table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        Ok(Self { files, options })
    }
}

impl From<SourceTable> for toml::Table {
    fn from(source: SourceTable) -> Self {
        let files = source.files.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>();
        let mut table = Self::from_iter([("files".to_owned(), files.into())]);
        table.extend(Self::try_from(source.options).expect("options are words, numbers and lists of them"));
        table
    }
}

/// A list of paths, or one path alone.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    use serde::de::Error;
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelling {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    let files = match Spelling::deserialize(deserializer) {
        Ok(Spelling::One(path)) => vec![path],
        Ok(Spelling::Many(paths)) => paths,
        Err(_) => return Err(D::Error::custom("takes paths in quotes, such as [\"a.csv\", \"b.csv\"]")),
    };
    match files.iter().any(|path| path.as_os_str().is_empty()) {
        true => Err(D::Error::custom("an empty path names nothing")),
        false => Ok(files),
    }
}

/// The synthetic market that stands in where no files are given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Documented, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct SyntheticSettings {
    /// Its length in calendar days; five of seven trade.
    pub days: u32,
    /// The source of its chance: it is another market, and not another run in it.
    pub seed: u64,
    /// Standard deviation of the part of a bar's return that can be predicted, in those of the bar;
    /// 0: nothing can be predicted.
    pub predictable_fraction: f64,
}

impl Default for SyntheticSettings {
    fn default() -> Self {
        Self { days: 730, seed: 7, predictable_fraction: 0.15 }
    }
}

impl Settings for SyntheticSettings {
    fn check(&self, check: &mut Check) {
        check.range("days", self.days, 1..=36_500, "days");
        check.range("seed", self.seed, 0.., "any whole number");
        check.range("predictable_fraction", self.predictable_fraction, 0.0..=0.5, "standard deviations");
    }
}

/// The trading account: what a trade costs, and what ends an episode.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Documented, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct AccountSettings {
    /// Commission.
    pub commission_bps: f64,
    /// Half of the distance between bid and ask.
    pub half_spread_bps: f64,
    /// How much worse than the quote an order fills.
    pub slippage_bps: f64,
    /// Notional of a long or short position when it is entered.
    pub position_limit: f64,
    /// Distance from the entry price at which a position is closed; 0: no stop.
    pub stop_atr: f64,
    /// Equity below which an episode is terminated.
    pub equity_floor: f64,
    /// Penalty on the growth of the drawdown, reported apart from the reward; 0: none.
    pub drawdown_penalty: f64,
    /// Bars after which an episode is truncated.
    pub episode_bars: u32,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self {
            commission_bps: 1.0,
            half_spread_bps: 0.5,
            slippage_bps: 0.5,
            position_limit: 1.0,
            stop_atr: 20.0,
            equity_floor: 0.5,
            drawdown_penalty: 0.0,
            episode_bars: 1440,
        }
    }
}

impl Settings for AccountSettings {
    fn check(&self, check: &mut Check) {
        let cost = "basis points of the traded notional, per side";
        check.range("commission_bps", self.commission_bps, 0.0..=1000.0, cost);
        check.range("half_spread_bps", self.half_spread_bps, 0.0..=1000.0, cost);
        check.range("slippage_bps", self.slippage_bps, 0.0..=1000.0, cost);
        check.range("position_limit", self.position_limit, above_up_to(0.0, 10.0), "times the equity");
        check.range("stop_atr", self.stop_atr, 0.0.., "ATR of the 5-minute bars");
        check.range("equity_floor", self.equity_floor, 0.0..1.0, "share of the starting balance");
        let penalty = "basis points of reward for each of drawdown";
        check.range("drawdown_penalty", self.drawdown_penalty, 0.0.., penalty);
        check.range("episode_bars", self.episode_bars, 2..=100_000_000, "5-minute bars");
    }
}
