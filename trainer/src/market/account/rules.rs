//! The rules of an account: costs, position limit, stop and equity floor.
//!
//! Plain numbers with defaults; the configuration checks their ranges.

use serde::{Deserialize, Serialize};

/// Number of actions: short, flat, long.
pub const N_ACTIONS: usize = 3;
/// The action whose target is −1.
pub const SHORT: usize = 0;
/// The action whose target is 0.
pub const FLAT: usize = 1;
/// The action whose target is +1.
pub const LONG: usize = 2;

/// The target position, −1, 0 or +1, of an action. Actions above [`LONG`] do not exist and mean flat.
#[must_use]
pub fn target_of(action: usize) -> i8 {
    debug_assert!(action < N_ACTIONS, "action {action} does not exist");
    match action {
        SHORT => -1,
        LONG => 1,
        _ => 0,
    }
}

/// What trading costs: each in basis points of the traded notional, each paid on every side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// The broker's and the exchange's part, ≥ 0.
    pub commission_bps: f64,
    /// Half the distance between bid and ask, ≥ 0.
    pub half_spread_bps: f64,
    /// Price movement while the order fills, ≥ 0.
    pub slippage_bps: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Costs { commission_bps: 1.0, half_spread_bps: 0.5, slippage_bps: 0.5 }
    }
}

impl Costs {
    /// No costs at all.
    pub const FREE: Costs = Costs { commission_bps: 0.0, half_spread_bps: 0.0, slippage_bps: 0.0 };

    /// A multiple of all three.
    #[must_use]
    pub fn times(&self, multiple: f64) -> Costs {
        Costs {
            commission_bps: self.commission_bps * multiple,
            half_spread_bps: self.half_spread_bps * multiple,
            slippage_bps: self.slippage_bps * multiple,
        }
    }

    /// All three as a fraction of the traded notional, one side.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        (self.commission_bps + self.half_spread_bps + self.slippage_bps) * 1e-4
    }
}

/// The rules of an account. The caller checks the ranges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AccountRules {
    /// What each side of a trade costs.
    pub costs: Costs,
    /// Notional at entry as a multiple of equity, > 0.
    pub position_limit: f64,
    /// Distance of the stop from the entry price, in ATR14 as known at the decision; 0 for none.
    pub stop_atr: f64,
    /// An equity below this fraction of the start, in [0, 1), terminates.
    pub equity_floor: f64,
    /// The equity an account begins with, in currency, > 0.
    pub start_equity: f64,
    /// Penalty in basis points for each basis point by which the drawdown from the highest close grows, ≥ 0.
    pub drawdown_penalty: f64,
}

impl Default for AccountRules {
    fn default() -> Self {
        AccountRules {
            costs: Costs::default(),
            position_limit: 1.0,
            stop_atr: 20.0,
            equity_floor: 0.5,
            start_equity: 10_000.0,
            drawdown_penalty: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_short_flat_long() {
        assert_eq!([SHORT, FLAT, LONG].map(target_of), [-1, 0, 1]);
    }

    #[test]
    fn default_costs_are_two_basis_points_a_side() {
        assert!((Costs::default().fraction() - 2e-4).abs() < 1e-18);
        assert_eq!(Costs::FREE.fraction(), 0.0);
    }
}
