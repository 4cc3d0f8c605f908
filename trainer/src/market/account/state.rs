//! An account's state, and how one bar changes it.

use serde::{Deserialize, Serialize};

use crate::exact_f64;
use crate::market::account::rules::AccountRules;
use crate::market::bar::Bar;

/// Equity never falls below this fraction of the starting equity, since its logarithm must exist.
const RUIN_FRACTION: f64 = 1e-3;

/// Time constant of the recent drawdown and cost in the view, in bars: one day of the decision clock.
const MEMORY_BARS: f64 = 288.0;

/// One execution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fill {
    /// The fill price; spread and slippage are in `cost`.
    pub price: f64,
    /// Units held before, negative if short.
    pub units_before: f64,
    /// Units held after.
    pub units_after: f64,
    /// Commission, spread and slippage, in currency.
    pub cost: f64,
}

impl Fill {
    fn new(price: f64, units_before: f64, units_after: f64, cost_fraction: f64) -> Self {
        let cost = (units_after - units_before).abs() * price * cost_fraction;
        Fill { price, units_before, units_after, cost }
    }

    /// Traded value in currency: a change from short to long trades both positions.
    #[must_use]
    pub fn notional(&self) -> f64 {
        (self.units_after - self.units_before).abs() * self.price
    }
}

/// What one bar did to an account.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BarOutcome {
    /// 10⁴ × the change of log equity, costs included.
    pub reward: f64,
    /// The drawdown penalty, ≥ 0, in basis points; not in the reward.
    pub penalty: f64,
    /// Profit of the units held, before costs, in currency.
    pub pnl: f64,
    /// Costs paid, in currency.
    pub cost: f64,
    /// The fill at the open, if the target was not the position.
    pub order: Option<Fill>,
    /// The fill of the stop inside the bar.
    pub stop: Option<Fill>,
    /// True where the equity is under the floor, or spent.
    pub terminated: bool,
}

/// The account between two bars: marked at a close.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// −1, 0 or +1.
    pub(super) position: i8,
    /// Closes seen since the entry.
    pub(super) bars_held: u32,
    #[serde(with = "exact_f64")]
    pub(super) equity: f64,
    /// Highest equity at a close, the start included.
    #[serde(with = "exact_f64")]
    peak: f64,
    /// A peak that decays towards the equity; the view measures its drawdown from it.
    #[serde(with = "exact_f64")]
    pub(super) recent_peak: f64,
    /// Costs as fractions of equity, with exponential decay.
    #[serde(with = "exact_f64")]
    pub(super) recent_cost: f64,
    /// Signed units held.
    #[serde(with = "exact_f64")]
    pub(super) units: f64,
    /// Price of the last mark.
    #[serde(with = "exact_f64")]
    pub(super) mark: f64,
    #[serde(with = "exact_f64")]
    pub(super) entry_price: f64,
    /// ATR at the decision that opened the position.
    #[serde(with = "exact_f64")]
    pub(super) entry_atr: f64,
    /// Stop level; infinitely far on the losing side where there is no stop.
    #[serde(with = "exact_f64")]
    pub(super) stop: f64,
}

impl Account {
    /// A flat account at a close of `price`.
    #[must_use]
    pub fn new(rules: &AccountRules, price: f64) -> Self {
        Account {
            position: 0,
            bars_held: 0,
            equity: rules.start_equity,
            peak: rules.start_equity,
            recent_peak: rules.start_equity,
            recent_cost: 0.0,
            units: 0.0,
            mark: price,
            entry_price: price,
            entry_atr: 0.0,
            stop: 0.0,
        }
    }

    /// Equity in currency, marked at the last close; always > 0.
    #[must_use]
    pub fn equity(&self) -> f64 {
        self.equity
    }

    /// The position held at the last close: −1, 0 or +1.
    #[must_use]
    pub fn position(&self) -> i8 {
        self.position
    }

    /// Units held at the last close, negative if short.
    #[must_use]
    pub fn units(&self) -> f64 {
        self.units
    }

    /// Level of the stop, if a position with a stop is open.
    #[must_use]
    pub fn stop_price(&self) -> Option<f64> {
        (self.position != 0 && self.stop.is_finite()).then_some(self.stop)
    }

