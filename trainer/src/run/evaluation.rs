//! Judges an agent: on the validation part while it learns, on the test part once, for the report.

use std::ops::Range;

use agents::dqn::{Actor, Network};
use agents::embedding_cache::embed_range;
use buffers::frames::Scenes;
use memsys::nn::parameters::Weights;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use tch::{Device, Tensor};

use crate::envs::Environment;
use crate::envs::cartpole::CartPole;
use crate::error::Result;
use crate::market::account::ACCOUNT_WIDTH;
use crate::market::backtest::baselines::Baseline;
use crate::market::backtest::oracle::{expected_profit, oracle};
use crate::market::backtest::performance::Performance;
use crate::market::backtest::{Backtest, Walk, backtest};
use crate::market::dataset::Market;
use crate::market::split::Split;
use crate::run::actor_loop::{Seen, observe};

/// Episodes of a validation outside a market.
const VALIDATION_EPISODES: usize = 20;
/// Episodes of the test outside a market.
const TEST_EPISODES: usize = 100;

/// What an agent is judged on.
#[derive(Debug)]
pub enum Judge {
    /// A market's validation and test parts.
    Market(Box<Market>),
    /// Episodes of CartPole, from a seed.
    CartPole {
        /// Seed of the episodes; validation and test draw different ones from it.
        seed: u64,
    },
}

/// What the test found.
#[derive(Debug)]
pub enum TestResult {
    /// Backtests over the test part, one an instrument.
    Market(MarketTest),
    /// Returns of episodes.
    Episodes(Vec<f64>),
}

/// The test part of a market.
#[derive(Debug)]
pub struct MarketTest {
    /// The agent's.
    pub agent: Vec<Backtest>,
    /// The baselines'.
    pub baselines: Vec<(Baseline, Vec<Backtest>)>,
    /// Where the market is synthetic: that of the oracle.
    pub oracle: Option<OracleTest>,
}

/// What could have been had by knowing the predictable part.
#[derive(Debug)]
pub struct OracleTest {
    /// The log return it expects, costs paid: the best that is attainable but for luck.
    pub expected_log_return: f64,
    /// What it got.
    pub backtests: Vec<Backtest>,
}

impl Judge {
    /// The score of greedy play by `weights` on what is kept for validation: log return in a market (equal capital
    /// in each instrument), mean return elsewhere. `None` where nothing is kept for it.
    ///
    /// # Errors
    /// Where libtorch refuses a call.
    pub fn validate(&self, network: &Network, weights: &Weights, actor: &Actor) -> Result<Option<f64>> {
        match self {
            Judge::Market(market) => {
                if market.splits.iter().all(|split| split.validation.is_empty()) {
                    return Ok(None);
                }
                let backtests = agent_backtests(market, network, weights, |split| split.validation.clone())?;
                Ok(Some(Performance::of_portfolio(&backtests).log_return))
            }
            Judge::CartPole { seed } => {
                let returns = episodes(actor, weights, VALIDATION_EPISODES, *seed)?;
                Ok(Some(returns.iter().sum::<f64>() / returns.len() as f64))
            }
        }
    }

    /// Greedy play by `weights` on what is kept for the test, and the baselines beside it.
    ///
    /// # Errors
    /// Where libtorch refuses a call.
    pub fn test(&self, network: &Network, weights: &Weights, actor: &Actor, seed: u64) -> Result<TestResult> {
        match self {
            Judge::Market(market) => {
                let agent = agent_backtests(market, network, weights, |split| split.test.clone())?;
                Ok(TestResult::Market(MarketTest {
                    agent,
                    baselines: baselines(market, seed),
                    oracle: oracle_test(market),
                }))
            }
            // The validation's episodes come from `seed` itself; one more gives others.
            Judge::CartPole { seed } => {
                Ok(TestResult::Episodes(episodes(actor, weights, TEST_EPISODES, seed.wrapping_add(1))?))
            }
        }
    }
}

