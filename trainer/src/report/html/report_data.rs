//! What a report shows, as plain numbers and texts.

use crate::market::backtest::performance::Performance;

/// Everything that a report shows. Empty parts are left out of the page, so a run without a market (CartPole) fills
/// in what it has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReportData {
    /// The run's name, such as its folder's.
    pub title: String,
    /// One line under it, such as `DQN · compact embedders · synthetic market`.
    pub subtitle: String,
    /// The result in one sentence, in large letters: what was earned and whether chance explains it.
    pub verdict: Option<String>,
    /// The command that repeats the run.
    pub command_line: String,
    /// The seeds that the run used.
    pub seeds: Vec<u64>,
    /// Key numbers, with their units.
    pub tiles: Vec<Tile>,
    /// Further pairs of a name and a value that are too long for a tile, such as `weights_sha256`.
    pub facts: Vec<(String, String)>,
    /// What the data are and what the import found, one line each.
    pub data: Vec<String>,
    /// Train, validation and test, in the order of time.
    pub parts: Vec<DataPart>,
    /// Results on a market.
    pub market: Option<Market>,
    /// Results where there is no market.
    pub returns: Vec<ReturnsRow>,
    /// One small chart each: training return, validation return, loss.
    pub learning: Vec<LearningCurve>,
    /// Bytes over the run.
    pub memory: Option<Memory>,
    /// What is not measured, what is within chance, that the test part is unseen: one paragraph each.
    pub limitations: Vec<String>,
    /// The resolved configuration as TOML, shown on demand.
    pub configuration: Option<String>,
}

/// One key number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tile {
    /// What it is, such as `Environment steps`.
    pub label: String,
    /// Its value as it is to be read, with its unit (see [`crate::format`]).
    pub value: String,
    /// A short remark under it, such as `38 % of the memory limit`.
    pub note: Option<String>,
}

/// One part of the data in time.
#[derive(Debug, Clone, PartialEq)]
pub struct DataPart {
    /// `train`, `validation` or `test`.
    pub name: String,
    /// Its first moment, in milliseconds since 1970 UTC.
    pub from_millis: i64,
    /// The first moment after it.
    pub to_millis: i64,
    /// Bars in it.
    pub n_bars: u64,
}

/// Whose result it is. It decides colour, order and marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The trained agent.
    Agent,
    /// A rule that anyone could follow.
    Baseline,
    /// Another form of the agent or of a baseline, in the table alone.
    Beside,
    /// A policy that knows the market's predictable part: a bound, not a competitor.
    Oracle,
}

/// Results on the test part of a market.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Market {
    /// Equity before the first bar, in the unit of the curves; above 0. Returns and drawdowns start from it.
    pub starting_balance: f64,
    /// Equity over the test part. The first [`Role::Agent`] one is the agent.
    pub curves: Vec<Curve>,
    /// The agent's positions, one panel per instrument.
    pub positions: Vec<Positions>,
    /// The rows of the table, the agent first.
    pub performance: Vec<PerformanceRow>,
    /// Returns by month.
    pub months: MonthTable,
    /// The agent at other costs.
    pub costs_table: CostTable,
    /// Results of each instrument, where there are several.
    pub instruments: Vec<InstrumentRow>,
    /// What trades cost, in words, such as `1 bp commission + 0.5 bp half spread + 0.5 bp slippage a side`.
    pub costs: String,
    /// Bars per year with which Sharpe and Sortino are annualised, from the real count.
    pub periods_per_year: f64,
}

/// One equity curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// As in [`PerformanceRow::name`].
    pub name: String,
    /// Whose it is.
    pub role: Role,
    /// Times in milliseconds since 1970 UTC, ascending. Gaps are fine.
    pub times_millis: Vec<i64>,
    /// Equity at those times; as many.
    pub values: Vec<f64>,
}

/// The agent's positions in one instrument.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Positions {
    /// The instrument's name.
    pub instrument: String,
    /// Times in milliseconds since 1970 UTC, ascending.
    pub times_millis: Vec<i64>,
    /// Price at those times; as many.
    pub price: Vec<f64>,
    /// −1 short, 0 flat, 1 long, from each of those times on; as many.
    pub position: Vec<i8>,
}

/// A row of the table of REFERENCE.md §4.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformanceRow {
    /// `agent`, `flat`, `buy and hold`, …
    pub name: String,
    /// Whose it is.
    pub role: Role,
    /// How it did.
    pub performance: Performance,
    /// What a reader has to know of it, such as that the equity floor stopped it and when.
    pub remark: Option<String>,
}

/// Returns by month of several policies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MonthTable {
    /// The policies.
    pub names: Vec<String>,
    /// Each month's name and the returns, one per policy.
    pub months: Vec<(String, Vec<f64>)>,
}

/// What the agent's decisions earn at other costs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CostTable {
    /// Costs a side in basis points, their multiple of the run's, and the log return.
    pub rows: Vec<(f64, f64, f64)>,
    /// The costs a side, in basis points, at which nothing is earned.
    pub break_even_bps: Option<f64>,
}

/// How the agent and buying and holding did in one instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct InstrumentRow {
    /// The instrument.
    pub name: String,
    /// The agent.
    pub agent: Performance,
    /// Buying and holding.
    pub buy_and_hold: Performance,
}

/// A row of the table of a run without a market: returns of whole episodes.
#[derive(Debug, Clone, PartialEq)]
pub struct ReturnsRow {
    /// `agent`, `random`, …
    pub name: String,
    /// Whose it is.
    pub role: Role,
    /// Episodes.
    pub n_episodes: u64,
    /// Mean return.
    pub mean: f64,
    /// Standard deviation over the episodes.
    pub deviation: f64,
    /// Lowest return.
    pub lowest: f64,
    /// Highest return.
    pub highest: f64,
}

/// One measure over the environment steps of the training.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LearningCurve {
    /// Such as `Validation return`.
    pub title: String,
    /// What one point is and its unit, such as `mean reward of 1,000 steps, basis points per bar`.
    pub note: String,
    /// True where values are fractions that read best in percent.
    pub is_percent: bool,
    /// (environment step, value), steps ascending. Values that are not finite are left out.
    pub points: Vec<(u64, f64)>,
    /// A value to compare with and its name, such as 475 and `solved`.
    pub reference: Option<(f64, String)>,
    /// A step to mark and its name, such as that of the weights that were kept and `kept`.
    pub mark: Option<(u64, String)>,
}

/// What the points of [`Memory`] are counted along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Along {
    /// Seconds since the run began.
    #[default]
    Seconds,
    /// Environment steps.
    EnvironmentSteps,
}

/// Bytes over the run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// What the points' first numbers are.
    pub along: Along,
    /// (position, resident bytes of the process), positions ascending.
    pub resident: Vec<(f64, u64)>,
    /// (position, bytes that the ledger counts), where they were read.
    pub counted: Vec<(f64, u64)>,
    /// The memory limit, where one was set.
    pub limit_bytes: Option<u64>,
    /// Highest resident bytes that the system saw, which the points may have missed.
    pub peak_resident_bytes: Option<u64>,
}
