//! What the same decisions earn at other costs, and the costs at which they earn nothing.
//!
//! The decisions are kept as they were taken: an agent that had learned or acted at other costs would take others. No
//! equity floor ends the account here, so that every multiple is over the same bars.

use std::ops::Range;

use crate::market::account::{Account, AccountRules, Costs, FLAT, target_of};
use crate::market::price_series::PriceSeries;

/// Multiples of the run's costs that a report shows.
pub const MULTIPLES: [f64; 4] = [0.0, 1.0, 2.0, 4.0];

/// Costs beyond this are not looked for, in basis points a side.
const HIGHEST_BPS: f64 = 1_000.0;
/// Halvings of the span that holds the break-even cost: they leave a millionth of a basis point.
const N_HALVINGS: usize = 30;

/// Decisions that were taken in one instrument.
#[derive(Debug, Clone)]
pub struct Decided<'a> {
    /// The prices.
    pub series: &'a PriceSeries,
    /// The decisions' positions in the series.
    pub range: Range<usize>,
    /// The actions, in order. Where there are fewer than positions, the account is flat over the rest.
    pub actions: &'a [u8],
}

/// The log return of all instruments with equal capital each, at `costs`.
#[must_use]
pub fn log_return_at(decided: &[Decided], rules: &AccountRules, costs: Costs) -> f64 {
    let rules = AccountRules { costs, equity_floor: 0.0, ..*rules };
    let ratios: Vec<f64> = decided.iter().filter_map(|one| growth(one, &rules)).collect();
    if ratios.is_empty() { 0.0 } else { (ratios.iter().sum::<f64>() / ratios.len() as f64).ln() }
}

/// The costs a side, in basis points, at which the decisions earn nothing: none where they earn nothing even without
/// costs, or more than nothing at 1,000.
#[must_use]
pub fn break_even_bps(decided: &[Decided], rules: &AccountRules) -> Option<f64> {
    let at = |bps: f64| {
        let costs = Costs { commission_bps: bps, half_spread_bps: 0.0, slippage_bps: 0.0 };
        log_return_at(decided, rules, costs)
    };
    let (mut low, mut high) = (0.0, HIGHEST_BPS);
    if at(low) <= 0.0 || at(high) > 0.0 {
        return None;
    }
    for _ in 0..N_HALVINGS {
        let middle = (low + high) / 2.0;
        if at(middle) > 0.0 { low = middle } else { high = middle }
    }
    Some(low)
}

/// Last equity over first.
fn growth(decided: &Decided, rules: &AccountRules) -> Option<f64> {
    let Decided { series, range, actions } = decided;
    let end = range.end.min(series.bars.len().saturating_sub(1));
    let first = series.bars.get(range.start)?;
    let mut account = Account::new(rules, first.close);
    for (at, t) in (range.start..end).enumerate() {
        let action = actions.get(at).map_or(FLAT, |&action| usize::from(action));
        account.advance(target_of(action), series.atr[t], &series.bars[t + 1], rules);
    }
    Some(account.equity() / rules.start_equity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::account::{LONG, SHORT};
    use crate::market::backtest::backtest;
    use crate::market::bar::Bar;

    /// Follows the next bar, which pays until costs are high.
    fn actions(series: &PriceSeries) -> Vec<u8> {
        let up = |bars: &[Bar]| if bars[1].close > bars[1].open { LONG } else { SHORT };
        series.bars.windows(2).map(|bars| up(bars) as u8).collect()
    }

    #[test]
    fn at_its_own_costs_a_replay_is_the_backtest_and_higher_costs_earn_less() {
        let (series, rules) = (PriceSeries::swinging(200, 0.3, 3.0), AccountRules::default());
        let actions = actions(&series);
        let own = backtest(&series, 3..190, &rules, &mut |t, _| usize::from(actions[t]));
        let decided = [Decided { series: &series, range: 3..190, actions: &actions[3..190] }];
        assert_eq!(1e4 * log_return_at(&decided, &rules, rules.costs), {
            1e4 * (own.equity[own.equity.len() - 1] / own.start_equity).ln()
        });
        let at: Vec<f64> =
            MULTIPLES.iter().map(|&m| log_return_at(&decided, &rules, rules.costs.times(m))).collect();
        assert!(at.is_sorted_by(|a, b| a > b), "{at:?}");
    }

    #[test]
    fn at_the_break_even_cost_nothing_is_earned() {
        let (series, rules) = (PriceSeries::swinging(200, 0.3, 3.0), AccountRules::default());
        let actions = actions(&series);
        let decided = [Decided { series: &series, range: 0..190, actions: &actions }];
        let bps = break_even_bps(&decided, &rules).expect("it earns without costs");
        let costs = Costs { commission_bps: bps, half_spread_bps: 0.0, slippage_bps: 0.0 };
        assert!(log_return_at(&decided, &rules, costs).abs() < 1e-6);
        assert!(bps > rules.costs.fraction() * 1e4);
        let flat = [Decided { series: &series, range: 0..190, actions: &[] }];
        assert_eq!(break_even_bps(&flat, &rules), None);
    }
}
