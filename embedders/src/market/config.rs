//! Settings of the market's embedders.

use documented::{Documented, DocumentedFields};
use memsys::settings::{Check, Settings};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::market::preset::{Preset, Widths};

/// The share of activations that dropout sets to zero while learning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Dropout {
    /// This share, from 0 to below 1.
    Fraction(f64),
    /// The preset's own share.
    Preset,
}

impl Serialize for Dropout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fraction(fraction) => serializer.serialize_f64(*fraction),
            Self::Preset => serializer.serialize_str("preset"),
        }
    }
}

impl<'de> Deserialize<'de> for Dropout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelling {
            Fraction(f64),
            Word(String),
        }
        let takes = "0 to below 1, or \"preset\"";
        match Spelling::deserialize(deserializer) {
            Ok(Spelling::Fraction(fraction)) if (0.0..1.0).contains(&fraction) => {
                Ok(Self::Fraction(fraction))
            }
            Ok(Spelling::Fraction(fraction)) => {
                Err(D::Error::custom(format!("{fraction} is out of range: it takes {takes}")))
            }
            Ok(Spelling::Word(word)) if word == "preset" => Ok(Self::Preset),
            Ok(Spelling::Word(word)) => {
                Err(D::Error::custom(format!("{word} is not a number: it takes {takes}")))
            }
            Err(_) => Err(D::Error::custom(format!("it takes {takes}"))),
        }
    }
}

/// The embedders: networks that turn windows of bars into the 136 numbers of the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Documented, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct EmbedderSettings {
    /// Widths of the networks: `compact` (for a CPU) or `full` (3.2 M parameters as in the reference, for a GPU).
    pub preset: Preset,
    /// Share of activations that dropout sets to zero while learning: a number from 0 to below 1, or `preset` for the
    /// preset's own share.
    pub dropout: Dropout,
}

impl Default for EmbedderSettings {
    fn default() -> Self {
        Self { preset: Preset::Compact, dropout: Dropout::Preset }
    }
}

impl Settings for EmbedderSettings {
    fn check(&self, _check: &mut Check) {}
}

impl EmbedderSettings {
    /// The widths of the networks, with their dropout.
    #[must_use]
    pub fn widths(&self) -> Widths {
        let dropout = match self.dropout {
            Dropout::Fraction(fraction) => Some(fraction),
            Dropout::Preset => None,
        };
        self.preset.widths().with_dropout(dropout)
    }
}
