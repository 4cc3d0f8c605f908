//! Serde's form of an `f64` that every format keeps exactly: its bits.
//!
//! A text format may read a decimal back one unit off (`serde_json` does unless told otherwise), and none holds an
//! infinity. A resumed run must equal the uninterrupted one, so saved states keep bits.

use serde::{Deserialize, Deserializer, Serializer};

/// Writes the bits of `value`.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(value.to_bits())
}

/// Reads the bits of a number.
///
/// # Errors
/// Those of the deserializer.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    u64::deserialize(deserializer).map(f64::from_bits)
}
