//! The network of action values: a body (embedders or two linear layers), then a value head (dueling or plain).
//!
//! ```text
//! market   structure, tactical, regime, LVN ──embedders──> 136 + 4 ┐
//!                                          account (local) ─── 8 ──┴─ heads ─> Q (B × actions)
//! plain    local row ── Linear, ReLU, Linear, ReLU ──────────────────── heads ─> Q
//! ```
//!
//! Dueling (Wang et al. 2016, equation 9): `Q = V + A − mean A`. The embedding depends on the position alone, while the
//! head also reads the account. So the two halves can be called apart.

use embedders::blocks::Linear;
use embedders::market::fused::ActivationBytes;
use embedders::{EMBEDDING_WIDTH, Fused, Mode, Views};
use memsys::nn::parameters::{Layout, Weights};
use tch::Tensor;

use crate::dqn::config::{Body, DqnConfig};
use crate::error::Result;

/// A network of action values. It holds no weights and receives them at each call.
#[derive(Debug)]
pub struct Network {
    config: DqnConfig,
    layout: Layout,
    body: NetworkBody,
    head: Head,
}

#[derive(Debug)]
enum NetworkBody {
    Market(Box<Fused>),
    Plain([Linear; 2]),
}

#[derive(Debug)]
enum Head {
    Dueling {
        value: [Linear; 2],
        advantage: [Linear; 2],
    },
    Plain([Linear; 2]),
    /// Without a hidden layer: the plain body has two already.
    Last(Linear),
}

impl Network {
    /// Lays out the network that `config` describes.
    #[must_use]
    pub fn new(config: &DqnConfig) -> Self {
        let mut layout = Layout::new();
        let hidden = config.hidden;
        let (body, inputs) = match config.body {
            Body::Market { preset, dropout } => {
                let widths = preset.widths().with_dropout(dropout);
                let fused = Fused::new(&mut layout, "embedders", &widths);
                (NetworkBody::Market(Box::new(fused)), EMBEDDING_WIDTH + config.local_width)
            }
            Body::Plain => {
                let first = Linear::new(&mut layout, "body.0", config.local_width, hidden);
                let second = Linear::new(&mut layout, "body.1", hidden, hidden);
                (NetworkBody::Plain([first, second]), hidden)
            }
        };
        let mut two = |name: &str, outputs| {
            let first = Linear::new(&mut layout, &format!("{name}.0"), inputs, hidden);
            [first, Linear::new(&mut layout, &format!("{name}.1"), hidden, outputs)]
        };
        let head = match (&body, config.dueling) {
            (_, true) => {
                Head::Dueling { value: two("value", 1), advantage: two("advantage", config.n_actions) }
            }
            (NetworkBody::Market(_), false) => Head::Plain(two("values", config.n_actions)),
            (NetworkBody::Plain(_), false) => {
                Head::Last(Linear::new(&mut layout, "values", inputs, config.n_actions))
            }
        };
        Self { config: *config, layout, body, head }
    }

    /// The parameters of its weights.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The embedders, where the body is a market's.
    #[must_use]
    pub fn embedders(&self) -> Option<&Fused> {
        match &self.body {
            NetworkBody::Market(fused) => Some(fused),
            NetworkBody::Plain(_) => None,
        }
    }

    /// Estimated bytes of activations per observation.
    #[must_use]
    pub fn activation_bytes(&self) -> ActivationBytes {
        match self.config.body {
            Body::Market { preset, dropout } => {
                Fused::activation_bytes(&preset.widths().with_dropout(dropout))
            }
            Body::Plain => {
                // Two layers and a head, each with its input and its gradient.
                let kept = 4 * (6 * self.config.hidden + self.config.local_width) as u64;
                ActivationBytes { kept, evaluated: kept / 3 }
            }
        }
    }

    /// Action values, B × actions, of observations: one B × length × width tensor per view, the local row last.
    ///
    /// # Errors
    /// Where libtorch refuses a call, memory among its reasons.
    pub fn values(&self, weights: &Weights, observations: &[Tensor], mode: Mode) -> Result<Tensor> {
        let local = &observations[observations.len() - 1];
        let local = local.f_reshape([local.size()[0], -1])?;
        match &self.body {
            NetworkBody::Market(fused) => {
                let [structure, tactical, regime, lvn, _] = observations else {
                    unreachable!("a market observation has five views")
                };
                let views = Views {
                    structure: structure.shallow_clone(),
                    tactical: tactical.shallow_clone(),
                    regime: regime.shallow_clone(),
                    lvn: lvn.f_reshape([lvn.size()[0], -1])?,
                };
                let state = fused.forward(weights, &views, mode)?;
                let embedding = Tensor::f_cat(&[&state.mean, &state.confidence], 1)?;
                self.values_of_embedding(weights, &embedding, &local)
            }
            NetworkBody::Plain([first, second]) => {
                let x = first.forward(weights, &local)?.f_relu()?;
                let x = second.forward(weights, &x)?.f_relu()?;
                self.head(weights, &x)
            }
        }
    }

    /// Action values, B × actions, of market embeddings (B × [`EMBEDDING_WIDTH`]) and local rows (B × local width).
    ///
    /// # Errors
    /// Where libtorch refuses a call.
    pub fn values_of_embedding(
        &self,
        weights: &Weights,
        embedding: &Tensor,
        local: &Tensor,
    ) -> Result<Tensor> {
        self.head(weights, &Tensor::f_cat(&[embedding, local], 1)?)
    }

    fn head(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        let two = |layers: &[Linear; 2]| -> Result<Tensor> {
            Ok(layers[1].forward(weights, &layers[0].forward(weights, x)?.f_relu()?)?)
        };
        Ok(match &self.head {
            Head::Dueling { value, advantage } => {
                let advantage = two(advantage)?;
                let mean = advantage.f_mean_dim(Some([1i64].as_slice()), true, tch::Kind::Float)?;
                two(value)?.f_add(&advantage)?.f_sub(&mean)?
            }
            Head::Plain(layers) => two(layers)?,
            Head::Last(layer) => layer.forward(weights, x)?,
        })
    }
}
