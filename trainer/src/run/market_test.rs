//! The test of an agent in a market: the agent, the baselines, the oracle, and what stands beside them.

use agents::Policy;
use memsys::nn::parameters::Weights;

use crate::error::Result;
use crate::interrupt;
use crate::market::account::{ACCOUNT_WIDTH, AccountRules};
use crate::market::backtest::baselines::Baseline;
use crate::market::backtest::costs::{Decided, MULTIPLES, break_even_bps, log_return_at};
use crate::market::backtest::oracle::{expected_profit, oracle};
use crate::market::backtest::performance::{EquityCurve, Performance, t_of_difference};
use crate::market::backtest::{Backtest, backtest};
use crate::market::dataset::Market;
use crate::market::price_series::PriceSeries;
use crate::market::split::Split;
use crate::run::agent_backtests::{Decisions, decided_backtests};

/// Backtests over the test part of a market, one per instrument in each list.
#[derive(Debug, Default)]
pub struct MarketTest {
    /// The agent's backtests.
    pub agent: Vec<Backtest>,
    /// What the agent decided in them.
    pub decisions: Vec<Decisions>,
    /// How the last weights did, where the agent's are others.
    pub last: Option<Performance>,
    /// The backtests of each baseline.
    pub baselines: Vec<(Baseline, Vec<Backtest>)>,
    /// How the baselines do that the equity floor stopped, where it does not stop them.
    pub without_floor: Vec<(Baseline, Performance)>,
    /// The t statistic of the agent's mean log return per bar over that of buying and holding, without a floor; none where
    /// the difference does not vary.
    pub t_over_buy_and_hold: Option<f64>,
    /// The log returns of the agent's decisions at multiples of the costs.
    pub at_costs: Vec<(f64, f64)>,
    /// The costs a side, in basis points, at which the agent's decisions earn nothing.
    pub break_even_bps: Option<f64>,
    /// The costs a side, in basis points.
    pub cost_bps: f64,
    /// The equity floor, as a fraction of the starting balance.
    pub equity_floor: f64,
    /// The oracle's backtests, if the market is synthetic.
    pub oracle: Option<OracleTest>,
}

/// The result of trading with knowledge of the predictable part of the returns.
#[derive(Debug)]
pub struct OracleTest {
    /// The oracle's expected log return after costs: the best that any agent can attain, apart from chance.
    pub expected_log_return: f64,
    /// The oracle's backtests.
    pub backtests: Vec<Backtest>,
}

impl MarketTest {
    /// Tests the greedy policy with `weights`, and the baselines on the same part.
    ///
    /// # Errors
    /// If libtorch refuses a call, or [`crate::error::Error::Interrupted`] if the process was asked to stop.
    pub fn of(market: &Market, policy: &dyn Policy, weights: &Weights, seed: u64) -> Result<Self> {
        let rules = &market.rules;
        let (agent, decisions) = decided_backtests(market, policy, weights, |split| split.test.clone())?;
        let decided: Vec<Decided> = market
            .price_series
            .iter()
            .zip(&market.splits)
            .zip(&decisions)
            .map(|((series, split), one)| Decided {
                series,
                range: split.test.clone(),
                actions: &one.actions,
            })
            .collect();
        let at_costs =
            MULTIPLES.map(|multiple| (multiple, log_return_at(&decided, rules, rules.costs.times(multiple))));
        let break_even_bps = break_even_bps(&decided, rules);
        interrupt::check()?;
        let mut test = Self {
            at_costs: at_costs.into(),
            break_even_bps,
            cost_bps: rules.costs.fraction() * 1e4,
            equity_floor: rules.equity_floor,
            agent,
            decisions,
            ..Self::default()
        };
        test.add_baselines(market, seed)?;
        test.oracle = oracle_test(market);
        Ok(test)
    }

    fn add_baselines(&mut self, market: &Market, seed: u64) -> Result<()> {
        let agent = EquityCurve::join(&self.agent);
        let without_floor = AccountRules { equity_floor: 0.0, ..market.rules };
        for baseline in Baseline::ALL {
            let backtests = baseline_backtests(market, baseline, &market.rules, seed)?;
            let is_stopped = backtests.iter().any(|one| one.terminated_at.is_some());
            // One at a time, so that no more than one list is held for a moment.
            let free =
                is_stopped.then(|| baseline_backtests(market, baseline, &without_floor, seed)).transpose()?;
            if let Some(free) = &free {
                self.without_floor.push((baseline, Performance::with_intervals(free)));
            }
            if baseline == Baseline::BuyAndHold {
                let held = EquityCurve::join(free.as_ref().unwrap_or(&backtests));
                self.t_over_buy_and_hold = t_of_difference(&agent, Some(&held));
            }
            self.baselines.push((baseline, backtests));
        }
        Ok(())
    }
}

fn baseline_backtests(
    market: &Market,
    baseline: Baseline,
    rules: &AccountRules,
    seed: u64,
) -> Result<Vec<Backtest>> {
    let one = |((series, split), i): ((&PriceSeries, &Split), u64)| {
        interrupt::check()?;
        Ok(baseline.run(series, split.test.clone(), rules, seed.wrapping_add(i)))
    };
    market.price_series.iter().zip(&market.splits).zip(0..).map(one).collect()
}

fn oracle_test(market: &Market) -> Option<OracleTest> {
    let expected = market.expected_log_return.as_ref()?;
    let range = market.splits[0].test.clone();
    // The oracle counts a decision only if its bar lies in the range. The last decision's bar is one further.
    let known = range.start..range.end + 1;
    let actions = oracle(expected, known.clone(), &market.rules.costs);
    let expected_log_return = expected_profit(expected, known, &market.rules.costs, &actions);
    let rules = AccountRules { stop_atr: 0.0, ..market.rules };
    let policy = &mut |t: usize, _: &[f32; ACCOUNT_WIDTH]| usize::from(actions[t - range.start]);
    let backtests = vec![backtest(&market.price_series[0], range.clone(), &rules, policy)];
    Some(OracleTest { expected_log_return, backtests })
}
