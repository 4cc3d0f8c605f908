//! Performance measures: how much was earned, at what risk, with how much trading.
//!
//! All measures are computed in f64 from the marks of one backtest, or of several with equal capital each. No
//! measure is NaN or infinite: a ratio whose denominator is 0 is 0, and the win rate of no closed trades is none.

use serde::{Deserialize, Serialize};

use crate::market::backtest::Backtest;
use crate::market::backtest::bootstrap::{intervals, ratio};

/// Days of a mean year.
const YEAR_DAYS: f64 = 365.25;
/// A mean year, in milliseconds.
const YEAR_MILLIS: f64 = YEAR_DAYS * 24.0 * 3_600_000.0;

/// The measures of one equity curve. Fractions are of the starting equity unless stated otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// Last equity / first equity − 1.
    pub total_return: f64,
    /// ln(last equity / first equity): the sum of rewards × 10⁻⁴.
    pub log_return: f64,
    /// Mean simple return per bar over its standard deviation (n − 1), times √(periods per year); the riskless rate
    /// is not subtracted. 0 where the standard deviation is 0.
    pub sharpe: f64,
    /// Mean simple return per bar over the root mean square of the negative returns (taken over all bars), times
    /// √(periods per year). 0 where no bar lost.
    pub sortino: f64,
    /// Deepest fall from the highest equity so far, the starting balance included; a fraction of that highest, ≥ 0.
    pub max_drawdown: f64,
    /// Traded notional, both sides of each trade, over the mean equity. It covers the whole span and is not
    /// annualised.
    pub turnover: f64,
    /// 95 % interval of `sharpe` by a stationary bootstrap; none where the returns are too few or do not vary.
    pub sharpe_interval: Option<[f64; 2]>,
    /// The same of `sortino`.
    pub sortino_interval: Option<[f64; 2]>,
    /// Bars in which a position was held, as a fraction of all bars of all instruments.
    pub exposure: f64,
    /// Bars in which a long position was held, as such a fraction.
    pub exposure_long: f64,
    /// Bars in which a short position was held, as such a fraction.
    pub exposure_short: f64,
    /// Commission, spread and slippage, as a fraction of the starting equity.
    pub cost: f64,
    /// Closed trades with a profit above 0 after their own costs, as a fraction of the closed trades; none of none.
    pub win_rate: Option<f64>,
    /// Number of entries. The last trade of an instrument may still be open.
    pub trades: u64,
    /// Number of returns in the curve: marks less one.
    pub n_bars: u64,
    /// `n_bars` over the years between the first and the last mark: sessions, gaps and holidays count as they are.
    pub periods_per_year: f64,
}

/// An equity curve, 1 at its start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EquityCurve {
    /// Closes, UTC.
    pub times_millis: Vec<i64>,
    /// Equity at each close, as a multiple of the starting equity.
    pub equity: Vec<f64>,
}

impl EquityCurve {
    /// Joins backtests with equal capital each. At every close of any instrument the value is the mean of the last
    /// known equities, each as a multiple of its own start; an instrument that has not begun counts as 1. Capital
    /// does not move between instruments.
    #[must_use]
    pub fn join(backtests: &[Backtest]) -> EquityCurve {
        let started: Vec<&Backtest> = backtests.iter().filter(|one| !one.equity.is_empty()).collect();
        let mut next = vec![0; started.len()];
        let mut last_known = vec![1.0; started.len()];
        let mut curve = EquityCurve::default();
        let upcoming = |next: &[usize]| {
            started.iter().zip(next).filter_map(|(one, &i)| one.times_millis.get(i)).min().copied()
        };
        while let Some(time) = upcoming(&next) {
            for ((one, i), known) in started.iter().zip(&mut next).zip(&mut last_known) {
                if one.times_millis.get(*i) == Some(&time) {
                    *known = one.equity[*i] / one.start_equity;
                    *i += 1;
                }
            }
            curve.times_millis.push(time);
            curve.equity.push(last_known.iter().sum::<f64>() / last_known.len() as f64);
        }
        curve
    }

    /// Simple returns per bar.
    #[must_use]
    pub fn returns(&self) -> Vec<f64> {
        self.equity.windows(2).map(|pair| pair[1] / pair[0] - 1.0).collect()
    }
}

impl Performance {
    /// The measures of one backtest.
    #[must_use]
    pub fn of(backtest: &Backtest) -> Performance {
        Performance::of_portfolio(std::slice::from_ref(backtest))
    }

    /// As [`Performance::of_portfolio`], with intervals, which take a second look at every return.
    #[must_use]
    pub fn with_intervals(backtests: &[Backtest]) -> Performance {
        let performance = Performance::of_portfolio(backtests);
        let returns = EquityCurve::join(backtests).returns();
        // A block is a day long on average.
        let found = intervals(&returns, performance.periods_per_year / YEAR_DAYS);
        let per_year = |ends: [f64; 2]| ends.map(|end| end * performance.periods_per_year.sqrt());
        Performance {
            sharpe_interval: found.map(|found| per_year(found.sharpe)),
            sortino_interval: found.map(|found| per_year(found.sortino)),
            ..performance
        }
    }