    /// Advances the account through the bar after a decision for `target` (−1, 0 or +1).
    ///
    /// `decision_atr` is the ATR14 known at the decision; where it is not above 0, a position opens without a stop.
    /// A loss that would leave less than a thousandth of the starting equity ends there: the account is then flat
    /// and terminated.
    #[inline]
    pub fn advance(&mut self, target: i8, decision_atr: f64, bar: &Bar, rules: &AccountRules) -> BarOutcome {
        let equity_before = self.equity;
        let drawdown_before = self.drawdown();
        let cost_fraction = rules.costs.fraction();
        let ruin = RUIN_FRACTION * rules.start_equity;

        let mut pnl = self.units * (bar.open - self.mark);
        let mut cost = 0.0;
        let mut price = bar.open;

        let mut order = None;
        if target != self.position {
            let equity_at_open = (equity_before + pnl).max(0.0);
            let units = f64::from(target) * rules.position_limit * equity_at_open / price;
            let fill = Fill::new(price, self.units, units, cost_fraction);
            cost += fill.cost;
            self.enter(target, units, price, decision_atr, rules);
            order = Some(fill);
        }

        let mut stop = None;
        let is_stopped = match self.position {
            0 => false,
            1 => bar.low <= self.stop,
            _ => bar.high >= self.stop,
        };
        if is_stopped {
            // The open lies beyond the level only where the bar began with a gap through it.
            let level = if self.position > 0 { self.stop.min(bar.open) } else { self.stop.max(bar.open) };
            let fill = Fill::new(level, self.units, 0.0, cost_fraction);
            pnl += self.units * (level - price);
            cost += fill.cost;
            price = level;
            self.close_position();
            stop = Some(fill);
        }

        pnl += self.units * (bar.close - price);
        let mut equity = equity_before + (pnl - cost);
        let is_ruined = equity <= ruin;
        if is_ruined {
            pnl += ruin - equity;
            equity = ruin;
            self.close_position();
        }

        self.equity = equity;
        self.mark = bar.close;
        if self.position != 0 {
            self.bars_held = self.bars_held.saturating_add(1);
        }
        self.peak = self.peak.max(equity);
        self.recent_peak = (self.recent_peak - (self.recent_peak - equity) / MEMORY_BARS).max(equity);
        self.recent_cost += cost / equity_before - self.recent_cost / MEMORY_BARS;

        BarOutcome {
            reward: 1e4 * (equity / equity_before).ln(),
            penalty: rules.drawdown_penalty * 1e4 * (self.drawdown() - drawdown_before).max(0.0),
            pnl,
            cost,
            order,
            stop,
            terminated: is_ruined || equity < rules.equity_floor * rules.start_equity,
        }
    }

    /// Loss from the highest equity at any close so far, as a fraction in [0, 1).
    #[must_use]
    pub fn drawdown(&self) -> f64 {
        1.0 - self.equity / self.peak
    }

    fn enter(&mut self, target: i8, units: f64, price: f64, atr: f64, rules: &AccountRules) {
        let side = f64::from(target);
        let distance = rules.stop_atr * atr;
        self.position = target;
        self.units = units;
        self.bars_held = 0;
        self.entry_price = price;
        self.entry_atr = if atr > 0.0 { atr } else { 0.0 };
        self.stop = match target {
            0 => 0.0,
            _ if distance > 0.0 => price - side * distance,
            _ => -side * f64::INFINITY,
        };
    }

    fn close_position(&mut self) {
        self.position = 0;
        self.units = 0.0;
        self.bars_held = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::account::Costs;
    use proptest::prelude::*;

    const ATR: f64 = 1.0;

    fn bar(open: f64, high: f64, low: f64, close: f64) -> Bar {
        Bar { open_millis: 0, close_millis: 300_000, open, high, low, close, volume: 1.0 }
    }

    fn rules(stop_atr: f64) -> AccountRules {
        AccountRules { stop_atr, ..AccountRules::default() }
    }

    fn check(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} is not {expected}");
    }

    #[test]
    fn order_fills_at_the_next_open_and_pays_its_costs_there() {
        let rules = rules(0.0);
        let mut account = Account::new(&rules, 100.0);
        let outcome = account.advance(1, ATR, &bar(102.0, 105.0, 101.0, 104.0), &rules);
        let units = 10_000.0 / 102.0;
        let fill = outcome.order.expect("the target changed");
        check(fill.price, 102.0);
        check(fill.units_after, units);
        check(outcome.cost, 10_000.0 * 2e-4);
        check(outcome.pnl, units * 2.0);
        check(account.equity(), 10_000.0 + units * 2.0 - 2.0);
        check(outcome.reward, 1e4 * (account.equity() / 10_000.0).ln());
    }

    #[test]
    fn units_stay_and_nothing_is_paid_while_the_target_stays() {
        let rules = rules(0.0);
        let mut account = Account::new(&rules, 100.0);
        account.advance(-1, ATR, &bar(100.0, 100.0, 100.0, 100.0), &rules);
        let units = account.units();
        let outcome = account.advance(-1, ATR, &bar(90.0, 95.0, 80.0, 85.0), &rules);
        assert_eq!(account.units(), units);
        assert_eq!((outcome.cost, outcome.order), (0.0, None));
        check(outcome.pnl, 100.0 * 15.0);
    }

