//! The target network: the weights that bootstrap, and the embeddings that they give.

use std::sync::Arc;

use buffers::frames::{Dataset, ObservationRef};
use embedders::Mode;
use memsys::ledger::Owner;
use memsys::nn::parameters::Weights;
use tch::{Device, Tensor};

use crate::dqn::config::{DqnConfig, TargetUpdate};
use crate::dqn::network::Network;
use crate::embedding_cache::EmbeddingCache;
use crate::error::Result;

#[derive(Debug)]
pub(super) struct TargetNetwork {
    update: TargetUpdate,
    weights: Weights,
    dataset: Arc<Dataset>,
    /// `None` where caching costs more than it saves.
    embeddings: Option<EmbeddingCache>,
}

impl TargetNetwork {
    /// A target network that equals the online network.
    pub(super) fn new(
        config: &DqnConfig,
        online: &Weights,
        dataset: Arc<Dataset>,
        device: Device,
    ) -> Result<Self> {
        let _owner = Owner::named("run/learner/target").enter();
        let mut weights = Weights::zeros(online.layout(), device)?;
        weights.copy_from(online)?;
        let embeddings = cache_pays(config, &dataset).then(EmbeddingCache::new);
        Ok(Self { update: config.target_update, weights, dataset, embeddings })
    }

    /// Embeds every batch anew from here on.
    pub(super) fn disable_cache(&mut self) {
        self.embeddings = None;
    }

    #[cfg(test)]
    pub(super) fn has_cache(&self) -> bool {
        self.embeddings.is_some()
    }

    /// `Q'(s, ·)`, B × actions, of B observations and their references.
    pub(super) fn values(
        &mut self,
        network: &Network,
        observations: &[Tensor],
        observation_refs: &[ObservationRef],
    ) -> Result<Tensor> {
        let (Some(cache), Some(embedders)) = (&mut self.embeddings, network.embedders()) else {
            return network.values(&self.weights, observations, Mode::Evaluate);
        };
        let embedding = cache.embed(embedders, &self.weights, &self.dataset, observation_refs)?;
        let local = &observations[observations.len() - 1];
        let local = local.f_reshape([observation_refs.len() as i64, -1])?;
        network.values_of_embedding(&self.weights, &embedding, &local)
    }

    /// Follows the online weights after learner step `n_steps`.
    pub(super) fn update_target(&mut self, online: &Weights, n_steps: u64) -> Result<()> {
        match self.update {
            TargetUpdate::Periodic { interval } if n_steps.is_multiple_of(interval) => {
                self.weights.copy_from(online)?;
                self.forget_embeddings();
            }
            TargetUpdate::Periodic { .. } => {}
            TargetUpdate::Soft { tau } => self.weights.move_towards(online, tau)?,
        }
        Ok(())
    }

    pub(super) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Forgets what the weights before gave.
    pub(super) fn forget_embeddings(&mut self) {
        if let Some(cache) = &mut self.embeddings {
            cache.clear();
        }
    }
}

/// Whether the embedding cache saves work; see [`DqnConfig::most_kept_embeddings`].
fn cache_pays(config: &DqnConfig, dataset: &Dataset) -> bool {
    let n_positions: usize =
        (0..dataset.n_instruments() as u16).map(|instrument| dataset.n_steps(instrument)).sum();
    n_positions as u64 <= config.most_kept_embeddings()
}
