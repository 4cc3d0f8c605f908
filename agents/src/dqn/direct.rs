//! What the trainer asks of a [`Learner`] by its type and not through [`Agent`].

use std::collections::BTreeMap;

use buffers::replay::Batch;
use memsys::nn::adam::Adam;
use memsys::nn::parameters::Weights;
use memsys::nn::precision::LossScale;
use tch::Tensor;

use crate::agent::{Agent, Outcome, Policy};
use crate::dqn::actor::Actor;
use crate::dqn::learner::Learner;
use crate::dqn::network::Network;
use crate::error::Result;
use crate::update::UpdateCounters;

impl Learner {
    /// [`Agent::disable_caches`].
    #[must_use]
    pub fn without_kept_embeddings(mut self) -> Self {
        self.disable_caches();
        self
    }

    /// [`Agent::step`].
    ///
    /// # Errors
    /// As there.
    pub fn step(&mut self, batch: &Batch, micro_batch: usize) -> Result<Outcome> {
        Agent::step(self, batch, micro_batch)
    }

    /// [`Agent::dry_run`].
    ///
    /// # Errors
    /// As there.
    pub fn dry_run(&mut self, batch: &Batch, micro_batch: usize) -> Result<()> {
        Agent::dry_run(self, batch, micro_batch)
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.td.network
    }

    /// [`Agent::online`].
    #[must_use]
    pub fn online(&self) -> &Weights {
        Agent::online(self)
    }

    /// The target's weights.
    #[must_use]
    pub fn target(&self) -> &Weights {
        self.td.target.weights()
    }

    /// The optimizer.
    #[must_use]
    pub fn adam(&self) -> &Adam {
        self.update.adam()
    }

    /// The loss scale.
    #[must_use]
    pub fn loss_scale(&self) -> LossScale {
        LossScale::of_state(self.counters().loss_scale)
    }

    /// Takes a saved loss scale.
    pub fn restore_loss_scale(&mut self, loss_scale: LossScale) {
        self.update.restore_loss_scale(loss_scale);
    }

    /// [`Agent::n_steps`].
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        Agent::n_steps(self)
    }

    /// [`Agent::restore`] but for the loss scale.
    ///
    /// # Errors
    /// As there.
    pub fn restore(
        &mut self,
        online: &Tensor,
        target: &Tensor,
        [first_moment, second_moment]: [&Tensor; 2],
        n_steps: u64,
    ) -> Result<()> {
        let named = [
            ("online", online),
            ("target", target),
            ("first_moment", first_moment),
            ("second_moment", second_moment),
        ];
        let tensors: BTreeMap<String, Tensor> =
            named.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect();
        Agent::restore(self, &tensors, UpdateCounters { n_steps, ..self.counters() })
    }
}

impl Actor {
    /// [`Policy::greedy`].
    ///
    /// # Errors
    /// As there.
    pub fn greedy(&self, weights: &Weights, observations: &[Tensor]) -> Result<Vec<u8>> {
        Policy::greedy(self, weights, observations)
    }
}
