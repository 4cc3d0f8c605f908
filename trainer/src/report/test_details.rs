//! The test in parts: by month, by instrument, and at other costs.

use serde_json::{Map, Value, json};

use crate::market::backtest::Backtest;
use crate::market::backtest::baselines::Baseline;
use crate::market::backtest::months::by_month;
use crate::market::backtest::performance::{EquityCurve, Performance};
use crate::run::market_test::MarketTest;

/// The returns of one month.
#[derive(Debug, Clone, PartialEq)]
pub struct Month {
    /// Such as `2024-03`.
    pub name: String,
    /// The returns of [`whose`]'s backtests, in its order.
    pub returns: Vec<f64>,
}

/// How the agent and buying and holding did in one instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct InstrumentResult {
    /// The instrument's name.
    pub name: String,
    /// The agent.
    pub agent: Performance,
    /// Buying and holding.
    pub buy_and_hold: Performance,
}

/// The agent and every baseline: key, name and backtests.
#[must_use]
pub fn whose(test: &MarketTest) -> Vec<(&'static str, &'static str, &[Backtest])> {
    let baselines =
        test.baselines.iter().map(|(one, backtests)| (one.key(), one.label(), backtests.as_slice()));
    std::iter::once(("agent", "agent", test.agent.as_slice())).chain(baselines).collect()
}

/// The returns by month (UTC) of the agent and every baseline.
#[must_use]
pub fn months(test: &MarketTest) -> Vec<Month> {
    let mut months: Vec<Month> = Vec::new();
    // All curves are over the same bars, so all have the same months.
    for (_, _, backtests) in whose(test) {
        for (at, one) in by_month(&EquityCurve::join(backtests)).into_iter().enumerate() {
            if at == months.len() {
                let (year, month) = one.month;
                months.push(Month { name: format!("{year}-{month:02}"), returns: Vec::new() });
            }
            months[at].returns.push(one.total_return);
        }
    }
    months
}

/// The results of each instrument, where there are several.
#[must_use]
pub fn instruments(test: &MarketTest) -> Vec<InstrumentResult> {
    let held = test.baselines.iter().find(|(baseline, _)| *baseline == Baseline::BuyAndHold);
    let Some((_, held)) = held.filter(|_| test.agent.len() > 1) else { return Vec::new() };
    let pairs = test.agent.iter().zip(held).filter(|(agent, _)| agent.equity.len() > 1);
    pairs
        .map(|(agent, held)| InstrumentResult {
            name: agent.name.clone(),
            agent: Performance::with_intervals(std::slice::from_ref(agent)),
            buy_and_hold: Performance::with_intervals(std::slice::from_ref(held)),
        })
        .collect()
}

/// All of it for a program.
#[must_use]
pub fn json(test: &MarketTest) -> Value {
    let whose = whose(test);
    let month = |month: &Month| {
        let returns =
            whose.iter().zip(&month.returns).map(|((key, ..), value)| ((*key).to_owned(), json!(value)));
        json!({ "month": month.name, "total_return": returns.collect::<Map<_, _>>() })
    };
    let instrument = |one: &InstrumentResult| json!({ "instrument": one.name, "agent": one.agent, "buy_and_hold": one.buy_and_hold });
    let at_costs = |&(multiple, log_return): &(f64, f64)| json!({ "multiple": multiple, "cost_bps": multiple * test.cost_bps, "log_return": log_return });
    json!({
        "by_month": months(test).iter().map(month).collect::<Vec<_>>(),
        "by_instrument": instruments(test).iter().map(instrument).collect::<Vec<_>>(),
        "at_costs": test.at_costs.iter().map(at_costs).collect::<Vec<_>>(),
        "break_even_cost_bps": test.break_even_bps,
        "equity_floor": test.equity_floor,
    })
}