    #[test]
    fn flip_trades_both_positions_and_pays_for_both() {
        let rules = rules(0.0);
        let mut account = Account::new(&rules, 100.0);
        account.advance(1, ATR, &bar(100.0, 100.0, 100.0, 100.0), &rules);
        let outcome = account.advance(-1, ATR, &bar(100.0, 100.0, 100.0, 100.0), &rules);
        let fill = outcome.order.expect("a flip");
        check(fill.units_before, 100.0);
        check(fill.units_after, -(10_000.0 - 2.0) / 100.0);
        check(fill.notional(), 19_998.0);
        check(outcome.cost, 19_998.0 * 2e-4);
    }

    #[test]
    fn stop_fills_at_its_level_with_costs_and_leaves_the_account_flat() {
        let rules = rules(3.0);
        let mut account = Account::new(&rules, 100.0);
        account.advance(1, ATR, &bar(100.0, 101.0, 99.0, 101.0), &rules);
        assert_eq!(account.stop_price(), Some(97.0));
        let outcome = account.advance(1, ATR, &bar(101.0, 101.0, 96.0, 99.0), &rules);
        let stop = outcome.stop.expect("97 was reached");
        check(stop.price, 97.0);
        check(stop.units_before, 100.0);
        check(stop.cost, 9_700.0 * 2e-4);
        check(outcome.pnl, -400.0);
        assert_eq!((account.position(), account.units(), account.stop_price()), (0, 0.0, None));
    }

    #[test]
    fn stop_that_the_open_gapped_through_fills_at_the_open() {
        let rules = rules(3.0);
        for (side, entry_to, open) in [(1, 97.0, 90.0), (-1, 103.0, 110.0)] {
            let mut account = Account::new(&rules, 100.0);
            account.advance(side, ATR, &bar(100.0, 100.0, 100.0, 100.0), &rules);
            assert_eq!(account.stop_price(), Some(entry_to));
            let outcome = account.advance(side, ATR, &bar(open, 115.0, 85.0, 100.0), &rules);
            check(outcome.stop.expect("gapped through").price, open);
            check(outcome.pnl, -1_000.0);
            assert_eq!(account.position(), 0);
        }
    }

    #[test]
    fn short_stop_lies_above_and_can_be_hit_in_the_bar_of_the_entry() {
        let rules = rules(3.0);
        let mut account = Account::new(&rules, 100.0);
        let outcome = account.advance(-1, ATR, &bar(101.0, 105.0, 100.0, 100.5), &rules);
        check(outcome.order.expect("entered").price, 101.0);
        check(outcome.stop.expect("104 was reached").price, 104.0);
        check(outcome.pnl, -3.0 * 10_000.0 / 101.0);
    }

    #[test]
    fn the_next_decision_may_enter_again_after_a_stop() {
        let rules = rules(1.0);
        let mut account = Account::new(&rules, 100.0);
        assert!(account.advance(1, ATR, &bar(100.0, 100.0, 98.0, 98.0), &rules).stop.is_some());
        let outcome = account.advance(1, ATR, &bar(98.0, 99.0, 97.5, 99.0), &rules);
        check(outcome.order.expect("enters again").price, 98.0);
        assert_eq!((account.position(), account.stop_price()), (1, Some(97.0)));
    }

    #[test]
    fn without_stop_or_without_atr_no_stop_is_set() {
        for (stop_atr, atr) in [(0.0, 1.0), (3.0, 0.0), (3.0, f64::NAN)] {
            let rules = rules(stop_atr);
            let mut account = Account::new(&rules, 100.0);
            let outcome = account.advance(1, atr, &bar(100.0, 100.0, 60.0, 60.0), &rules);
            assert_eq!((outcome.stop, account.stop_price(), account.position()), (None, None, 1));
        }
    }

    #[test]
    fn an_equity_under_the_floor_terminates_and_one_at_it_does_not() {
        let rules = AccountRules { costs: Costs::FREE, ..rules(0.0) };
        let mut account = Account::new(&rules, 100.0);
        account.advance(1, ATR, &bar(100.0, 100.0, 100.0, 100.0), &rules);
        assert!(!account.advance(1, ATR, &bar(50.0, 50.0, 50.0, 50.0), &rules).terminated);
        assert!(account.advance(1, ATR, &bar(49.9, 49.9, 49.9, 49.9), &rules).terminated);
    }

    #[test]
    fn a_loss_of_more_than_everything_leaves_a_thousandth_and_a_finite_reward() {
        let rules = AccountRules { equity_floor: 0.0, ..rules(0.0) };
        for target in [-1, 1, 0] {
            let mut account = Account::new(&rules, 100.0);
            account.advance(-1, ATR, &bar(100.0, 100.0, 100.0, 100.0), &rules);
            let outcome = account.advance(target, ATR, &bar(300.0, 300.0, 300.0, 300.0), &rules);
            assert!(outcome.terminated && outcome.reward.is_finite());
            check(account.equity(), 10.0);
            assert_eq!((account.position(), account.units()), (0, 0.0));
        }
    }

