//! A backtest: it trades one account over a range of bars by a policy, and keeps what a report needs.
//!
//! A backtest is deterministic if its policy is. To ask one batch of a network for several accounts, make a
//! [`BacktestRunner`] for each and advance them side by side; [`backtest`] is the loop over one account.
//!
//! Once the equity is below the floor, the policy decides no more: the position is closed at the next open at the
//! usual costs, and the account stays flat. A position that is open at the end of the range is marked there and not
//! closed.

pub mod baselines;
pub mod bootstrap;
pub mod costs;
pub mod months;
pub mod oracle;
pub mod performance;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::market::account::{ACCOUNT_WIDTH, Account, AccountRules, BarOutcome, FLAT, Fill, target_of};
use crate::market::bar::Bar;
use crate::market::price_series::PriceSeries;

/// One trade: an entry and, unless it was still open at the end, its exit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// −1 short, +1 long.
    pub position: i8,
    /// Units held, without sign.
    pub units: f64,
    /// Open of the bar in which it was entered, UTC.
    pub entry_millis: i64,
    /// Price of the entry.
    pub entry_price: f64,
    /// Open of the bar in which it was left, UTC; none if it was open at the end.
    pub exit_millis: Option<i64>,
    /// Price of the exit, or of the last mark if it was open at the end.
    pub exit_price: f64,
    /// True where the stop closed it.
    pub is_stopped: bool,
    /// True where the account was spent, which closed it without a fill and its costs.
    pub is_ruined: bool,
    /// Profit in currency, less its own costs at entry and exit.
    pub profit: f64,
}

/// The result of trading one account. The four series have one element more than there were decisions: the first
/// element is the mark at the close of the first decision, before any trade.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Backtest {
    /// The instrument.
    pub name: String,
    /// Close of each bar, UTC.
    pub times_millis: Vec<i64>,
    /// Equity at each close, in currency.
    pub equity: Vec<f64>,
    /// Close price.
    pub price: Vec<f64>,
    /// Position held at each close: −1, 0 or +1.
    pub position: Vec<i8>,
    /// Equity at the start, in currency.
    pub start_equity: f64,
    /// Sum of the rewards in basis points: 10⁴ × ln(last equity / first equity).
    pub reward_sum: f64,
    /// Sum of the drawdown penalties in basis points; not in the rewards.
    pub penalty_sum: f64,
    /// Profit before costs, in currency: last equity = start equity + `pnl` − `cost`.
    pub pnl: f64,
    /// Costs paid, in currency.
    pub cost: f64,
    /// Traded notional, in currency: both sides of each trade.
    pub traded_notional: f64,
    /// Bars in which a long position was held at any moment.
    pub n_bars_long: usize,
    /// Bars in which a short position was held at any moment.
    pub n_bars_short: usize,
    /// Every entry, in order of time; the last one may be open.
    pub trades: Vec<Trade>,
    /// Index, in the series, of the close at which the equity was below the floor; `None` if it never was.
    pub terminated_at: Option<usize>,
}

/// A backtest in progress: call [`next_decision`](BacktestRunner::next_decision) and answer with
/// [`act`](BacktestRunner::act) until it returns `None`.
#[derive(Debug, Clone)]
pub struct BacktestRunner<'a> {
    series: &'a PriceSeries,
    rules: AccountRules,
    /// The bar just closed.
    t: usize,
    end: usize,
    account: Account,
    /// Cost of the open trade's entry.
    entry_cost: f64,
    result: Backtest,
}

/// Trades `series` over the decisions in `range`. `policy` gets the index of the bar just closed and the account's
/// view, and returns an action.
///
/// A decision at `t` is marked at bar `t + 1`, so a range that reaches further than the last but one bar is cut
/// there.
#[must_use]
pub fn backtest(
    series: &PriceSeries,
    range: Range<usize>,
    rules: &AccountRules,
    policy: &mut dyn FnMut(usize, &[f32; ACCOUNT_WIDTH]) -> usize,
) -> Backtest {
    let mut runner = BacktestRunner::new(series, range, rules);
    while let Some((t, view)) = runner.next_decision() {
        runner.act(policy(t, &view));
    }
    runner.finish()
}

