//! Trades a part of a market with a greedy policy.

use std::ops::Range;

use agents::Policy;
use agents::embedding_cache::BLOCK;
use buffers::frames::Dataset;
use memsys::ledger::budget;
use memsys::nn::parameters::Weights;
use memsys::step::room::with_room;
use tch::Tensor;

use crate::error::{Error, Result};
use crate::interrupt;
use crate::market::account::{ACCOUNT_WIDTH, N_ACTIONS};
use crate::market::backtest::{Backtest, BacktestRunner};
use crate::market::dataset::Market;
use crate::market::split::Split;

/// What was decided in one instrument.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decisions {
    /// The actions, from the first position of the part on.
    pub actions: Vec<u8>,
    /// The values that they were chosen by, one row per action; empty where the policy has none.
    pub action_values: Vec<f32>,
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
    trade(market, policy, weights, part, &mut |_, _, _| {})
}

/// As [`agent_backtests`], with what was decided.
///
/// # Errors
/// If libtorch refuses a call, or [`Error::Interrupted`] if the process was asked to stop.
pub fn decided_backtests(
    market: &Market,
    policy: &dyn Policy,
    weights: &Weights,
    part: impl Fn(&Split) -> Range<usize>,
) -> Result<(Vec<Backtest>, Vec<Decisions>)> {
    let n_decided = |split: &Split| part(split).len();
    let mut decisions: Vec<Decisions> = market
        .splits
        .iter()
        .map(|split| Decisions {
            actions: Vec::with_capacity(n_decided(split)),
            action_values: Vec::with_capacity(n_decided(split) * N_ACTIONS),
        })
        .collect();
    let mut keep = |instrument: usize, action: u8, values: &[f32]| {
        decisions[instrument].actions.push(action);
        decisions[instrument].action_values.extend_from_slice(values);
    };
    let backtests = trade(market, policy, weights, &part, &mut keep)?;
    Ok((backtests, decisions))
}

/// `keep` gets each instrument, its action and the values of all actions, in the order in which they are taken.
fn trade(
    market: &Market,
    policy: &dyn Policy,
    weights: &Weights,
    part: impl Fn(&Split) -> Range<usize>,
    keep: &mut dyn FnMut(usize, u8, &[f32]),
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
        let greedy = with_room(|| {
            let n = asked.len() as i64;
            let embedding =
                Tensor::f_from_slice(&embedding)?.f_view([n, width as i64])?.f_to_device(device)?;
            let local = Tensor::f_from_slice(&local)?.f_view([n, ACCOUNT_WIDTH as i64])?;
            let local = local.f_to_device(device)?;
            Ok::<_, Error>(policy.greedy_of_embedding(weights, &embedding, &local)?)
        })?;
        let n_values = greedy.action_values.len() / asked.len();
        for (at, (&index, action)) in asked.iter().zip(greedy.actions).enumerate() {
            keep(index, action, &greedy.action_values[at * n_values..(at + 1) * n_values]);
            runners[index].act(action.into());
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
