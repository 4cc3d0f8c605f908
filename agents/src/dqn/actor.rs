//! The actor: the greedy action of each observation. Random actions come from [`crate::exploration`].

use std::ops::Range;

use buffers::frames::Dataset;
use embedders::{EMBEDDING_WIDTH, Mode};
use memsys::nn::parameters::{Layout, Weights};
use tch::Tensor;

use crate::agent::{ActivationBytes, Greedy, Policy};
use crate::dqn::network::Network;
use crate::embedding_cache;
use crate::error::Result;

/// Acts greedily by a DQN's action values.
#[derive(Debug)]
pub struct Actor {
    network: Network,
}

impl Actor {
    /// An actor over `network`.
    #[must_use]
    pub fn new(network: Network) -> Self {
        Self { network }
    }
}

impl Policy for Actor {
    fn layout(&self) -> &Layout {
        self.network.layout()
    }

    fn greedy(&self, weights: &Weights, observations: &[Tensor]) -> Result<Vec<u8>> {
        let _no_grad = tch::no_grad_guard();
        best_actions(&self.network.values(weights, observations, Mode::Evaluate)?)
    }

    fn embedding_width(&self) -> usize {
        self.network.embedders().map_or(0, |_| EMBEDDING_WIDTH as usize)
    }

    fn embed_range(
        &self,
        weights: &Weights,
        dataset: &Dataset,
        instrument: u16,
        range: Range<usize>,
    ) -> Result<Vec<f32>> {
        match self.network.embedders() {
            Some(embedders) => embedding_cache::embed_range(embedders, weights, dataset, instrument, range),
            None => Ok(Vec::new()),
        }
    }

    fn greedy_of_embedding(&self, weights: &Weights, embedding: &Tensor, local: &Tensor) -> Result<Greedy> {
        let _no_grad = tch::no_grad_guard();
        let values = self.network.values_of_embedding(weights, embedding, local)?;
        let actions = best_actions(&values)?;
        Ok(Greedy { actions, action_values: Vec::try_from(values.f_reshape([-1])?)? })
    }

    fn activation_bytes(&self) -> ActivationBytes {
        self.network.activation_bytes()
    }
}

/// `argmax_a Q(s, a)` of each row.
fn best_actions(values: &Tensor) -> Result<Vec<u8>> {
    let actions = Vec::<i64>::try_from(values.f_argmax(1, false)?)?;
    Ok(actions.into_iter().map(|action| action as u8).collect())
}