impl<'a> BacktestRunner<'a> {
    /// A flat account at the close of the first bar of `range`.
    #[must_use]
    pub fn new(series: &'a PriceSeries, range: Range<usize>, rules: &AccountRules) -> Self {
        let end = range.end.min(series.bars.len().saturating_sub(1));
        let first = series.bars.get(range.start);
        let n_marks = end.saturating_sub(range.start) + 1;
        let mut runner = BacktestRunner {
            series,
            rules: *rules,
            t: range.start,
            end,
            account: Account::new(rules, first.map_or(1.0, |bar| bar.close)),
            entry_cost: 0.0,
            result: Backtest {
                name: series.name.clone(),
                times_millis: Vec::with_capacity(n_marks),
                equity: Vec::with_capacity(n_marks),
                price: Vec::with_capacity(n_marks),
                position: Vec::with_capacity(n_marks),
                start_equity: rules.start_equity,
                ..Backtest::default()
            },
        };
        if let Some(bar) = first {
            runner.mark(bar);
        }
        runner
    }

    /// The index of the bar just closed and the account's view at its close; `None` at the end of the range, and
    /// once the equity is below the floor.
    #[must_use]
    pub fn next_decision(&self) -> Option<(usize, [f32; ACCOUNT_WIDTH])> {
        let is_open = self.t < self.end && self.result.terminated_at.is_none();
        let view = || self.account.view(&self.series.bars[self.t], self.series.atr[self.t], &self.rules);
        is_open.then(|| (self.t, view()))
    }

    /// Advances the account by one bar. Does nothing at the end of the range.
    pub fn act(&mut self, action: usize) {
        if self.t >= self.end {
            return;
        }
        let bar = &self.series.bars[self.t + 1];
        let position_before = self.account.position();
        let outcome = self.account.advance(target_of(action), self.series.atr[self.t], bar, &self.rules);
        self.t += 1;
        self.record(bar, position_before, &outcome);
        self.mark(bar);
        if outcome.terminated && self.result.terminated_at.is_none() {
            self.result.terminated_at = Some(self.result.equity.len() - 1);
        }
    }

    /// The result. The account stays flat over the bars that had no decision.
    #[must_use]
    pub fn finish(mut self) -> Backtest {
        while self.t < self.end {
            self.act(FLAT);
        }
        self.mark_open_trade();
        self.result
    }

    fn record(&mut self, bar: &Bar, position_before: i8, outcome: &BarOutcome) {
        let result = &mut self.result;
        result.reward_sum += outcome.reward;
        result.penalty_sum += outcome.penalty;
        result.pnl += outcome.pnl;
        result.cost += outcome.cost;
        let held = outcome.order.map_or(f64::from(position_before), |fill| fill.units_after);
        result.n_bars_long += usize::from(held > 0.0);
        result.n_bars_short += usize::from(held < 0.0);
        if let Some(fill) = &outcome.order {
            self.book_fill(bar, fill, false);
        }
        if let Some(fill) = &outcome.stop {
            self.book_fill(bar, fill, true);
        }
        // A ruined account loses its position without a fill.
        if self.account.position() == 0
            && let Some(trade) = self.result.trades.last_mut().filter(|trade| trade.exit_millis.is_none())
        {
            trade.profit =
                f64::from(trade.position) * trade.units * (bar.close - trade.entry_price) - self.entry_cost;
            trade.exit_price = bar.close;
            trade.exit_millis = Some(bar.open_millis);
            trade.is_ruined = true;
        }
    }

