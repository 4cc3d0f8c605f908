//! The words that a key may take where it takes one of a few: closed sets, each an enum.

use crate::config::did_you_mean::near;
use crate::config::raw::{Given, Written};
use crate::config::value::Value;

/// A closed set of words.
trait Choice: Copy + PartialEq + 'static {
    /// Every word with what it means, in the order in which they are told.
    const ALL: &'static [(&'static str, Self)];
}

/// Defines an enum whose values are words, each written the same in TOML and by `word()`.
macro_rules! choices {
    ($(
        $(#[$about:meta])+
        $Name:ident { $( $(#[$case_about:meta])+ $Case:ident = $word:literal, )+ }
    )+) => { $(
        $(#[$about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Name { $( $(#[$case_about])+ $Case, )+ }

        impl Choice for $Name {
            const ALL: &'static [(&'static str, Self)] = &[$( ($word, Self::$Case), )+];
        }

        impl $Name {
            /// The word that a configuration has for it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $( Self::$Case => $word, )+ }
            }
        }
    )+ };
}

choices! {
    /// What an agent acts in.
    EnvironmentKind {
        /// Bars of one or several instruments, and an account.
        Market = "market",
        /// The pole on a cart, with the physics of Gymnasium's CartPole-v1.
        Cartpole = "cartpole",
    }
    /// Which moment of a bar its time stamp names.
    StampLabel {
        /// Its first moment.
        Start = "start",
        /// The first moment after it.
        End = "end",
    }
    /// The widths of the embedders.
    EmbedderPreset {
        /// The architecture and the outputs of `full` at about a fiftieth of the arithmetic: for a CPU.
        Compact = "compact",
        /// The reference's widths, 3.2 M parameters: for a GPU.
        Full = "full",
    }
    /// What an agent learns by.
    Algorithm {
        /// Deep Q-learning.
        Dqn = "dqn",
    }
    /// The numbers that matrix products are computed in.
    PrecisionChoice {
        /// 32-bit floating point.
        F32 = "f32",
        /// bfloat16, by autocast.
        Bf16 = "bf16",
        /// 16-bit floating point with a scaled loss, by autocast; on a GPU.
        F16 = "f16",
    }
    /// What may become of activations between forward and backward.
    ActivationChoice {
        /// What fits, the fastest first.
        Auto = "auto",
        /// They stay.
        Keep = "keep",
        /// They are computed again.
        Recompute = "recompute",
        /// They go to a file and come back.
        Spill = "spill",
    }
    /// How an environment's local rows are stored.
    LocalRows {
        /// As they are.
        F32 = "f32",
        /// Rounded to IEEE half precision.
        F16 = "f16",
        /// Rounded to the upper half of an f32.
        Bf16 = "bf16",
    }
    /// When a batch is drawn, and who gathers it.
    Prefetch {
        /// It is drawn and gathered when its learner step begins.
        Off = "off",
        /// It is drawn a step ahead, and gathered on a thread of its own.
        Ahead = "ahead",
        /// It is drawn a step ahead, and gathered at once.
        Synchronous = "synchronous",
    }
    /// How far down the tiers the replay's rows may go.
    ReplayTier {
        /// They stay in memory as they are.
        Hot = "hot",
        /// They are compressed in memory.
        Compressed = "compressed",
        /// They go to a file.
        Mapped = "mapped",
    }
    /// How the target network follows the learned one.
    TargetUpdate {
        /// A copy every `agent.target_interval` learner steps.
        Periodic = "periodic",
        /// A share of `agent.target_tau` of the way, every learner step.
        Soft = "soft",
    }
}

impl<T: Choice> Value for T {
    fn parse(written: &Written) -> Result<Self, String> {
        let words: Vec<&str> = T::ALL.iter().map(|&(word, _)| word).collect();
        let text = match &written.given {
            Given::Text(text) => text,
            _ => &written.text,
        };
        if let Some(&(_, choice)) = T::ALL.iter().find(|(word, _)| word == text) {
            return Ok(choice);
        }
        let meant = near(text, &words).map_or(String::new(), |word| format!("; did you mean {word}?"));
        Err(format!("`{text}` is none of {}{meant}", words.join(", ")))
    }

    fn to_toml(&self) -> String {
        let word = T::ALL.iter().find(|(_, choice)| choice == self).map_or("", |&(word, _)| word);
        format!("\"{word}\"")
    }
}

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that can be used, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, counted from 0.
    Cuda(u32),
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

impl Value for DeviceChoice {
    fn parse(written: &Written) -> Result<Self, String> {
        let text = match &written.given {
            Given::Text(text) => text.as_str(),
            _ => &written.text,
        };
        let index = text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
        match (text, index) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(index)) => Ok(Self::Cuda(index)),
            _ => Err(format!("`{text}` is no device: write auto, cpu, or cuda:N with N from 0")),
        }
    }

    fn to_toml(&self) -> String {
        self.to_string().to_toml()
    }
}

/// The share of activations that the embedders drop while learning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Dropout {
    /// This share; 0 up to below 1.
    Fraction(f64),
    /// What the preset has.
    Preset,
}

impl Value for Dropout {
    fn parse(written: &Written) -> Result<Self, String> {
        match &written.given {
            Given::Text(text) if text == "preset" => Ok(Self::Preset),
            _ => match f64::parse(written) {
                Ok(fraction) if (0.0..1.0).contains(&fraction) => Ok(Self::Fraction(fraction)),
                Ok(_) => {
                    Err(format!("{} is out of range: it takes 0 to below 1, or \"preset\"", written.text))
                }
                Err(problem) => Err(format!("{problem}: it takes 0 to below 1, or \"preset\"")),
            },
        }
    }

    fn to_toml(&self) -> String {
        match self {
            Self::Preset => "\"preset\"".to_owned(),
            Self::Fraction(fraction) => fraction.to_toml(),
        }
    }
}
