//! Evaluates an agent: on the validation part while it learns, and once on the test part for the report.

use agents::Policy;
use buffers::frames::Dataset;
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
use crate::market::backtest::performance::Performance;
use crate::market::dataset::Market;
use crate::run::agent_backtests::agent_backtests;
use crate::run::market_test::MarketTest;

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
    Market(Box<MarketTest>),
    /// Returns of episodes.
    Episodes(EpisodeTest),
}

/// The returns of the test's episodes.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeTest {
    /// Those of the weights that are judged.
    pub agent: Vec<f64>,
    /// Those of the last weights, where these are others.
    pub last: Option<Vec<f64>>,
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
                Ok(TestResult::Market(Box::new(MarketTest::of(market, policy, weights, seed)?)))
            }
            Evaluator::CartPole { seed } => {
                let agent = test_episodes(policy, weights, *seed)?;
                Ok(TestResult::Episodes(EpisodeTest { agent, last: None }))
            }
        }
    }

    /// Adds to `test`, which this evaluator gave, how the last weights do. Call it where those are not the judged ones.
    ///
    /// # Errors
    /// If libtorch refuses a call.
    pub fn test_last(&self, test: &mut TestResult, policy: &dyn Policy, weights: &Weights) -> Result<()> {
        match (self, test) {
            (Evaluator::Market(market), TestResult::Market(test)) => {
                let backtests = agent_backtests(market, policy, weights, |split| split.test.clone())?;
                test.last = Some(Performance::with_intervals(&backtests));
            }
            (Evaluator::CartPole { seed }, TestResult::Episodes(test)) => {
                test.last = Some(test_episodes(policy, weights, *seed)?);
            }
            _ => unreachable!("the test is of this evaluator"),
        }
        Ok(())
    }
}

/// Validation uses `seed` itself; the next seed gives other episodes.
fn test_episodes(policy: &dyn Policy, weights: &Weights, seed: u64) -> Result<Vec<f64>> {
    episodes(policy, weights, TEST_EPISODES, seed.wrapping_add(1))
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
