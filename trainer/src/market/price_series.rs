//! The prices of one instrument, as environments and backtests read them.

use crate::market::bar::Bar;

/// The prices of one instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceSeries {
    /// The instrument's name.
    pub name: String,
    /// Its 5-minute bars, oldest first.
    pub bars: Vec<Bar>,
    /// ATR14 at the close of each bar, in price; NaN until defined. As long as `bars`.
    pub atr: Vec<f64>,
    /// The first bar at whose close every feature is defined.
    pub first_decision: usize,
}
