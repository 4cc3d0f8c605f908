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

#[cfg(test)]
impl PriceSeries {
    /// `n_bars` bars whose price swings by `amplitude` about 100, by `step` of its phase from one bar to the next.
    pub(crate) fn swinging(n_bars: i64, step: f64, amplitude: f64) -> Self {
        use crate::market::bar::DECISION_MILLIS;
        let price = |i: i64| 100.0 + (i as f64 * step).sin() * amplitude;
        let bar = |i: i64| Bar {
            open_millis: i * DECISION_MILLIS,
            close_millis: (i + 1) * DECISION_MILLIS,
            open: price(i),
            high: price(i).max(price(i + 1)),
            low: price(i).min(price(i + 1)),
            close: price(i + 1),
            volume: 1.0,
        };
        let bars: Vec<Bar> = (0..n_bars).map(bar).collect();
        Self { name: "t".to_owned(), atr: vec![1.0; bars.len()], bars, first_decision: 0 }
    }
}