    #[test]
    fn drawdown_penalty_is_apart_from_the_reward() {
        let free = AccountRules { costs: Costs::FREE, ..rules(0.0) };
        let penal = AccountRules { drawdown_penalty: 0.5, ..free };
        let path = [100.0, 110.0, 99.0, 104.5, 88.0].map(|p| bar(p, p, p, p));
        let run = |rules: &AccountRules| {
            let mut account = Account::new(rules, 100.0);
            path.map(|bar| account.advance(1, ATR, &bar, rules))
        };
        let (plain, with_penalty) = (run(&free), run(&penal));
        assert_eq!(plain.map(|o| o.reward), with_penalty.map(|o| o.reward));
        assert_eq!(plain.map(|o| o.penalty), [0.0; 5]);
        for (outcome, expected) in with_penalty.iter().zip([0.0, 0.0, 500.0, 0.0, 750.0]) {
            check(outcome.penalty, expected);
        }
    }

    /// Bars of a random walk with wide gaps, the ATR of each, and a target for each.
    fn walks() -> impl Strategy<Value = Vec<(Bar, f64, i8)>> {
        let one = (-0.05f64..0.05, -0.05f64..0.05, 0.0f64..0.03, 0.0f64..0.03, 0.0f64..2.0, -1i8..=1);
        proptest::collection::vec(one, 1..300).prop_map(|steps| {
            let mut price = 100.0;
            let walk = |(gap, body, up, down, atr, target): (f64, f64, f64, f64, f64, i8)| {
                let open = price * (1.0 + gap);
                let close = open * (1.0 + body);
                price = close;
                (bar(open, open.max(close) * (1.0 + up), open.min(close) * (1.0 - down), close), atr, target)
            };
            steps.into_iter().map(walk).collect()
        })
    }

    proptest! {
        #[test]
        fn rewards_sum_to_the_log_return_and_equity_is_start_plus_pnl_less_costs(
            walk in walks(), stop_atr in 0.0f64..8.0, position_limit in 0.1f64..3.0,
        ) {
            let rules = AccountRules { position_limit, drawdown_penalty: 1.0, ..rules(stop_atr) };
            let mut account = Account::new(&rules, 100.0);
            let (mut rewards, mut pnl, mut costs) = (0.0, 0.0, 0.0);
            for (bar, atr, target) in &walk {
                let outcome = account.advance(*target, *atr, bar, &rules);
                rewards += outcome.reward;
                pnl += outcome.pnl;
                costs += outcome.cost;
                let view = account.view(bar, *atr, &rules);
                prop_assert!(view.iter().all(|x| (-1.0..=1.0).contains(x)), "{view:?}");
            }
            let log_return = (account.equity() / rules.start_equity).ln();
            prop_assert!((rewards * 1e-4 - log_return).abs() <= 1e-9);
            prop_assert!(((rules.start_equity + pnl - costs - account.equity()) / rules.start_equity).abs() <= 1e-9);
        }

        #[test]
        fn the_same_trades_without_costs_end_higher_by_exactly_the_costs(walk in walks()) {
            let rules = rules(2.0);
            let mut account = Account::new(&rules, 100.0);
            // A second, naive account: the same units at the same prices, and nothing paid.
            let (mut cash, mut units, mut costs, mut last) = (rules.start_equity, 0.0, 0.0, 100.0);
            for (bar, atr, target) in &walk {
                let outcome = account.advance(*target, *atr, bar, &rules);
                for fill in outcome.order.iter().chain(&outcome.stop) {
                    cash -= (fill.units_after - fill.units_before) * fill.price;
                    units = fill.units_after;
                    costs += fill.notional() * 2e-4;
                }
                last = bar.close;
                if outcome.terminated {
                    break;
                }
            }
            let free_equity = cash + units * last;
            prop_assert!(((free_equity - costs - account.equity()) / rules.start_equity).abs() <= 1e-9);
        }

        #[test]
        fn a_saved_account_goes_on_to_the_bit(walk in walks(), cut in 0usize..300) {
            let rules = rules(2.0);
            let mut account = Account::new(&rules, 100.0);
            let cut = cut.min(walk.len());
            for (bar, atr, target) in &walk[..cut] {
                account.advance(*target, *atr, bar, &rules);
            }
            let text = serde_json::to_string(&account).expect("writes");
            let mut copy: Account = serde_json::from_str(&text).expect("reads");
            prop_assert_eq!(account, copy);
            for (bar, atr, target) in &walk[cut..] {
                let (one, two) =
                    (account.advance(*target, *atr, bar, &rules), copy.advance(*target, *atr, bar, &rules));
                prop_assert_eq!(one, two);
            }
        }
    }
}
