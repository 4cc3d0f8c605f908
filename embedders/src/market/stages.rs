//! The numbers of the stages whose activations are kept, recomputed or spilled apart from the others. The heads, the LVN
//! network and what an agent adds are in no stage; together they hold a few percent of the activations.

/// Structure: projection, three blocks, pooling.
pub(crate) const STRUCTURE: usize = 0;
/// Tactical: rows, three LSTM layers.
pub(crate) const TACTICAL: usize = 5;
/// Tactical: attention to each of three scales.
pub(crate) const SCALES: usize = 9;
/// Tactical: the mix of the scales, pooling.
pub(crate) const MIX: usize = 12;
/// Regime: one stage.
pub(crate) const REGIME: usize = 14;
