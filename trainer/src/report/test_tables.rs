//! The test as data: `test.parquet`, a row per policy and bar, and `trades.csv`, a row per trade.
//!
//! Rows are written some thousands at a time, so that they take a few mebibytes however long the test is.

use crate::error::Result;
use crate::format;
use crate::market::account::N_ACTIONS;
use crate::market::backtest::{Backtest, Trade};
use crate::report::test_rows::AGENT;
use crate::run::agent_backtests::Decisions;
use crate::run::folder::RunFolder;
use crate::run::market_test::MarketTest;
use crate::table_file::{Column, write_table};

/// Rows that are held before they are written.
const BATCH_ROWS: usize = 1 << 12;

/// Names of the columns of action values.
const VALUE_NAMES: [&str; N_ACTIONS] = ["value_short", "value_flat", "value_long"];

/// Writes both files.
///
/// # Errors
/// If the disk refuses.
pub(super) fn write(folder: &RunFolder, test: &MarketTest) -> Result<()> {
    write_table(&folder.test_bars(), &bar_columns(&mut Bars::default()), |table| {
        for (policy, backtests) in policies(test) {
            for (instrument, backtest) in backtests.iter().enumerate() {
                let decisions = (policy == AGENT).then(|| test.decisions.get(instrument)).flatten();
                let costs = costs_per_bar(backtest, test.cost_bps * 1e-4);
                for start in (0..backtest.equity.len()).step_by(BATCH_ROWS) {
                    let end = (start + BATCH_ROWS).min(backtest.equity.len());
                    let mut bars = Bars::default();
                    (start..end).for_each(|at| bars.push(policy, backtest, decisions, costs[at], at));
                    table.write(&bar_columns(&mut bars))?;
                }
            }
        }
        Ok(())
    })?;
    write_table(&folder.trades(), &trade_columns(&[]), |table| {
        for (policy, backtests) in policies(test) {
            for backtest in backtests {
                for trades in backtest.trades.chunks(BATCH_ROWS) {
                    let rows: Vec<TradeRow> = trades
                        .iter()
                        .map(|trade| TradeRow::new(policy, backtest, trade, test.cost_bps))
                        .collect();
                    table.write(&trade_columns(&rows))?;
                }
            }
        }
        Ok(())
    })
}

/// The agent, every baseline, and the oracle where there is one.
fn policies(test: &MarketTest) -> Vec<(&'static str, &[Backtest])> {
    let baselines = test.baselines.iter().map(|(baseline, backtests)| (baseline.key(), backtests.as_slice()));
    let oracle = test.oracle.iter().map(|oracle| ("oracle", oracle.backtests.as_slice()));
    std::iter::once((AGENT, test.agent.as_slice())).chain(baselines).chain(oracle).collect()
}

/// Costs paid in the bar that ends at each mark, in currency: those of the entries and exits in it.
fn costs_per_bar(backtest: &Backtest, cost_fraction: f64) -> Vec<f64> {
    let mut costs = vec![0.0; backtest.equity.len()];
    for trade in &backtest.trades {
        let cost = |price: f64| trade.units * price * cost_fraction;
        if let Some(paid) = costs.get_mut(bar_of(backtest, trade.entry_millis)) {
            *paid += cost(trade.entry_price);
        }
        let exit = trade.exit_millis.filter(|_| !trade.is_ruined);
        if let Some(paid) = exit.and_then(|millis| costs.get_mut(bar_of(backtest, millis))) {
            *paid += cost(trade.exit_price);
        }
    }
    costs
}

/// The mark at the end of the bar that opens at `open_millis`.
fn bar_of(backtest: &Backtest, open_millis: i64) -> usize {
    backtest.times_millis.partition_point(|&close| close <= open_millis)
}

#[derive(Default)]
struct Bars {
    times_millis: Vec<i64>,
    texts: [Vec<String>; 2],
    /// Price, position, equity, reward and cost.
    numbers: [Vec<f64>; 5],
    values: [Vec<f32>; N_ACTIONS],
}

impl Bars {
    fn push(
        &mut self,
        policy: &str,
        backtest: &Backtest,
        decisions: Option<&Decisions>,
        cost: f64,
        at: usize,
    ) {
        self.times_millis.push(backtest.times_millis[at]);
        self.texts[0].push(policy.to_owned());
        self.texts[1].push(backtest.name.clone());
        let equity = backtest.equity[at];
        let before = at.checked_sub(1).map_or(backtest.start_equity, |before| backtest.equity[before]);
        let reward = 1e4 * (equity / before).ln();
        let numbers = [backtest.price[at], f64::from(backtest.position[at]), equity, reward, cost];
        self.numbers.iter_mut().zip(numbers).for_each(|(column, number)| column.push(number));
        for (action, column) in self.values.iter_mut().enumerate() {
            let value = decisions.and_then(|one| one.action_values.get(at * N_ACTIONS + action));
            column.push(value.copied().unwrap_or(f32::NAN));
        }
    }
}