    /// The measures of several instruments with equal capital each, joined by [`EquityCurve::join`]. Costs, trades
    /// and traded notional are summed over all instruments. They have no intervals.
    #[must_use]
    pub fn of_portfolio(backtests: &[Backtest]) -> Performance {
        let curve = EquityCurve::join(backtests);
        let (Some(&first_time), Some(&last_time)) = (curve.times_millis.first(), curve.times_millis.last())
        else {
            return Performance::default();
        };
        let n_instruments = backtests.iter().filter(|one| !one.equity.is_empty()).count() as f64;
        let share = |of: fn(&Backtest) -> f64| {
            backtests.iter().map(|one| of(one) / one.start_equity).sum::<f64>() / n_instruments
        };
        let n_marks = curve.equity.len();
        let n_bars = n_marks - 1;
        let last_equity = curve.equity[n_bars];
        let periods_per_year = ratio(n_bars as f64, (last_time - first_time) as f64 / YEAR_MILLIS);
        let returns = curve.returns();
        let mean_equity = curve.equity.iter().sum::<f64>() / n_marks as f64;
        let n_decided: usize = backtests.iter().map(|one| one.equity.len().saturating_sub(1)).sum();
        let share_of_bars = |of: fn(&Backtest) -> usize| {
            ratio(backtests.iter().map(of).sum::<usize>() as f64, n_decided as f64)
        };
        let (exposure_long, exposure_short) =
            (share_of_bars(|one| one.n_bars_long), share_of_bars(|one| one.n_bars_short));
        let closed =
            || backtests.iter().flat_map(|one| &one.trades).filter(|trade| trade.exit_millis.is_some());
        let n_won = closed().filter(|trade| trade.profit > 0.0).count();

        Performance {
            total_return: last_equity - 1.0,
            log_return: last_equity.ln(),
            sharpe: sharpe(&returns) * periods_per_year.sqrt(),
            sortino: sortino(&returns) * periods_per_year.sqrt(),
            max_drawdown: max_drawdown(&curve.equity),
            turnover: share(|one| one.traded_notional) / mean_equity,
            sharpe_interval: None,
            sortino_interval: None,
            exposure: exposure_long + exposure_short,
            exposure_long,
            exposure_short,
            cost: share(|one| one.cost),
            win_rate: (closed().count() > 0).then(|| n_won as f64 / closed().count() as f64),
            trades: backtests.iter().map(|one| one.trades.len() as u64).sum(),
            n_bars: n_bars as u64,
            periods_per_year,
        }
    }
}

/// The t statistic of the mean log return per bar of `curve` over that of `other`, which has the same marks, or over 0. None
/// where the difference does not vary, such as that of an agent that never trades.
#[must_use]
pub fn t_of_difference(curve: &EquityCurve, other: Option<&EquityCurve>) -> Option<f64> {
    let log_return = |pair: &[f64]| (pair[1] / pair[0]).ln();
    let mut differences: Vec<f64> = curve.equity.windows(2).map(log_return).collect();
    for (difference, pair) in
        differences.iter_mut().zip(other.into_iter().flat_map(|other| other.equity.windows(2)))
    {
        *difference -= log_return(pair);
    }
    let n = differences.len() as f64;
    let mean = mean(&differences);
    let variance = ratio(differences.iter().map(|value| (value - mean).powi(2)).sum(), n - 1.0);
    (variance.sqrt() > 1e-12 * mean.abs()).then(|| mean / variance.sqrt() * n.sqrt())
}

/// Deepest fall below the highest value so far, the first included, as a fraction of that highest.
#[must_use]
pub fn max_drawdown(equity: &[f64]) -> f64 {
    let mut highest = f64::MIN_POSITIVE;
    let fall = |&value: &f64| {
        highest = highest.max(value);
        1.0 - value / highest
    };
    equity.iter().map(fall).fold(0.0, f64::max)
}

fn mean(values: &[f64]) -> f64 {
    ratio(values.iter().sum(), values.len() as f64)
}

/// Mean over sample standard deviation; 0 where all values are equal up to rounding.
fn sharpe(returns: &[f64]) -> f64 {
    let mean = mean(returns);
    let squares: f64 = returns.iter().map(|r| (r - mean).powi(2)).sum();
    let spread = ratio(squares, returns.len() as f64 - 1.0).sqrt();
    if spread <= 1e-12 * mean.abs() { 0.0 } else { ratio(mean, spread) }
}