    fn book_fill(&mut self, bar: &Bar, fill: &Fill, is_stopped: bool) {
        let cost_of = |units: f64| units.abs() * fill.price * self.rules.costs.fraction();
        self.result.traded_notional += fill.notional();
        if fill.units_before != 0.0
            && let Some(trade) = self.result.trades.last_mut()
        {
            let gain = fill.units_before * (fill.price - trade.entry_price);
            trade.profit = gain - self.entry_cost - cost_of(fill.units_before);
            trade.exit_millis = Some(bar.open_millis);
            trade.exit_price = fill.price;
            trade.is_stopped = is_stopped;
        }
        if fill.units_after != 0.0 {
            self.entry_cost = cost_of(fill.units_after);
            self.result.trades.push(Trade {
                position: if fill.units_after > 0.0 { 1 } else { -1 },
                units: fill.units_after.abs(),
                entry_millis: bar.open_millis,
                entry_price: fill.price,
                exit_millis: None,
                exit_price: fill.price,
                is_stopped: false,
                is_ruined: false,
                profit: -self.entry_cost,
            });
        }
    }

    fn mark(&mut self, bar: &Bar) {
        self.result.times_millis.push(bar.close_millis);
        self.result.equity.push(self.account.equity());
        self.result.price.push(bar.close);
        self.result.position.push(self.account.position());
    }