/// Trades a part of every instrument by greedy action values, all instruments side by side.
///
/// # Errors
/// Where libtorch refuses a call.
pub fn agent_backtests(
    market: &Market,
    network: &Network,
    weights: &Weights,
    part: impl Fn(&Split) -> Range<usize>,
) -> Result<Vec<Backtest>> {
    let _no_grad = tch::no_grad_guard();
    let embedders = network.embedders().expect("a market network embeds");
    let device = weights.flat().device();
    let ranges: Vec<Range<usize>> = market.splits.iter().map(part).collect();
    let mut embeddings = Vec::with_capacity(ranges.len());
    for (scene, range) in (0u16..).zip(&ranges) {
        embeddings.push(embed_range(embedders, weights, &market.scenes, scene, range.clone())?);
    }
    let mut walks: Vec<Walk> = market
        .tapes
        .iter()
        .zip(&ranges)
        .map(|(tape, range)| Walk::new(tape, range.clone(), &market.rules))
        .collect();
    let width = embedders::EMBEDDING_WIDTH as usize;
    let (mut embedding, mut own, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        embedding.clear();
        own.clear();
        asked.clear();
        for (index, walk) in walks.iter().enumerate() {
            if let Some((t, view)) = walk.next_decision() {
                let row = t - ranges[index].start;
                embedding.extend_from_slice(&embeddings[index][row * width..(row + 1) * width]);
                own.extend_from_slice(&view);
                asked.push(index);
            }
        }
        if asked.is_empty() {
            return Ok(walks.into_iter().map(Walk::finish).collect());
        }
        let size = [asked.len() as i64, -1];
        let embedding = Tensor::f_from_slice(&embedding)?.f_view(size)?.f_to_device(device)?;
        let own = Tensor::f_from_slice(&own)?.f_view([asked.len() as i64, ACCOUNT_WIDTH as i64])?;
        let values = network.values_of_embedding(weights, &embedding, &own.f_to_device(device)?)?;
        let actions = Vec::<i64>::try_from(values.f_argmax(1, false)?)?;
        for (index, action) in asked.iter().zip(actions) {
            walks[*index].act(action as usize);
        }
    }
}

fn baselines(market: &Market, seed: u64) -> Vec<(Baseline, Vec<Backtest>)> {
    let of = |baseline: Baseline| {
        let one = |(i, (tape, split)): (usize, (&_, &Split))| {
            baseline.run(tape, split.test.clone(), &market.rules, seed.wrapping_add(i as u64))
        };
        (baseline, market.tapes.iter().zip(&market.splits).enumerate().map(one).collect())
    };
    Baseline::ALL.into_iter().map(of).collect()
}

fn oracle_test(market: &Market) -> Option<OracleTest> {
    let expected = market.expected_log_return.as_ref()?;
    let range = market.splits[0].test.clone();
    // The oracle counts a decision's bar only if it lies in its range; the last decision's lies one further.
    let known = range.start..range.end + 1;
    let actions = oracle(expected, known.clone(), &market.rules.costs);
    let expected_log_return = expected_profit(expected, known, &market.rules.costs, &actions);
    let rules = crate::market::account::AccountRules { stop_atr: 0.0, ..market.rules };
    let policy = &mut |t: usize, _: &[f32; ACCOUNT_WIDTH]| usize::from(actions[t - range.start]);
    let backtests = vec![backtest(&market.tapes[0], range.clone(), &rules, policy)];
    Some(OracleTest { expected_log_return, backtests })
}

fn episodes(actor: &Actor, weights: &Weights, n: usize, seed: u64) -> Result<Vec<f64>> {
    let scenes = Scenes::new(plain_views(CartPole::new().own_width()), Vec::new());
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut environments: Vec<CartPole> = (0..n).map(|_| CartPole::new()).collect();
    environments.iter_mut().for_each(|environment| environment.reset(&mut rng));
    let mut returns = vec![0.0; n];
    let mut running: Vec<usize> = (0..n).collect();
    while !running.is_empty() {
        let seen: Vec<Seen> = running
            .iter()
            .map(|i| {
                let mut own = vec![0f32; environments[*i].own_width()];
                environments[*i].write_own(&mut own);
                Seen { scene: 0, base: 0, own }
            })
            .collect();
        let actions = actor.greedy(weights, &observe(&scenes, &seen, weights.flat().device())?)?;
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

/// The views of a plain environment: its own row.
#[must_use]
pub fn plain_views(own_width: usize) -> Vec<buffers::frames::View> {
    use buffers::frames::{Clock, View};
    vec![View { name: "own", length: 1, width: own_width, stride: 1, clock: Clock::Own }]
}

/// Weights for `network` that hold the flat numbers of `flat`.
///
/// # Errors
/// Where the sizes differ.
pub fn weights_of(network: &Network, flat: &Tensor, device: Device) -> Result<Weights> {
    let mut weights = Weights::zeros(network.layout(), device)?;
    let _no_grad = tch::no_grad_guard();
    weights.flat_mut().f_copy_(flat)?;
    Ok(weights)
}
