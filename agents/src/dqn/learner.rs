//! The learner of a DQN, in the order of CleanRL's `dqn.py`: sample, target, loss, optimise, update the target network.
//! The caller samples, and [`crate::update`] optimises.

use std::sync::Arc;

use buffers::frames::Dataset;
use buffers::replay::TensorBatch;
use embedders::Mode;
use memsys::libtorch::ScalarOps as _;
use memsys::nn::parameters::Weights;
use tch::{Device, Kind, Tensor};

use crate::agent::{Agent, Outcome};
use crate::dqn::config::DqnConfig;
use crate::dqn::loss::{td_target, weighted_huber};
use crate::dqn::network::Network;
use crate::dqn::target::TargetNetwork;
use crate::error::Result;
use crate::update::{MicroBatch, UpdateCounters, UpdateStep};

/// A DQN that learns.
#[derive(Debug)]
pub struct Learner {
    pub(super) update: UpdateStep,
    pub(super) td: TdLearning,
}

/// The target and the loss, without the optimiser.
#[derive(Debug)]
pub(super) struct TdLearning {
    config: DqnConfig,
    pub(super) network: Network,
    pub(super) target: TargetNetwork,
}

impl Learner {
    /// A learner whose initial weights are drawn from the configuration's seed. The target network begins equal.
    ///
    /// # Errors
    /// Where libtorch refuses the memory.
    pub fn new(config: DqnConfig, network: Network, dataset: Arc<Dataset>, device: Device) -> Result<Self> {
        let update = UpdateStep::new(network.layout(), config.update_options(), device)?;
        let target = TargetNetwork::new(&config, update.online(), dataset, device)?;
        Ok(Self { update, td: TdLearning { config, network, target } })
    }
}

impl Agent for Learner {
    fn step(&mut self, batch: &TensorBatch, micro_batch: usize) -> Result<Outcome> {
        let Self { update, td } = self;
        let n_rows = batch.observation_refs.len();
        let accumulated = update.accumulate(n_rows, micro_batch, td.loss_of(batch)?)?;
        let updated = accumulated.commit(|online, n_steps| td.target.update_target(online, n_steps))?;
        let (loss, gradient_norm) = (updated.loss, updated.gradient_norm);
        Ok(Outcome { td_errors: updated.extras, loss, gradient_norm })
    }

    fn dry_run(&mut self, batch: &TensorBatch, micro_batch: usize) -> Result<()> {
        let n_rows = batch.observation_refs.len();
        drop(self.update.accumulate(n_rows, micro_batch, self.td.loss_of(batch)?)?);
        Ok(())
    }

    fn disable_caches(&mut self) {
        self.td.target.disable_cache();
    }

    fn online(&self) -> &Weights {
        self.update.online()
    }

    fn n_steps(&self) -> u64 {
        self.update.n_steps()
    }

    fn tensors(&self) -> Vec<(&'static str, &Tensor)> {
        let mut tensors = self.update.tensors().to_vec();
        tensors.push(("target", self.td.target.weights().flat()));
        tensors
    }

    fn counters(&self) -> UpdateCounters {
        self.update.counters()
    }

    fn resume_at(&mut self, counters: UpdateCounters) {
        self.update.resume_at(counters);
        self.td.target.forget_embeddings();
    }
}

impl TdLearning {
    /// The loss of a micro-batch of `batch`, and its TD errors.
    fn loss_of<'a>(
        &'a mut self,
        batch: &'a TensorBatch,
    ) -> Result<impl FnMut(&Weights, &MicroBatch) -> Result<(Tensor, Tensor)> + 'a> {
        let weight_sum = batch.weights.f_sum(Kind::Float)?.f_double_value(&[])?;
        Ok(move |online: &Weights, micro_batch: &MicroBatch| {
            let td_target = self.td_target(online, batch, micro_batch)?;
            let observations = micro_batch.of_all(&batch.observations)?;
            let values = self.network.values(online, &observations, Mode::Train)?.f_to_kind(Kind::Float)?;
            let (actions, weights) = (micro_batch.of(&batch.actions)?, micro_batch.of(&batch.weights)?);
            weighted_huber(&values, &actions, &td_target, &weights, weight_sum)
        })
    }

    /// `y` of a micro-batch, without gradients.
    fn td_target(
        &mut self,
        online: &Weights,
        batch: &TensorBatch,
        micro_batch: &MicroBatch,
    ) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let next_observations = micro_batch.of_all(&batch.next_observations)?;
        let next_refs = &batch.next_observation_refs[micro_batch.rows()];
        let target = self.target.values(&self.network, &next_observations, next_refs)?;
        let target = target.f_to_kind(Kind::Float)?;
        let rewards = micro_batch.of(&batch.rewards)?.mul_scalar(self.config.reward_scale)?;
        let discounts = micro_batch.of(&batch.discounts)?;
        if self.config.double {
            let selector = self.network.values(online, &next_observations, Mode::Evaluate)?;
            td_target(&rewards, &discounts, &selector, &target)
        } else {
            td_target(&rewards, &discounts, &target, &target)
        }
    }
}
