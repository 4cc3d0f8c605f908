//! An agent that acts at random and learns one number: the mean reward.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use buffers::frames::Dataset;
use buffers::replay::TensorBatch;
use memsys::nn::parameters::{Init, Layout, ParameterId, Weights};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tch::{Device, Kind, Tensor};

use crate::agent::{ActivationBytes, Agent, Greedy, Outcome, Policy};
use crate::error::Result;
use crate::update::{MicroBatch, Precision, UpdateCounters, UpdateOptions, UpdateStep};

#[derive(Debug)]
pub(crate) struct RandomPolicy {
    layout: Layout,
    n_actions: u8,
    rng: Mutex<Pcg64Mcg>,
}

impl RandomPolicy {
    pub(crate) fn new(n_actions: u8) -> Self {
        let (layout, _) = layout();
        Self { layout, n_actions, rng: Mutex::new(Pcg64Mcg::seed_from_u64(1)) }
    }
}

fn layout() -> (Layout, ParameterId) {
    let mut layout = Layout::new();
    let mean_reward = layout.add("mean_reward", &[1], Init::Constant(0.0));
    (layout, mean_reward)
}

impl Policy for RandomPolicy {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn greedy(&self, _: &Weights, observations: &[Tensor]) -> Result<Vec<u8>> {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let n = observations[observations.len() - 1].size()[0];
        Ok((0..n).map(|_| rng.random_range(0..self.n_actions)).collect())
    }

    fn embedding_width(&self) -> usize {
        0
    }

    fn embed_range(&self, _: &Weights, _: &Dataset, _: u16, _: Range<usize>) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }

    fn greedy_of_embedding(&self, weights: &Weights, _: &Tensor, local: &Tensor) -> Result<Greedy> {
        let actions = self.greedy(weights, &[local.shallow_clone()])?;
        Ok(Greedy { actions, action_values: Vec::new() })
    }

    fn activation_bytes(&self) -> ActivationBytes {
        ActivationBytes { kept: 4, evaluated: 0 }
    }
}

#[derive(Debug)]
pub(crate) struct RandomAgent {
    update: UpdateStep,
    mean_reward: ParameterId,
}

impl RandomAgent {
    pub(crate) fn new(seed: u64) -> Self {
        let options = UpdateOptions {
            learning_rate: 0.1,
            max_gradient_norm: 10.0,
            precision: Precision::F32,
            offload_gradients: false,
            seed,
        };
        let (layout, mean_reward) = layout();
        Self { update: UpdateStep::new(&layout, options, Device::Cpu).unwrap(), mean_reward }
    }

    /// Half the mean squared error.
    fn loss_of(
        mean_reward: ParameterId,
        batch: &TensorBatch,
    ) -> impl FnMut(&Weights, &MicroBatch) -> Result<(Tensor, Tensor)> {
        let n_rows = batch.rewards.size()[0] as f64;
        move |online, micro_batch| {
            let error = &online[mean_reward] - micro_batch.of(&batch.rewards)?;
            Ok((error.square().sum(Kind::Float) / (2.0 * n_rows), error.detach()))
        }
    }
}

impl Agent for RandomAgent {
    fn online(&self) -> &Weights {
        self.update.online()
    }

    fn n_steps(&self) -> u64 {
        self.update.n_steps()
    }

    fn step(&mut self, batch: &TensorBatch, micro_batch: usize) -> Result<Outcome> {
        let loss = Self::loss_of(self.mean_reward, batch);
        let n_rows = batch.observation_refs.len();
        let updated = self.update.accumulate(n_rows, micro_batch, loss)?.commit(|_, _| Ok(()))?;
        let (loss, gradient_norm) = (updated.loss, updated.gradient_norm);
        Ok(Outcome { td_errors: updated.extras, loss, gradient_norm })
    }

    fn dry_run(&mut self, batch: &TensorBatch, micro_batch: usize) -> Result<()> {
        let loss = Self::loss_of(self.mean_reward, batch);
        drop(self.update.accumulate(batch.observation_refs.len(), micro_batch, loss)?);
        Ok(())
    }

    fn tensors(&self) -> Vec<(&'static str, &Tensor)> {
        self.update.tensors().to_vec()
    }

    fn counters(&self) -> UpdateCounters {
        self.update.counters()
    }

    fn resume_at(&mut self, counters: UpdateCounters) {
        self.update.resume_at(counters);
    }
}