fn sortino(returns: &[f64]) -> f64 {
    let squares: f64 = returns.iter().map(|r| r.min(0.0).powi(2)).sum();
    ratio(mean(returns), ratio(squares, returns.len() as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::backtest::Trade;

    const BAR: i64 = 300_000;

    fn result(start_time: i64, equity: &[f64]) -> Backtest {
        let n = equity.len();
        Backtest {
            name: "t".to_owned(),
            times_millis: (0..n as i64).map(|i| start_time + i * BAR).collect(),
            equity: equity.to_vec(),
            price: vec![1.0; n],
            position: vec![0; n],
            start_equity: 100.0,
            reward_sum: 0.0,
            penalty_sum: 0.0,
            pnl: 0.0,
            cost: 1.0,
            traded_notional: 400.0,
            n_bars_long: 1,
            n_bars_short: 0,
            trades: Vec::new(),
            terminated_at: None,
        }
    }

    fn trade(profit: f64, is_closed: bool) -> Trade {
        Trade {
            position: 1,
            units: 1.0,
            entry_millis: 0,
            entry_price: 1.0,
            exit_millis: is_closed.then_some(BAR),
            exit_price: 1.0,
            is_stopped: false,
            is_ruined: false,
            profit,
        }
    }

    fn check(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} is not {expected}");
    }

    #[test]
    fn numbers_are_those_of_a_hand_computation() {
        let performance = Performance::of(&result(0, &[100.0, 110.0, 99.0, 118.8]));
        check(performance.total_return, 0.188);
        check(performance.log_return, 1.188f64.ln());
        check(performance.max_drawdown, 0.1);
        check(performance.periods_per_year, 365.25 * 288.0);
        let year = (365.25f64 * 288.0).sqrt();
        // Returns 0.1, −0.1, 0.2: mean 1/15, sample variance 7/300, downside mean square 0.01/3.
        check(performance.sharpe, (1.0 / 15.0) / (7.0f64 / 300.0).sqrt() * year);
        check(performance.sortino, (1.0 / 15.0) / (0.01f64 / 3.0).sqrt() * year);
        check(performance.turnover, 4.0 / (4.278 / 4.0));
        check(performance.exposure, 1.0 / 3.0);
        check(performance.cost, 0.01);
        assert_eq!(performance.n_bars, 3);
    }

    #[test]
    fn drawdown_counts_from_the_starting_balance() {
        check(Performance::of(&result(0, &[100.0, 90.0, 95.0])).max_drawdown, 0.1);
        check(max_drawdown(&[1.0, 2.0, 3.0]), 0.0);
    }

    #[test]
    fn a_year_has_the_bars_that_were_traded_in_it() {
        let mut sessions = result(0, &[100.0; 5]);
        // Four bars in a week.
        sessions.times_millis = vec![0, BAR, 2 * BAR, 3 * BAR, 7 * 86_400_000];
        check(Performance::of(&sessions).periods_per_year, 4.0 * 365.25 / 7.0);
    }

    #[test]
    fn nothing_is_nan_where_nothing_moved_or_nothing_happened() {
        for equity in [&[][..], &[100.0], &[100.0, 100.0], &[100.0, 100.0, 100.0], &[100.0, 110.0, 121.0]] {
            let performance = Performance::of(&result(0, equity));
            let numbers = [
                performance.total_return,
                performance.log_return,
                performance.turnover,
                performance.exposure,
                performance.periods_per_year,
            ];
            assert!(numbers.iter().all(|x| x.is_finite()), "{performance:?}");
            assert_eq!(performance.win_rate, None, "no trade was closed");
            assert_eq!((performance.sharpe, performance.sortino, performance.max_drawdown), (0.0, 0.0, 0.0));
        }
        assert_eq!(Performance::of_portfolio(&[]), Performance::default());
    }

    #[test]
    fn win_rate_is_of_closed_trades_and_trades_counts_entries() {
        let mut one = result(0, &[100.0, 101.0]);
        one.trades =
            vec![trade(1.0, true), trade(-1.0, true), trade(2.0, true), trade(0.0, true), trade(9.0, false)];
        let performance = Performance::of(&one);
        assert_eq!(performance.win_rate, Some(0.5));
        one.trades.retain(|trade| trade.exit_millis.is_none());
        let performance_of_open = Performance::of(&one);
        assert_eq!((performance_of_open.win_rate, performance_of_open.trades), (None, 1));
        assert_eq!(performance.trades, 5);
    }

    #[test]
    fn instruments_are_joined_with_equal_capital_on_the_union_of_their_times() {
        let mut rich = result(BAR, &[1_000.0, 1_200.0]);
        rich.start_equity = 1_000.0;
        let parts = [result(0, &[100.0, 110.0]), rich, result(0, &[])];
        let curve = EquityCurve::join(&parts);
        assert_eq!(curve.times_millis, [0, BAR, 2 * BAR]);
        for (value, expected) in curve.equity.iter().zip([1.0, 1.05, 1.15]) {
            check(*value, expected);
        }
        let performance = Performance::of_portfolio(&parts[..2]);
        check(performance.total_return, 0.15);
        check(performance.cost, (0.01 + 0.001) / 2.0);
        check(performance.exposure, 1.0);
    }
}
