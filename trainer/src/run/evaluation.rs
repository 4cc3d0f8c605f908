//! Evaluates an agent: on the validation part while it learns, and once on the test part for the report.

use std::ops::Range;

use agents::Policy;
use agents::embedding_cache::BLOCK;
use buffers::frames::Dataset;
use memsys::ledger::budget;
use memsys::nn::parameters::Weights;
use memsys::step::room::with_room;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use tch::{Device, Tensor};

use crate::envs::Environment;
use crate::envs::cartpole::CartPole;
use crate::envs::observation::{Observation, observe, plain_views};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::market::account::ACCOUNT_WIDTH;
use crate::market::backtest::baselines::Baseline;
use crate::market::backtest::oracle::{expected_profit, oracle};
use crate::market::backtest::performance::Performance;
use crate::market::backtest::{Backtest, BacktestRunner, backtest};
use crate::market::dataset::Market;
use crate::market::split::Split;

/// Episodes per validation in environments without a market.
const VALIDATION_EPISODES: usize = 20;
/// Episodes of the test in environments without a market.
const TEST_EPISODES: usize = 100;

/// The data or environment that an agent is evaluated on.
#[derive(Debug)]
pub enum Evaluator {
    /// A market's validation and test parts.
    Market(Box<Market>),
    /// Episodes of CartPole.
    CartPole {
        /// Seed of the episodes. Validation and test use different episodes.
        seed: u64,
    },
}

/// The result of the test.
#[derive(Debug)]
pub enum TestResult {
    /// Backtests over the test part, one per instrument.
    Market(MarketTest),
    /// The return of each episode.
    Episodes(Vec<f64>),
}

/// Backtests over the test part of a market, one per instrument in each list.
#[derive(Debug)]
pub struct MarketTest {
    /// The agent's backtests.
    pub agent: Vec<Backtest>,
    /// The backtests of each baseline.
    pub baselines: Vec<(Baseline, Vec<Backtest>)>,
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

impl Evaluator {
    /// The score of the greedy policy with `weights` on the validation part: the log return in a market (equal
    /// capital in each instrument), the mean episode return elsewhere. `None` if there is no validation part.
    ///
    /// # Errors
    /// If libtorch refuses a call, or [`Error::Interrupted`] if the process was asked to stop.
    pub fn validate(&self, policy: &dyn Policy, weights: &Weights) -> Result<Option<f64>> {
        match self {
            Evaluator::Market(market) => {
                if market.splits.iter().all(|split| split.validation.is_empty()) {
                    return Ok(None);
                }
                let backtests = agent_backtests(market, policy, weights, |split| split.validation.clone())?;
                Ok(Some(Performance::of_portfolio(&backtests).log_return))
            }
            Evaluator::CartPole { seed } => {
                let returns = episodes(policy, weights, VALIDATION_EPISODES, *seed)?;
                Ok(Some(returns.iter().sum::<f64>() / returns.len() as f64))
            }
        }
    }