/// The columns, which take the rows out of `bars`.
fn bar_columns(bars: &mut Bars) -> Vec<Column> {
    let bars = std::mem::take(bars);
    let mut columns = vec![Column::Time { name: "time".to_owned(), millis: bars.times_millis }];
    let texts = ["policy", "instrument"].into_iter().zip(bars.texts);
    columns.extend(texts.map(|(name, values)| Column::Text { name: name.to_owned(), values }));
    let numbers = ["price", "position", "equity", "reward_bps", "cost"].into_iter().zip(bars.numbers);
    columns.extend(numbers.map(|(name, values)| Column::Double { name: name.to_owned(), values }));
    let values = VALUE_NAMES.into_iter().zip(bars.values);
    columns.extend(values.map(|(name, values)| Column::Float { name: name.to_owned(), values }));
    columns
}

/// One trade as texts and numbers.
struct TradeRow {
    /// Policy, instrument, side, entry, exit and how it ended.
    texts: [String; 6],
    /// Units, entry price, exit price, profit, cost and bars held.
    numbers: [f64; 6],
}

impl TradeRow {
    fn new(policy: &str, backtest: &Backtest, trade: &Trade, cost_bps: f64) -> Self {
        let moment = |millis: i64| format::utc(millis, "%Y-%m-%dT%H:%M:%SZ");
        let ended = match trade.exit_millis {
            None => "open",
            Some(_) if trade.is_ruined => "ruin",
            Some(_) if trade.is_stopped => "stop",
            Some(_) => "decision",
        };
        let entry_bar = bar_of(backtest, trade.entry_millis);
        // A stop and a ruin leave within their bar, a decision at its open.
        let exit_bar = match (trade.exit_millis, ended) {
            (Some(millis), "decision") => bar_of(backtest, millis),
            (Some(millis), _) => bar_of(backtest, millis) + 1,
            (None, _) => backtest.times_millis.len(),
        };
        let n_paid = if trade.exit_millis.is_some() && !trade.is_ruined { trade.exit_price } else { 0.0 };
        let cost = trade.units * (trade.entry_price + n_paid) * cost_bps * 1e-4;
        Self {
            texts: [
                policy.to_owned(),
                backtest.name.clone(),
                if trade.position > 0 { "long" } else { "short" }.to_owned(),
                moment(trade.entry_millis),
                trade.exit_millis.map_or_else(String::new, moment),
                ended.to_owned(),
            ],
            numbers: [
                trade.units,
                trade.entry_price,
                trade.exit_price,
                trade.profit,
                cost,
                exit_bar.saturating_sub(entry_bar) as f64,
            ],
        }
    }
}

fn trade_columns(rows: &[TradeRow]) -> Vec<Column> {
    let texts = ["policy", "instrument", "side", "entry_time", "exit_time", "ended_by"];
    let numbers = ["units", "entry_price", "exit_price", "profit", "cost", "bars_held"];
    let text = |(at, name): (usize, &str)| Column::Text {
        name: name.to_owned(),
        values: rows.iter().map(|row| row.texts[at].clone()).collect(),
    };
    let number = |(at, name): (usize, &str)| Column::Double {
        name: name.to_owned(),
        values: rows.iter().map(|row| row.numbers[at]).collect(),
    };
    texts.into_iter().enumerate().map(text).chain(numbers.into_iter().enumerate().map(number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::account::{AccountRules, FLAT, LONG, SHORT};
    use crate::market::backtest::backtest;
    use crate::market::price_series::PriceSeries;

    /// A market that falls and rises, in which stops and the floor act.
    fn traded() -> Backtest {
        let series = PriceSeries::swinging(120, 0.7, 8.0);
        let rules = AccountRules { stop_atr: 3.0, ..AccountRules::default() };
        backtest(&series, 0..110, &rules, &mut |t, _| [LONG, LONG, SHORT, SHORT, FLAT][t % 5])
    }

    #[test]
    fn costs_by_bar_and_by_trade_are_all_costs() {
        let traded = traded();
        assert!(traded.trades.iter().any(|trade| trade.is_stopped) && traded.trades.len() > 20);
        let by_bar: f64 = costs_per_bar(&traded, 2e-4).iter().sum();
        let by_trade: f64 =
            traded.trades.iter().map(|trade| TradeRow::new("agent", &traded, trade, 2.0).numbers[4]).sum();
        for cost in [by_bar, by_trade] {
            assert!((cost - traded.cost).abs() < 1e-9 * traded.cost, "{cost} is not {}", traded.cost);
        }
    }

    #[test]
    fn rewards_by_bar_sum_to_the_log_return_and_bars_held_to_the_exposure() {
        let traded = traded();
        let costs = costs_per_bar(&traded, 2e-4);
        let mut bars = Bars::default();
        (0..traded.equity.len()).for_each(|at| bars.push("agent", &traded, None, costs[at], at));
        let sum: f64 = bars.numbers[3].iter().sum();
        assert!((sum - traded.reward_sum).abs() < 1e-9);
        let held: f64 =
            traded.trades.iter().map(|trade| TradeRow::new("agent", &traded, trade, 2.0).numbers[5]).sum();
        assert_eq!(held as usize, traded.n_bars_long + traded.n_bars_short);
    }
}
