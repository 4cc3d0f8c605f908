//! The oracle: the positions of a trader who knows the expected return of every bar, past and future.
//!
//! A policy decides at the close of bar `t`, is filled at the open of `t + 1` and holds until the open of `t + 2`.
//! With `a_t ∈ {−1, 0, 1}` the position decided at `t`, `μ` the expected log return of each bar and `c` the cost of
//! trading one unit, the oracle maximises, over a range of decisions and from a flat start,
//!
//! ```text
//! Σ_t  a_t μ_{t+1} − c |a_t − a_{t−1}|,     c = (commission + half spread + slippage) / 10,000
//! ```
//!
//! by dynamic programming (Bellman; the Viterbi recursion run backward). The result is exact and takes nine
//! comparisons per bar.
//!
//! No causal policy earns more *in expectation*. Realised profits also contain the chance of the noise, which can
//! favour any policy, and the second-order terms of an account that compounds; the sum above contains neither.
//! Stops are not modelled.

use std::ops::Range;

use crate::market::account::Costs;

/// The positions behind the actions 0 short, 1 flat, 2 long.
const POSITIONS: [f64; 3] = [-1.0, 0.0, 1.0];
const FLAT: usize = 1;

/// The action (0 short, 1 flat, 2 long) at each decision `t` of `range` that maximises expected profit less costs.
///
/// `expected_log_return[t]` is the finite expected log return of bar `t` from its open to its close; the decision
/// at `t` earns that of `t + 1`. Bars from `range.end` on do not count: the last decision earns nothing and so does
/// not trade. The account starts flat, and closing a position at the end costs nothing. Where two actions are worth
/// the same, the oracle takes the one that does not trade, so without expected returns it stays flat. Where the
/// range reaches beyond the slice, the expected return is 0. Takes O(n) time and 3 bytes per decision.
#[must_use]
pub fn oracle(expected_log_return: &[f64], range: Range<usize>, costs: &Costs) -> Vec<u8> {
    let unit_cost = costs.fraction();
    // For each decision and each position held before it, the best action.
    let mut best_actions = vec![[0_u8; 3]; range.len()];
    let mut value = [0.0_f64; 3];
    for (t, best_action) in range.clone().zip(&mut best_actions).rev() {
        let expected = earned_by(expected_log_return, t, &range);
        let mut value_before = [0.0; 3];
        for held in 0..3 {
            let worth = |action: usize| {
                POSITIONS[action] * expected - unit_cost * (POSITIONS[action] - POSITIONS[held]).abs()
                    + value[action]
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

/// The expected earnings of `actions` (each 0, 1 or 2; one per decision of `range`): the sum that [`oracle`]
/// maximises, as a log return after costs.
///
/// For the oracle's actions this is the best attainable expected profit of the market.
#[must_use]
pub fn expected_profit(
    expected_log_return: &[f64],
    range: Range<usize>,
    costs: &Costs,
    actions: &[u8],
) -> f64 {
    let unit_cost = costs.fraction();
    let mut held = POSITIONS[FLAT];
    let mut profit = 0.0;
    for (t, &action) in range.clone().zip(actions) {
        let position = POSITIONS[usize::from(action)];
        profit += position * earned_by(expected_log_return, t, &range) - unit_cost * (position - held).abs();
        held = position;
    }
    profit
}

/// The expected log return that the decision at `t` holds its position through.
fn earned_by(expected_log_return: &[f64], t: usize, range: &Range<usize>) -> f64 {
    if t + 1 < range.end { expected_log_return.get(t + 1).copied().unwrap_or(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn costs(bps: f64) -> Costs {
        Costs { commission_bps: bps, half_spread_bps: 0.0, slippage_bps: 0.0 }
    }

    /// The most that any of the 3ⁿ paths is expected to earn.
    fn best_by_trying_all(expected: &[f64], range: &Range<usize>, costs: &Costs) -> f64 {
        let n_paths = 3_usize.pow(range.len() as u32);
        (0..n_paths)
            .map(|path| {
                let actions: Vec<u8> =
                    (0..range.len() as u32).map(|step| (path / 3_usize.pow(step) % 3) as u8).collect();
                expected_profit(expected, range.clone(), costs, &actions)
            })
            .fold(f64::NEG_INFINITY, f64::max)
    }

    proptest! {
        #[test]
        fn no_path_is_worth_more_than_the_oracles(
            expected in prop::collection::vec(-6e-4..6e-4_f64, 0..9),
            start in 0_usize..3,
            bps in 0.0..4.0_f64,
        ) {
            let range = start.min(expected.len())..expected.len();
            let actions = oracle(&expected, range.clone(), &costs(bps));
            prop_assert_eq!(actions.len(), range.len());
            let attained = expected_profit(&expected, range.clone(), &costs(bps), &actions);
            let best = best_by_trying_all(&expected, &range, &costs(bps));
            prop_assert!((attained - best).abs() < 1e-12, "{} is not {}", attained, best);
        }

        #[test]
        fn a_mirrored_market_mirrors_the_oracle(
            expected in prop::collection::vec(-6e-4..6e-4_f64, 2..60),
            bps in 0.1..4.0_f64,
        ) {
            let mirrored: Vec<f64> = expected.iter().map(|value| -value).collect();
            let profit = |expected: &[f64]| {
                let actions = oracle(expected, 0..expected.len(), &costs(bps));
                expected_profit(expected, 0..expected.len(), &costs(bps), &actions)
            };
            prop_assert!((profit(&expected) - profit(&mirrored)).abs() < 1e-12);
        }
    }

    #[test]
    fn the_decision_at_a_bar_earns_the_next_bar() {
        assert_eq!(oracle(&[9.0, 1e-2, -1e-2, 9.0], 0..3, &costs(1.0)), [2, 0, 0]);
    }

    #[test]
    fn without_costs_the_oracle_takes_the_sign_of_each_expectation() {
        assert_eq!(oracle(&[0.0, 1e-9, -1e-9, 1e-9], 0..4, &costs(0.0)), [2, 0, 2, 2]);
    }

    #[test]
    fn a_move_smaller_than_its_costs_is_left_alone() {
        assert_eq!(oracle(&[0.0, 1e-4, 0.0, 0.0], 0..4, &costs(2.0)), [1, 1, 1, 1]);
        assert_eq!(oracle(&[0.0, 1e-4, 1e-4, 1e-4], 0..4, &costs(2.0)), [2, 2, 2, 2]);
    }

    #[test]
    fn without_expected_returns_the_oracle_stays_flat() {
        assert_eq!(oracle(&[0.0; 50], 10..50, &costs(0.0)), [1; 40]);
        assert!(oracle(&[], 0..0, &costs(1.0)).is_empty());
    }
}
