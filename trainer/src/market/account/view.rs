//! The account's local row of the observation: eight numbers in [−1, 1].
//!
//! Each number goes through a bounded map, so none needs to be fitted to data and none can explode.

use crate::market::account::{Account, AccountRules};
use crate::market::bar::{Bar, DAY_MILLIS};

/// Length of the account's local row of the observation.
pub const ACCOUNT_WIDTH: usize = 8;
/// What each number of [`Account::view`] is, in order.
pub const ACCOUNT_NAMES: [&str; ACCOUNT_WIDTH] = [
    "position",
    "unrealised_profit",
    "time_in_trade",
    "drawdown",
    "exposure",
    "cost_paid",
    "stop_distance",
    "session_phase",
];

/// An unrealised move of this many ATR becomes tanh(1) = 0.76.
const PROFIT_SCALE_ATR: f64 = 4.0;
/// A trade of this many bars (four hours) becomes tanh(1).
const TRADE_SCALE_BARS: f64 = 48.0;
/// A recent drawdown of this fraction becomes tanh(1).
const DRAWDOWN_SCALE_FRACTION: f64 = 0.05;
/// Recent costs of this fraction of the equity become tanh(1).
const COST_SCALE_FRACTION: f64 = 0.01;

impl Account {
    /// The account's local row of the observation, after the close of `bar`, with that bar's ATR14.
    ///
    /// Every number lies in [−1, 1]. In a new account all but the last are 0, 0, 0, 0, 0, 0, 1. Drawdown and cost
    /// decay with a time constant of one day, so that a long evaluation stays in the range that training showed.
    ///
    /// | | | |
    /// |-|-|-|
    /// | 0 | position | −1, 0 or +1 |
    /// | 1 | unrealised profit | tanh(side × (close − entry price) / (4 ATR at entry)), before costs |
    /// | 2 | time in trade | tanh(bars since entry / 48) |
    /// | 3 | drawdown | tanh(d / 0.05), d from a peak that sinks towards the equity by 1/288 of the gap per bar |
    /// | 4 | exposure | notional / (2 × position limit × equity), clipped at 1: about 0.5 at entry, 0 flat |
    /// | 5 | cost paid | tanh(c / 0.01), c the sum of cost / equity that loses 1/288 per bar |
    /// | 6 | distance to stop | distance / (2 × stop in ATR × ATR now), clipped to [0, 1]; 1 flat or without a stop |
    /// | 7 | session phase | 2 × (fraction of the UTC day of the close) − 1 |
    #[must_use]
    pub fn view(&self, bar: &Bar, atr: f64, rules: &AccountRules) -> [f32; ACCOUNT_WIDTH] {
        let side = f64::from(self.position);
        let phase = 2.0 * bar.close_millis.rem_euclid(DAY_MILLIS) as f64 / DAY_MILLIS as f64 - 1.0;
        let recent_drawdown = 1.0 - self.equity / self.recent_peak;
        let mut view = [0.0; ACCOUNT_WIDTH];
        view[3] = (recent_drawdown / DRAWDOWN_SCALE_FRACTION).tanh() as f32;
        view[5] = (self.recent_cost / COST_SCALE_FRACTION).tanh() as f32;
        view[6] = 1.0;
        view[7] = phase as f32;
        if self.position != 0 {
            let notional = self.units.abs() * self.mark;
            view[0] = side as f32;
            if self.entry_atr > 0.0 {
                let move_atr = side * (self.mark - self.entry_price) / self.entry_atr;
                view[1] = (move_atr / PROFIT_SCALE_ATR).tanh() as f32;
            }
            view[2] = (f64::from(self.bars_held) / TRADE_SCALE_BARS).tanh() as f32;
            view[4] = (notional / (2.0 * rules.position_limit * self.equity)).min(1.0) as f32;
            if self.stop.is_finite() && atr > 0.0 {
                let distance = side * (self.mark - self.stop) / (2.0 * rules.stop_atr * atr);
                view[6] = distance.clamp(0.0, 1.0) as f32;
            }
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::account::Costs;

    const ATR: f64 = 1.0;

    fn bar(open: f64, high: f64, low: f64, close: f64) -> Bar {
        Bar { open_millis: 0, close_millis: 300_000, open, high, low, close, volume: 1.0 }
    }

    #[test]
    fn view_of_a_new_account_is_flat_and_the_phase_follows_the_close() {
        let rules = AccountRules::default();
        let account = Account::new(&rules, 100.0);
        let mut noon = bar(100.0, 100.0, 100.0, 100.0);
        noon.close_millis = 3 * DAY_MILLIS + DAY_MILLIS / 2;
        assert_eq!(account.view(&noon, ATR, &rules), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        noon.close_millis = -DAY_MILLIS / 4;
        assert_eq!(account.view(&noon, ATR, &rules)[7], 0.5);
    }

    #[test]
    fn view_shows_the_trade_in_its_scales() {
        let rules = AccountRules { costs: Costs::FREE, ..AccountRules::default() };
        let mut account = Account::new(&rules, 100.0);
        let last = bar(100.0, 104.0, 100.0, 104.0);
        account.advance(1, ATR, &last, &rules);
        let view = account.view(&last, 1.2, &rules);
        let expected = [1.0, 1.0f64.tanh(), (1.0 / 48.0f64).tanh(), 0.0, 0.5, 0.0, 24.0 / 48.0];
        for (value, expected) in view.into_iter().zip(expected) {
            assert!((f64::from(value) - expected).abs() < 1e-6, "{view:?}");
        }
    }

    #[test]
    fn recent_drawdown_and_cost_fade_within_days() {
        let rules = AccountRules { stop_atr: 0.0, ..AccountRules::default() };
        let mut account = Account::new(&rules, 100.0);
        account.advance(1, ATR, &bar(100.0, 100.0, 95.0, 95.0), &rules);
        let flat = bar(95.0, 95.0, 95.0, 95.0);
        account.advance(0, ATR, &flat, &rules);
        let early = account.view(&flat, ATR, &rules);
        for _ in 0..1_440 {
            account.advance(0, ATR, &flat, &rules);
        }
        let late = account.view(&flat, ATR, &rules);
        assert!(early[3] > 0.7 && early[5] > 0.03, "{early:?}");
        assert!(late[3] < 0.02 && late[5] < 0.001, "{late:?}");
        assert!(account.drawdown() > 0.05, "the drawdown itself does not fade");
    }
}