    /// Evaluates the greedy policy with `weights` on the test part, and the baselines on the same part.
    ///
    /// # Errors
    /// If libtorch refuses a call, or [`Error::Interrupted`] if the process was asked to stop.
    pub fn test(&self, policy: &dyn Policy, weights: &Weights, seed: u64) -> Result<TestResult> {
        match self {
            Evaluator::Market(market) => {
                let agent = agent_backtests(market, policy, weights, |split| split.test.clone())?;
                Ok(TestResult::Market(MarketTest {
                    agent,
                    baselines: baselines(market, seed)?,
                    oracle: oracle_test(market),
                }))
            }
            // Validation uses `seed` itself; the next seed gives other episodes.
            Evaluator::CartPole { seed } => {
                Ok(TestResult::Episodes(episodes(policy, weights, TEST_EPISODES, seed.wrapping_add(1))?))
            }
        }
    }
}

/// Trades one part of every instrument with the greedy policy, with all instruments in one batch.
///
/// # Errors
/// If libtorch refuses a call, or [`Error::Interrupted`] if the process was asked to stop.
pub fn agent_backtests(
    market: &Market,
    policy: &dyn Policy,
    weights: &Weights,
    part: impl Fn(&Split) -> Range<usize>,
) -> Result<Vec<Backtest>> {
    // Backtests lie in Rust's heap, beside which the tensors of the last learner step need not be kept.
    budget::begin_anew();
    let _no_grad = tch::no_grad_guard();
    let device = weights.flat().device();
    let ranges: Vec<Range<usize>> = market.splits.iter().map(part).collect();
    let embedded = |instrument| Embedded { instrument, steps: 0..0, numbers: Vec::new() };
    let mut embeddings: Vec<Embedded> = (0u16..).take(ranges.len()).map(embedded).collect();
    let mut runners: Vec<BacktestRunner> = market
        .price_series
        .iter()
        .zip(&ranges)
        .map(|(series, range)| BacktestRunner::new(series, range.clone(), &market.rules))
        .collect();
    let width = policy.embedding_width();
    let (mut embedding, mut local, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        interrupt::check()?;
        embedding.clear();
        local.clear();
        asked.clear();
        for (index, runner) in runners.iter().enumerate() {
            if let Some((t, view)) = runner.next_decision() {
                let steps = t..ranges[index].end;
                embedding.extend(embeddings[index].at(policy, weights, &market.dataset, steps, width)?);
                local.extend_from_slice(&view);
                asked.push(index);
            }
        }
        if asked.is_empty() {
            return Ok(runners.into_iter().map(BacktestRunner::finish).collect());
        }
        let actions = with_room(|| {
            let n = asked.len() as i64;
            let embedding =
                Tensor::f_from_slice(&embedding)?.f_view([n, width as i64])?.f_to_device(device)?;
            let local = Tensor::f_from_slice(&local)?.f_view([n, ACCOUNT_WIDTH as i64])?;
            let local = local.f_to_device(device)?;
            Ok::<_, Error>(policy.greedy_of_embedding(weights, &embedding, &local)?.actions)
        })?;
        for (index, action) in asked.iter().zip(actions) {
            runners[*index].act(action.into());
        }
    }
}

/// The embeddings of a block of consecutive positions of an instrument.
struct Embedded {
    instrument: u16,
    steps: Range<usize>,
    numbers: Vec<f32>,
}

impl Embedded {
    /// The embedding at the first of `steps`. Where it is not there yet, the block that it begins is embedded. Blocks end
    /// where those of the policy end, so an embedding does not depend on the range.
    fn at(
        &mut self,
        policy: &dyn Policy,
        weights: &Weights,
        dataset: &Dataset,
        steps: Range<usize>,
        width: usize,
    ) -> Result<impl Iterator<Item = f32>> {
        if !self.steps.contains(&steps.start) {
            // One block of a large network can take a second, and every instrument has its own.
            interrupt::check()?;
            let end = (steps.start + 1).next_multiple_of(BLOCK).min(steps.end.max(steps.start + 1));
            self.steps = steps.start..end;
            let embed = || policy.embed_range(weights, dataset, self.instrument, self.steps.clone());
            self.numbers = with_room(embed)?;
        }
        let first = (steps.start - self.steps.start) * width;
        Ok(self.numbers[first..first + width].iter().copied())
    }
}

fn baselines(market: &Market, seed: u64) -> Result<Vec<(Baseline, Vec<Backtest>)>> {
    let of = |baseline: Baseline| {
        let one = |(i, (series, split)): (usize, (&_, &Split))| {
            interrupt::check()?;
            Ok(baseline.run(series, split.test.clone(), &market.rules, seed.wrapping_add(i as u64)))
        };
        let backtests = market.price_series.iter().zip(&market.splits).enumerate().map(one);
        Ok((baseline, backtests.collect::<Result<Vec<_>>>()?))
    };
    Baseline::ALL.into_iter().map(of).collect()
}

fn oracle_test(market: &Market) -> Option<OracleTest> {
    let expected = market.expected_log_return.as_ref()?;
    let range = market.splits[0].test.clone();
    // The oracle counts a decision only if its bar lies in the range. The last decision's bar is one further.
    let known = range.start..range.end + 1;
    let actions = oracle(expected, known.clone(), &market.rules.costs);
    let expected_log_return = expected_profit(expected, known, &market.rules.costs, &actions);
    let rules = crate::market::account::AccountRules { stop_atr: 0.0, ..market.rules };
    let policy = &mut |t: usize, _: &[f32; ACCOUNT_WIDTH]| usize::from(actions[t - range.start]);
    let backtests = vec![backtest(&market.price_series[0], range.clone(), &rules, policy)];
    Some(OracleTest { expected_log_return, backtests })
}

fn episodes(policy: &dyn Policy, weights: &Weights, n: usize, seed: u64) -> Result<Vec<f64>> {
    let dataset = Dataset::new(plain_views(CartPole::new().local_width()), Vec::new());
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut environments: Vec<CartPole> = (0..n).map(|_| CartPole::new()).collect();
    environments.iter_mut().for_each(|environment| environment.reset(&mut rng));
    let mut returns = vec![0.0; n];
    let mut running: Vec<usize> = (0..n).collect();
    while !running.is_empty() {
        interrupt::check()?;
        let observations: Vec<Observation> = running
            .iter()
            .map(|i| {
                let mut local = vec![0f32; environments[*i].local_width()];
                environments[*i].write_local(&mut local);
                Observation { instrument: 0, t: 0, local }
            })
            .collect();
        let device = weights.flat().device();
        let act = || Ok::<_, Error>(policy.greedy(weights, &observe(&dataset, &observations, device)?)?);
        let actions = with_room(act)?;
        let mut kept = Vec::with_capacity(running.len());
        for (i, action) in running.iter().zip(actions) {
            let step = environments[*i].step(action.into());
            returns[*i] += step.reward;
            if !step.ends_episode() {
                kept.push(*i);
            }
        }
        running = kept;
    }
    Ok(returns)
}

/// New weights for `policy` with the values of `flat`.
///
/// # Errors
/// If the sizes differ.
pub fn weights_of(policy: &dyn Policy, flat: &Tensor, device: Device) -> Result<Weights> {
    let mut weights = with_room(|| Weights::zeros(policy.layout(), device))?;
    let _no_grad = tch::no_grad_guard();
    weights.flat_mut().f_copy_(flat)?;
    Ok(weights)
}