    fn mark_open_trade(&mut self) {
        if let (Some(trade), Some(&price)) = (self.result.trades.last_mut(), self.result.price.last())
            && trade.exit_millis.is_none()
        {
            trade.exit_price = price;
            trade.profit =
                f64::from(trade.position) * trade.units * (price - trade.entry_price) - self.entry_cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::account::{Costs, LONG, SHORT};
    use crate::market::bar::DECISION_MILLIS;
    use proptest::prelude::*;

    fn series(prices: &[(f64, f64)]) -> PriceSeries {
        let bars = prices.iter().zip(0i64..).map(|(&(open, close), i)| Bar {
            open_millis: i * DECISION_MILLIS,
            close_millis: (i + 1) * DECISION_MILLIS,
            open,
            high: open.max(close),
            low: open.min(close),
            close,
            volume: 1.0,
        });
        PriceSeries {
            name: "t".to_owned(),
            bars: bars.collect(),
            atr: vec![1.0; prices.len()],
            first_decision: 0,
        }
    }

    fn flat_price(n: usize) -> PriceSeries {
        series(&vec![(100.0, 100.0); n])
    }

    fn check(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} is not {expected}");
    }

    #[test]
    fn reward_sum_is_the_log_return_and_trades_add_up_to_the_profit() {
        let series = series(&[
            (100.0, 100.0),
            (101.0, 103.0),
            (103.0, 102.0),
            (104.0, 99.0),
            (99.0, 97.0),
            (97.0, 95.0),
        ]);
        let actions = [LONG, LONG, SHORT, SHORT, FLAT];
        let rules = AccountRules { stop_atr: 0.0, ..AccountRules::default() };
        let result = backtest(&series, 0..5, &rules, &mut |t, _| actions[t]);

        let last = result.equity[5];
        check(result.reward_sum, 1e4 * (last / 10_000.0).ln());
        check(last, result.start_equity + result.pnl - result.cost);
        check(result.trades.iter().map(|trade| trade.profit).sum(), last - 10_000.0);
        assert_eq!(result.position, [0, 1, 1, -1, -1, 0]);
        assert_eq!(result.price, [100.0, 103.0, 102.0, 99.0, 97.0, 95.0]);
        assert_eq!(result.times_millis[5], 6 * DECISION_MILLIS);
        let entries: Vec<(i8, f64, f64)> =
            result.trades.iter().map(|trade| (trade.position, trade.entry_price, trade.exit_price)).collect();
        assert_eq!(entries, [(1, 101.0, 104.0), (-1, 104.0, 97.0)]);
        assert_eq!((result.n_bars_long, result.n_bars_short), (2, 2));
    }

    #[test]
    fn an_open_position_is_marked_and_counted_at_the_end() {
        let series = series(&[(100.0, 100.0), (100.0, 100.0), (100.0, 110.0)]);
        let rules = AccountRules { costs: Costs::FREE, ..AccountRules::default() };
        let result = backtest(&series, 0..2, &rules, &mut |_, _| LONG);
        assert_eq!(result.trades.len(), 1);
        assert_eq!((result.trades[0].exit_millis, result.trades[0].exit_price), (None, 110.0));
        check(result.trades[0].profit, 1_000.0);
    }

    #[test]
    fn a_stop_is_booked_as_the_end_of_its_trade() {
        let series = series(&[(100.0, 100.0), (100.0, 95.0), (95.0, 95.0)]);
        let rules = AccountRules { stop_atr: 2.0, ..AccountRules::default() };
        let result = backtest(&series, 0..2, &rules, &mut |t, _| if t == 0 { LONG } else { FLAT });
        assert_eq!((result.trades.len(), result.trades[0].is_stopped), (1, true));
        check(result.trades[0].exit_price, 98.0);
        check(result.trades[0].profit, -200.0 - 2.0 - 1.96);
        assert_eq!((result.n_bars_long, result.n_bars_short), (1, 0));
    }

    #[test]
    fn an_account_under_the_floor_is_closed_and_asked_no_more() {
        let series = series(&[(100.0, 100.0), (100.0, 40.0), (40.0, 40.0), (40.0, 80.0), (80.0, 80.0)]);
        let rules = AccountRules { stop_atr: 0.0, ..AccountRules::default() };
        let mut n_asked = 0;
        let result = backtest(&series, 0..4, &rules, &mut |_, _| {
            n_asked += 1;
            LONG
        });
        assert_eq!((n_asked, result.terminated_at), (1, Some(1)));
        assert_eq!(result.position, [0, 1, 0, 0, 0]);
        assert_eq!(result.equity.len(), 5);
        check(result.equity[4], 10_000.0 * 0.4 - 2.0 - 0.8);
    }

    #[test]
    fn the_view_handed_to_the_policy_is_that_of_its_bar() {
        let series = flat_price(4);
        let mut seen = Vec::new();
        let rules = AccountRules::default();
        let result = backtest(&series, 1..3, &rules, &mut |t, view| {
            seen.push((t, view[0]));
            SHORT
        });
        assert_eq!(seen, [(1, 0.0), (2, -1.0)]);
        check(result.cost, 2.0);
    }

    #[test]
    fn a_range_past_the_bars_is_cut_and_an_empty_one_gives_no_trade() {
        let series = flat_price(4);
        let rules = AccountRules::default();
        assert_eq!(backtest(&series, 1..99, &rules, &mut |_, _| LONG).equity.len(), 3);
        let empty = backtest(&series, 2..2, &rules, &mut |_, _| LONG);
        assert_eq!((empty.equity, empty.trades.len()), (vec![10_000.0], 0));
        assert!(backtest(&series, 50..60, &rules, &mut |_, _| LONG).equity.is_empty());
    }

    proptest! {
        #[test]
        fn identities_hold_over_random_walks(
            steps in proptest::collection::vec((-0.04f64..0.04, -0.04f64..0.04, 0usize..3), 2..300),
            stop_atr in 0.0f64..6.0, position_limit in 0.2f64..2.5,
        ) {
            let mut price = 100.0;
            let prices: Vec<(f64, f64)> = steps.iter().map(|(gap, body, _)| {
                let open = price * (1.0 + gap);
                price = open * (1.0 + body);
                (open, price)
            }).collect();
            let series = series(&prices);
            let rules = AccountRules { stop_atr, position_limit, ..AccountRules::default() };
            let n = steps.len() - 1;
            let result = backtest(&series, 0..n, &rules, &mut |t, _| steps[t].2);

            let (first, last) = (result.equity[0], result.equity[n]);
            prop_assert!((result.reward_sum * 1e-4 - (last / first).ln()).abs() <= 1e-9);
            prop_assert!(((first + result.pnl - result.cost - last) / first).abs() <= 1e-9);
            prop_assert!((result.cost - 2e-4 * result.traded_notional).abs() / first <= 1e-9);
            if last > 10.0 + 1e-6 {
                // A ruined account's last trade lost more than the account had.
                let profit: f64 = result.trades.iter().map(|trade| trade.profit).sum();
                prop_assert!(((first + profit - last) / first).abs() <= 1e-9);
            }
        }
    }
}
