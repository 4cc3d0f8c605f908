//! The widths of the networks. Every preset has the same architecture and the same output widths.

/// A set of widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The reference's widths, 3.2 M parameters. Meant for a GPU.
    Full,
    /// About a fiftieth of `Full`'s arithmetic. Meant for a CPU.
    Compact,
}

impl Preset {
    /// Its name in a configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Compact => "compact",
        }
    }

    /// The widths of this preset.
    #[must_use]
    pub fn widths(self) -> Widths {
        match self {
            Self::Full => Widths {
                structure_model: 128,
                structure_heads: 4,
                structure_feed_forward: 512,
                structure_head: 64,
                tactical_model: 128,
                tactical_momentum: 32,
                tactical_lstm: 128,
                tactical_heads: 4,
                tactical_head: 128,
                regime_transition: 32,
                regime_lstm: 32,
                lvn_hidden: 16,
                dropout: 0.2,
            },
            Self::Compact => Widths {
                structure_model: 32,
                structure_heads: 2,
                structure_feed_forward: 32,
                structure_head: 32,
                tactical_model: 16,
                tactical_momentum: 8,
                tactical_lstm: 12,
                tactical_heads: 2,
                tactical_head: 32,
                regime_transition: 8,
                regime_lstm: 16,
                lvn_hidden: 16,
                dropout: 0.0,
            },
        }
    }
}

/// The inner widths of all four networks, in numbers per time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Widths {
    /// Structure: the transformer's width, a multiple of its heads.
    pub structure_model: i64,
    /// Structure: attention heads.
    pub structure_heads: i64,
    /// Structure: inner width of a block's feed-forward part.
    pub structure_feed_forward: i64,
    /// Structure: inner width of the heads of μ and σ.
    pub structure_head: i64,
    /// Tactical: width of the projected rows.
    pub tactical_model: i64,
    /// Tactical: channels of the momentum convolution.
    pub tactical_momentum: i64,
    /// Tactical: width of one direction of an LSTM layer; its outputs are twice as wide.
    pub tactical_lstm: i64,
    /// Tactical: heads of the attention to each scale; they divide twice the LSTM's width.
    pub tactical_heads: i64,
    /// Tactical: inner width of the heads of μ and σ.
    pub tactical_head: i64,
    /// Regime: outputs of the transition net, which reads (previous, current).
    pub regime_transition: i64,
    /// Regime: width of each of the two LSTM layers.
    pub regime_lstm: i64,
    /// LVN: width between its two layers.
    pub lvn_hidden: i64,
    /// Fraction of the transformer's residual branches that training drops, in [0, 1).
    pub dropout: f64,
}

impl Widths {
    /// The same widths with another dropout; `None` keeps the preset's own.
    #[must_use]
    pub fn with_dropout(self, dropout: Option<f64>) -> Self {
        Self { dropout: dropout.unwrap_or(self.dropout), ..self }
    }
}
