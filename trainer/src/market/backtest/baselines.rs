//! The baselines that an agent must beat: four policies without a network, under the same rules and costs.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::market::account::{AccountRules, FLAT, LONG, N_ACTIONS, SHORT};
use crate::market::backtest::{Backtest, backtest};
use crate::market::bar::{Bar, DECISION_MILLIS, STRUCTURE_MILLIS};
use crate::market::price_series::PriceSeries;

/// Bars in thirty minutes of unbroken trading.
const HALF_HOUR_BARS: usize = (STRUCTURE_MILLIS / DECISION_MILLIS) as usize;

/// A policy that does not learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Never trades.
    Flat,
    /// Buys at the first open and holds to the end, without a stop.
    BuyAndHold,
    /// Draws one of the three targets at every decision.
    Random,
    /// Follows the sign of the return over the last six bars (thirty minutes where trading was unbroken).
    LastHalfHour,
}

impl Baseline {
    /// All baselines, in the order of a report.
    pub const ALL: [Baseline; 4] =
        [Baseline::Flat, Baseline::BuyAndHold, Baseline::Random, Baseline::LastHalfHour];

    /// The key in `summary.json`: lower case, without spaces.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Baseline::Flat => "flat",
            Baseline::BuyAndHold => "buy_and_hold",
            Baseline::Random => "random",
            Baseline::LastHalfHour => "last_half_hour",
        }
    }

    /// The name in the report.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Baseline::Flat => "always flat",
            Baseline::BuyAndHold => "buy and hold",
            Baseline::Random => "random",
            Baseline::LastHalfHour => "sign of last 30 minutes",
        }
    }

    /// Trades `series` over the decisions in `range`. Only [`Baseline::Random`] uses `seed`; give each instrument
    /// its own seed, or all instruments get the same random targets.
    #[must_use]
    pub fn run(self, series: &PriceSeries, range: Range<usize>, rules: &AccountRules, seed: u64) -> Backtest {
        match self {
            Baseline::Flat => backtest(series, range, rules, &mut |_, _| FLAT),
            Baseline::BuyAndHold => {
                let rules = AccountRules { stop_atr: 0.0, ..*rules };
                backtest(series, range, &rules, &mut |_, _| LONG)
            }
            Baseline::Random => {
                let mut rng = Pcg64Mcg::seed_from_u64(seed);
                backtest(series, range, rules, &mut |_, _| rng.random_range(0..N_ACTIONS))
            }
            Baseline::LastHalfHour => {
                backtest(series, range, rules, &mut |t, _| last_half_hour(&series.bars, t))
            }
        }
    }
}

/// Long after a rise over the last six bars, short after a fall, flat where there was none.
fn last_half_hour(bars: &[Bar], t: usize) -> usize {
    let Some(before) = t.checked_sub(HALF_HOUR_BARS) else { return FLAT };
    let change = bars[t].close - bars[before].close;
    if change > 0.0 {
        LONG
    } else if change < 0.0 {
        SHORT
    } else {
        FLAT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(closes: &[f64]) -> PriceSeries {
        let bar = |i: usize| Bar {
            open_millis: i as i64 * DECISION_MILLIS,
            close_millis: (i as i64 + 1) * DECISION_MILLIS,
            open: closes[i.saturating_sub(1)],
            high: closes[i] + 5.0,
            low: closes[i] - 5.0,
            close: closes[i],
            volume: 1.0,
        };
        let bars = (0..closes.len()).map(bar).collect();
        PriceSeries { name: "t".to_owned(), bars, atr: vec![1.0; closes.len()], first_decision: 0 }
    }

    #[test]
    fn flat_earns_and_pays_nothing() {
        let series = series(&[100.0, 110.0, 90.0]);
        let result = Baseline::Flat.run(&series, 0..2, &AccountRules::default(), 0);
        assert_eq!((result.reward_sum, result.cost, result.trades.len()), (0.0, 0.0, 0));
    }

    #[test]
    fn buy_and_hold_trades_once_and_has_no_stop() {
        let series = series(&[100.0, 110.0, 90.0, 120.0]);
        let rules = AccountRules { stop_atr: 1.0, ..AccountRules::default() };
        let result = Baseline::BuyAndHold.run(&series, 0..3, &rules, 0);
        assert_eq!(result.trades.len(), 1);
        assert!((result.cost - 2.0).abs() < 1e-9);
        assert!((result.equity[3] - (12_000.0 - 2.0)).abs() < 1e-8);
    }

    #[test]
    fn random_depends_on_its_seed_alone_and_takes_every_target() {
        let series = series(&[100.0; 300]);
        let run = |seed| {
            Baseline::Random.run(
                &series,
                0..299,
                &AccountRules { stop_atr: 0.0, ..AccountRules::default() },
                seed,
            )
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).position, run(2).position);
        let count = |side| run(1).position.iter().filter(|&&p| p == side).count();
        assert!([-1, 0, 1].map(count).iter().all(|&n| n > 70));
    }

    #[test]
    fn last_half_hour_follows_the_sign_of_six_bars() {
        let series = series(&[100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 101.0, 99.0, 100.0, 100.0]);
        let actions: Vec<usize> = (0..10).map(|t| last_half_hour(&series.bars, t)).collect();
        assert_eq!(actions, [FLAT, FLAT, FLAT, FLAT, FLAT, FLAT, LONG, SHORT, FLAT, FLAT]);
    }

    #[test]
    fn every_baseline_that_trades_pays_two_basis_points_a_side() {
        let closes: Vec<f64> = (0..200).map(|i| 100.0 + (f64::from(i) * 0.3).sin() * 3.0).collect();
        let series = series(&closes);
        for baseline in [Baseline::BuyAndHold, Baseline::Random, Baseline::LastHalfHour] {
            let result = baseline.run(&series, 6..199, &AccountRules::default(), 9);
            assert!(result.cost > 0.0);
            assert!((result.cost - 2e-4 * result.traded_notional).abs() < 1e-8, "{}", baseline.key());
        }
    }
}
