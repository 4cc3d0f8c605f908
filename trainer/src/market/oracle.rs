//! The best that could have been done: the positions of a trader who knows every bar's expected return, past and future.
//!
//! A policy decides at the close of bar `t`, is filled at the open of `t + 1` and holds until the open of `t + 2`. With
//! `a_t ∈ {−1, 0, 1}` the position decided at `t`, `μ` the expected log return of each bar and `c` the cost of
//! trading one unit, the oracle maximises over a whole range of decisions, from a flat start,
//!
//! ```text
//! Σ_t  a_t μ_{t+1} − c |a_t − a_{t−1}|,     c = (commission + half spread + slippage) / 10,000
//! ```
//!
//! by dynamic programming (Bellman; the Viterbi recursion run backward): exact, nine comparisons a bar.
//!
//! No causal policy earns more *in expectation*. Realised profits add the luck of the noise, which can favour anyone, and
//! the second-order terms of an account that compounds; neither is in the sum above. Stops are not modelled.

use std::ops::Range;

use crate::market::account::Costs;

/// The positions behind the actions 0 short, 1 flat, 2 long.
const POSITIONS: [f64; 3] = [-1.0, 0.0, 1.0];
const FLAT: usize = 1;

/// The action (0 short, 1 flat, 2 long) at each decision `t` of `range` that maximises expected profit less costs.
///
/// `expected_log_return[t]` is that of bar `t`, from its open to its close, finite; the decision at `t` earns that of
/// `t + 1`. Bars from `range.end` on are not the range's: its last decision earns nothing, and so does not trade. The
/// account starts flat; a position left at the end is not charged for closing. Where two actions are worth the
/// same the one that does not trade is taken: without expected returns the oracle stays flat. A range that reaches
/// beyond the slice expects 0 there. O(n) time and 3 bytes a decision.
#[must_use]
pub fn oracle(expected_log_return: &[f64], range: Range<usize>, costs: &Costs) -> Vec<u8> {
    let unit_cost = unit_cost_fraction(costs);
    // For each decision and each position held before it, the best action.
    let mut best_actions = vec![[0_u8; 3]; range.len()];
    let mut value = [0.0_f64; 3];
    for (t, best_action) in range.clone().zip(&mut best_actions).rev() {
        let expected = earned_by(expected_log_return, t, &range);
        let mut value_before = [0.0; 3];
        for held in 0..3 {
            let worth = |action: usize| {
                POSITIONS[action] * expected - unit_cost * (POSITIONS[action] - POSITIONS[held]).abs() + value[action]
            };
            let mut best = held;
            for action in 0..3 {
                if worth(action) > worth(best) {
                    best = action;
                }
            }
            best_action[held] = best as u8;
            value_before[held] = worth(best);
        }
        value = value_before;
    }
    let mut held = FLAT;
    best_actions
        .iter()
        .map(|best_action| {
            held = usize::from(best_action[held]);
            held as u8
        })
        .collect()
}

/// What `actions` (one for each decision of `range`) are expected to earn: the sum that [`oracle`] maximises, in log
/// return, costs paid.
///
/// For the oracle's own actions it is the market's best attainable profit.
#[must_use]
pub fn expected_profit(
    expected_log_return: &[f64],
    range: Range<usize>,
    costs: &Costs,
    actions: &[u8],
) -> f64 {
    let unit_cost = unit_cost_fraction(costs);
    let mut held = POSITIONS[FLAT];
    let mut profit = 0.0;
    for (t, &action) in range.clone().zip(actions) {
        let position = POSITIONS[usize::from(action)];
        profit += position * earned_by(expected_log_return, t, &range) - unit_cost * (position - held).abs();
        held = position;
    }
    profit
}

/// What trading one unit costs, as a fraction of its notional.
fn unit_cost_fraction(costs: &Costs) -> f64 {
    (costs.commission_bps + costs.half_spread_bps + costs.slippage_bps) * 1e-4
}

/// The expected log return that the decision at `t` holds its position through.
fn earned_by(expected_log_return: &[f64], t: usize, range: &Range<usize>) -> f64 {
    if t + 1 < range.end { expected_log_return.get(t + 1).copied().unwrap_or(0.0) } else { 0.0 }
}
