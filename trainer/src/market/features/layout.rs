//! How wide the feature rows are, what their numbers mean, and how many rows an observation holds.

/// Numbers in a structure row.
pub const STRUCTURE_WIDTH: usize = 8;
/// Numbers in a tactical row.
pub const TACTICAL_WIDTH: usize = 7;
/// Numbers in a regime row.
pub const REGIME_WIDTH: usize = 8;
/// Numbers in an LVN row.
pub const LVN_WIDTH: usize = 5;

/// Rows of structure in an observation: a day.
pub const STRUCTURE_ROWS: usize = 48;
/// Rows of tactical in an observation: five hours.
pub const TACTICAL_ROWS: usize = 60;
/// Rows of regime in an observation: half hours.
pub const REGIME_ROWS: usize = 20;
/// Five-minute bars from one regime row of an observation to the next.
pub const REGIME_STRIDE: usize = 6;

/// Names of a structure row's numbers, in order.
pub const STRUCTURE_NAMES: [&str; STRUCTURE_WIDTH] = [
    "mlmi_value",
    "mlmi_signal",
    "nwrqk_value",
    "nwrqk_slope",
    "lvn_distance",
    "lvn_strength",
    "hour_sine",
    "hour_cosine",
];
/// Names of a tactical row's numbers, in order.
pub const TACTICAL_NAMES: [&str; TACTICAL_WIDTH] = [
    "bullish_gap_active",
    "bearish_gap_active",
    "nearest_gap_edge",
    "nearest_gap_age",
    "gap_mitigated",
    "momentum",
    "volume_ratio",
];
/// Names of a regime row's numbers, in order.
pub const REGIME_NAMES: [&str; REGIME_WIDTH] = [
    "trend",
    "volatility",
    "liquidity",
    "momentum_quality",
    "volume",
    "microstructure",
    "sentiment",
    "stability",
];
/// Names of an LVN row's numbers, in order.
pub const LVN_NAMES: [&str; LVN_WIDTH] =
    ["node_strength", "node_distance", "node_signed_distance", "above_node", "node_pull"];
