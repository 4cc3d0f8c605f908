//! A bar: what a market did between two moments.

/// One minute, in milliseconds.
pub const MINUTE_MILLIS: i64 = 60_000;
/// The decision clock: five minutes, in milliseconds.
pub const DECISION_MILLIS: i64 = 5 * MINUTE_MILLIS;
/// The clock of the structure view: thirty minutes, in milliseconds.
pub const STRUCTURE_MILLIS: i64 = 30 * MINUTE_MILLIS;
/// One day, in milliseconds.
pub const DAY_MILLIS: i64 = 24 * 60 * MINUTE_MILLIS;

/// Open, high, low, close and volume of one span of time. Times are UTC, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// The first moment of the bar.
    pub open_millis: i64,
    /// The first moment after the bar: from here on it may be seen.
    pub close_millis: i64,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// Traded volume, in the instrument's own unit; may be 0.
    pub volume: f64,
}

/// An instrument's bars as they were imported or made: in order of time, without overlap, of one width.
#[derive(Debug, Clone, PartialEq)]
pub struct BarSeries {
    /// A short name: the file's stem, or `synthetic`.
    pub name: String,
    /// Width of every bar, in milliseconds.
    pub width_millis: i64,
    /// The bars, oldest first. Gaps are kept as gaps.
    pub bars: Vec<Bar>,
}
