//! The learner: one step from one batch.
//!
//! ```text
//! for each micro-batch: goals (no gradient) -> values -> loss -> backward     gradients add up in one buffer
//! then: clip, Adam, follow with the target                                    each one pass over flat buffers
//! ```
//!
//! A step that fails has changed nothing: until its last line gradients alone are written, and they are zeroed again.
//!
//! What is not computed twice: the target's embeddings of a position stand until the target changes
//! ([`EmbeddingCache`]). Dropout draws from libtorch's generator, which is seeded anew from the run's seed and the
//! learner step before each step: no random state is left to be saved.

use std::sync::Arc;

use buffers::frames::Dataset;
use buffers::replay::TensorBatch as Batch;
use embedders::Mode;
use memsys::ledger::Owner;
use memsys::ledger::budget;
use memsys::libtorch::ScalarOps as _;
use memsys::nn::adam::Adam;
use memsys::nn::gradient_offload;
use memsys::nn::gradient_offload::HostGradients;
use memsys::nn::parameters::Weights;
use memsys::nn::precision;
use memsys::nn::precision::LossScale;
use tch::{Device, Kind, Tensor};

use crate::dqn::config::{Body, DqnConfig, Precision, TargetUpdate};
use crate::dqn::loss::{bootstrapped, weighted_huber};
use crate::dqn::network::Network;
use crate::embedding_cache::EmbeddingCache;
use crate::error::{Error, Result};

/// What a learner step did.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// `Q(s, a) − y` of each transition, in the batch's order.
    pub td_errors: Vec<f32>,
    /// The weighted mean Huber loss.
    pub loss: f64,
    /// Norm of the gradient before the clip.
    pub gradient_norm: f64,
}

/// Where the sums of gradients are.
#[derive(Debug)]
enum Gradients {
    /// On the learner's device.
    InPlace(Tensor),
    /// In the host's memory.
    Offloaded(HostGradients),
}

impl Gradients {
    fn flat_mut(&mut self) -> &mut Tensor {
        match self {
            Self::InPlace(flat) => flat,
            Self::Offloaded(gradients) => gradients.flat_mut(),
        }
    }
}

/// A DQN that learns.
#[derive(Debug)]
pub struct Learner {
    config: DqnConfig,
    network: Network,
    dataset: Arc<Dataset>,
    device: Device,
    online: Weights,
    target: Weights,
    gradients: Gradients,
    loss_scale: LossScale,
    adam: Adam,
    target_embeddings: Option<EmbeddingCache>,
    n_steps: u64,
}

impl Learner {
    /// A learner with first weights drawn from the configuration's seed; the target begins equal.
    ///
    /// # Errors
    /// Where libtorch refuses the memory.
    pub fn new(config: DqnConfig, network: Network, dataset: Arc<Dataset>, device: Device) -> Result<Self> {
        let owned = |path| Owner::named(path).enter();
        let mut online = {
            let _owner = owned("run/learner/parameters");
            Weights::initial(network.layout(), config.seed, device)?
        };
        let mut target = {
            let _owner = owned("run/learner/target");
            Weights::zeros(network.layout(), device)?
        };
        target.copy_from(&online)?;
        let gradients = {
            let _owner = owned("run/learner/gradients");
            if config.offload_gradients {
                Gradients::Offloaded(gradient_offload::offload(&mut online)?)
            } else {
                Gradients::InPlace(online.record_gradients()?)
            }
        };
        let adam = {
            let _owner = owned("run/learner/optimizer");
            Adam::new(&online, config.learning_rate)?
        };
        let target_embeddings = keeps_embeddings(&config, &dataset).then(EmbeddingCache::default);
        Ok(Self {
            config,
            network,
            dataset,
            device,
            online,
            target,
            gradients,
            loss_scale: LossScale::default(),
            adam,
            target_embeddings,
            n_steps: 0,
        })
    }

    /// Computes the target's embeddings anew for each batch, the plain way.
    #[must_use]
    pub fn without_kept_embeddings(mut self) -> Self {
        self.target_embeddings = None;
        self
    }

    /// Learns from a batch, `micro_batch` transitions at a time, each part weighted by its true size: the result is
    /// that of the whole batch but for rounding.
    ///
    /// # Errors
    /// [`Error::Diverged`], or where libtorch refuses a call; the learner is then as it was.
    pub fn step(&mut self, batch: &Batch, micro_batch: usize) -> Result<Outcome> {
        let accumulated = self.accumulate(batch, micro_batch as i64);
        let outcome = match accumulated {
            Ok(outcome) => outcome,
            Err(error) => {
                let _ = self.gradients.flat_mut().f_zero_()?;
                return Err(error);
            }
        };
        budget::commit(|| {
            if self.config.precision != Precision::F16 || self.loss_scale.update(outcome.gradient_norm) {
                self.apply_gradients(outcome.gradient_norm)?;
            } else {
                // An overflow: the step is passed over, the next one is scaled less.
                let _ = self.gradients.flat_mut().f_zero_()?;
            }
            self.n_steps += 1;
            self.update_target()?;
            Ok(outcome)
        })
    }

    /// Adam's step along the gradients, which are zero afterwards.
    fn apply_gradients(&mut self, norm: f64) -> Result<()> {
        let Self { adam, online, gradients, device, config, .. } = self;
        let flat = gradients.flat_mut();
        if flat.device() == *device {
            adam.step(online, flat, norm, config.max_gradient_norm)?;
        } else {
            adam.step(online, &mut flat.f_to_device(*device)?, norm, config.max_gradient_norm)?;
            let _ = flat.f_zero_()?;
        }
        Ok(())
    }

    /// Goes through a batch as [`Learner::step`] does, and learns nothing from it.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn dry_run(&mut self, batch: &Batch, micro_batch: usize) -> Result<()> {
        let accumulated = self.accumulate(batch, micro_batch as i64);
        let _ = self.gradients.flat_mut().f_zero_()?;
        accumulated.map(|_| ())
    }

    /// Adds the gradients of a batch into their buffer.
    fn accumulate(&mut self, batch: &Batch, micro_batch: i64) -> Result<Outcome> {
        tch::manual_seed(step_seed(self.config.seed, self.n_steps));
        let n_batch = batch.observation_refs.len() as i64;
        let weight_sum = batch.weights.f_sum(Kind::Float)?.f_double_value(&[])?;
        let mut td_errors = Vec::with_capacity(batch.observation_refs.len());
        let mut loss = 0.0;
        let mut start = 0;
        while start < n_batch {
            let part = Part { start, len: micro_batch.min(n_batch - start), device: self.device };
            let (td_target, values) = {
                let _narrow = precision::autocast(self.config.precision.kind(), self.device)?;
                let td_target = self.td_target(batch, &part)?;
                let values =
                    self.network.values(&self.online, &part.all(&batch.observations)?, Mode::Train)?;
                (td_target, values.f_to_kind(Kind::Float)?)
            };
            let (part_loss, part_errors) = weighted_huber(
                &values,
                &part.of(&batch.actions)?,
                &td_target,
                &part.of(&batch.weights)?,
                weight_sum,
            )?;
            if self.config.precision == Precision::F16 {
                part_loss.mul_scalar(self.loss_scale.factor())?.f_backward()?;
            } else {
                part_loss.f_backward()?;
            }
            loss += part_loss.f_double_value(&[])?;
            td_errors.extend(Vec::<f32>::try_from(part_errors.f_to_device(Device::Cpu)?)?);
            start += part.len;
        }
        if !loss.is_finite() {
            return Err(Error::Diverged { learner_step: self.n_steps, loss });
        }
        let gradients = self.gradients.flat_mut();
        if self.config.precision == Precision::F16 {
            gradients.mul_scalar_(1.0 / self.loss_scale.factor())?;
        }
        let gradient_norm = tch::no_grad(|| gradients.f_norm())?.f_double_value(&[])?;
        Ok(Outcome { td_errors, loss, gradient_norm })
    }

    /// `y` of a part of the batch.
    fn td_target(&mut self, batch: &Batch, part: &Part) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let next = part.all(&batch.next_observations)?;
        let target = match (&mut self.target_embeddings, self.network.embedders()) {
            (Some(kept), Some(embedders)) => {
                let observation_refs =
                    &batch.next_observation_refs[part.start as usize..(part.start + part.len) as usize];
                let embedding = kept.embed(embedders, &self.target, &self.dataset, observation_refs)?;
                let local = &next[next.len() - 1];
                self.network.values_of_embedding(
                    &self.target,
                    &embedding,
                    &local.f_reshape([part.len, -1])?,
                )?
            }
            _ => self.network.values(&self.target, &next, Mode::Evaluate)?,
        };
        let target = target.f_to_kind(Kind::Float)?;
        let rewards = part.of(&batch.rewards)?.mul_scalar(self.config.reward_scale)?;
        let discounts = part.of(&batch.discounts)?;
        if self.config.double {
            let online = self.network.values(&self.online, &next, Mode::Evaluate)?;
            bootstrapped(&rewards, &discounts, &online, &target)
        } else {
            bootstrapped(&rewards, &discounts, &target, &target)
        }
    }

    fn update_target(&mut self) -> Result<()> {
        match self.config.target_update {
            TargetUpdate::Periodic { interval } if self.n_steps.is_multiple_of(interval) => {
                self.target.copy_from(&self.online)?;
                if let Some(kept) = &mut self.target_embeddings {
                    kept.clear();
                }
            }
            TargetUpdate::Periodic { .. } => {}
            TargetUpdate::Soft { tau } => self.target.move_towards(&self.online, tau)?,
        }
        Ok(())
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The online weights.
    #[must_use]
    pub fn online(&self) -> &Weights {
        &self.online
    }

    /// The target's weights.
    #[must_use]
    pub fn target(&self) -> &Weights {
        &self.target
    }

    /// The optimizer.
    #[must_use]
    pub fn adam(&self) -> &Adam {
        &self.adam
    }

    /// The loss scale, which matters where the precision is f16.
    #[must_use]
    pub fn loss_scale(&self) -> LossScale {
        self.loss_scale
    }

    /// Takes a saved loss scale.
    pub fn restore_loss_scale(&mut self, loss_scale: LossScale) {
        self.loss_scale = loss_scale;
    }

    /// Learner steps taken.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// Takes a saved state: flat online and target weights, the optimizer's moments, and the steps taken.
    ///
    /// # Errors
    /// Where sizes differ.
    pub fn restore(
        &mut self,
        online: &Tensor,
        target: &Tensor,
        moments: [&Tensor; 2],
        n_steps: u64,
    ) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.online.flat_mut().f_copy_(online)?;
        self.target.flat_mut().f_copy_(target)?;
        self.adam.restore(moments[0], moments[1], n_steps)?;
        self.n_steps = n_steps;
        if let Some(kept) = &mut self.target_embeddings {
            kept.clear();
        }
        Ok(())
    }
}

/// Whether keeping the target's embeddings saves work: a block is embedded whole for the first of its positions that
/// is drawn, so the draws of a target interval must well exceed the positions there are.
fn keeps_embeddings(config: &DqnConfig, dataset: &Dataset) -> bool {
    let TargetUpdate::Periodic { interval } = config.target_update else { return false };
    let n_positions: usize =
        (0..dataset.n_instruments() as u16).map(|instrument| dataset.n_steps(instrument)).sum();
    config.body != Body::Plain && interval.saturating_mul(config.batch as u64) > 2 * n_positions as u64
}

/// A part of a batch, on the learner's device.
struct Part {
    start: i64,
    len: i64,
    device: Device,
}

impl Part {
    fn of(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.f_narrow(0, self.start, self.len)?.f_to_device(self.device)?)
    }

    fn all(&self, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
        tensors.iter().map(|tensor| self.of(tensor)).collect()
    }
}

/// Seeds for neighbouring steps that share nothing (Steele et al. 2014, SplitMix64).
fn step_seed(seed: u64, step: u64) -> i64 {
    let mut z = seed.wrapping_add((step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use buffers::frames::{Clock, FrameStream, Instrument, ObservationRef, View};
    use buffers::replay::{Replay, ReplayOptions, StoreOptions, Transition};
    use embedders::Preset;
    use memsys::nn::activations;
    use memsys::nn::activations::ActivationMode;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    /// libtorch's generator is the process's: what draws dropout takes turns.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

    const N_STEPS: usize = 400;
    const FIRST_STEP: usize = 300;

    fn dataset(rng: &mut Pcg64Mcg) -> Arc<Dataset> {
        let view = |name, length, width, stride, clock| View { name, length, width, stride, clock };
        let views = vec![
            view("structure", 48, 8, 1, Clock::Slow),
            view("tactical", 60, 7, 1, Clock::Decision),
            view("regime", 20, 8, 6, Clock::Decision),
            view("lvn", 1, 5, 1, Clock::Decision),
            view("account", 1, 8, 1, Clock::Local),
        ];
        let mut stream = |view: &View| {
            let mut stream = FrameStream::new(view.width);
            for _ in 0..N_STEPS {
                let row: Vec<f32> = (0..view.width).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect();
                stream.append(&row);
            }
            stream
        };
        let streams = views.iter().map(&mut stream).collect();
        let slow_row = (0..N_STEPS as u32).map(|t| t / 6).collect();
        Arc::new(Dataset::new(views, vec![Instrument { streams, slow_row, first_step: FIRST_STEP }]))
    }

    fn replay(dataset: &Arc<Dataset>, rng: &mut Pcg64Mcg) -> Replay {
        let options = ReplayOptions {
            capacity_transitions: 256,
            priority_exponent: 0.6,
            n_environments: 1,
            local_width: 8,
            copies_observations: false,
            store: StoreOptions::default(),
        };
        let mut replay = Replay::new(&options, Arc::clone(dataset)).unwrap();
        let mut local = |replay: &mut Replay| {
            let row: Vec<f32> = (0..8).map(|_| rng.random::<f32>()).collect();
            replay.append_local(0, &row)
        };
        let mut at = local(&mut replay);
        for t in FIRST_STEP as u32..(N_STEPS - 3) as u32 {
            let from = ObservationRef { t, local: at, ..ObservationRef::default() };
            at = local(&mut replay);
            let (action, reward) = ((t % 3) as u8, (t as f32).sin());
            replay.insert(Transition { from, to_t: t + 3, to_local: at, action, reward, discount: 0.9 });
        }
        replay
    }

    fn config(interval: u64) -> DqnConfig {
        DqnConfig {
            body: Body::Market { preset: Preset::Compact, dropout: None },
            hidden: 32,
            n_actions: 3,
            local_width: 8,
            double: true,
            dueling: true,
            learning_rate: 1e-3,
            max_gradient_norm: 10.0,
            target_update: TargetUpdate::Periodic { interval },
            reward_scale: 1.0,
            batch: 32,
            precision: Precision::F32,
            offload_gradients: false,
            seed: 3,
        }
    }

    /// Runs learner steps over the same batches two ways and compares errors and weights.
    fn check(config: DqnConfig, micro_batches: [usize; 2], other_is_plain: bool, relative: f64) {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut rng = Pcg64Mcg::seed_from_u64(9);
        let dataset = dataset(&mut rng);
        let replay = replay(&dataset, &mut rng);
        let learner =
            |config| Learner::new(config, Network::new(&config), Arc::clone(&dataset), Device::Cpu).unwrap();
        let (mut one, mut other) = (learner(config), learner(config));
        if other_is_plain {
            assert!(one.target_embeddings.is_some(), "the test is of kept embeddings");
            other = other.without_kept_embeddings();
        }
        for _ in 0..12 {
            let batch: Batch = replay.sample(32, 0.5, &mut rng).unwrap();
            let a = one.step(&batch, micro_batches[0]).unwrap();
            let b = other.step(&batch, micro_batches[1]).unwrap();
            let scale = a.td_errors.iter().fold(0f32, |most, error| most.max(error.abs()));
            for (a, b) in a.td_errors.iter().zip(&b.td_errors) {
                assert!(f64::from((a - b).abs()) < relative * f64::from(scale), "{a} {b}");
            }
        }
        let difference = (one.online.flat() - other.online.flat()).abs().max().double_value(&[]);
        // Adam moves a weight by up to 1e-3 a step, whatever the size of its gradient: a tenth of the way of twelve.
        assert!(difference < 1.2e-3, "{difference}");
        assert!(
            one.n_steps() == 12
                && (one.online.flat() - one.target.flat()).abs().max().double_value(&[]) > 0.0
        );
    }

    #[test]
    fn kept_embeddings_give_the_result_of_the_plain_update() {
        check(config(50), [32, 32], true, 1e-5);
    }

    #[test]
    fn micro_batches_give_the_result_of_the_whole_batch() {
        let soft = DqnConfig { target_update: TargetUpdate::Soft { tau: 0.1 }, ..config(1) };
        check(soft, [32, 8], false, 1e-3);
    }

    /// One learner step over a batch of 128: the errors, and every number that it changed.
    fn stepped(
        config: DqnConfig,
        micro_batch: usize,
        mode: Option<ActivationMode>,
    ) -> (Vec<f32>, Tensor, Tensor) {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut rng = Pcg64Mcg::seed_from_u64(9);
        let dataset = dataset(&mut rng);
        let replay = replay(&dataset, &mut rng);
        let mut learner = Learner::new(config, Network::new(&config), dataset, Device::Cpu).unwrap();
        let batch: Batch = replay.sample(128, 0.5, &mut rng).unwrap();
        let _activations = mode.map(|mode| {
            activations::enter(&activations::Options { mode, ..activations::Options::default() }).unwrap()
        });
        let outcome = learner.step(&batch, micro_batch).unwrap();
        let moment = learner.adam.state().0.copy();
        (outcome.td_errors, learner.online.flat().detach().copy(), moment)
    }

    fn with_dropout() -> DqnConfig {
        DqnConfig { body: Body::Market { preset: Preset::Compact, dropout: Some(0.2) }, ..config(50) }
    }

    #[test]
    fn every_policy_of_activations_gives_the_same_bits() {
        let plain = stepped(with_dropout(), 16, None);
        for mode in [ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill] {
            let other = stepped(with_dropout(), 16, Some(mode));
            assert_eq!(plain.0, other.0, "{mode:?}");
            assert!(plain.1 == other.1 && plain.2 == other.2, "{mode:?}: other weights or moments");
        }
    }

    #[test]
    fn gradients_of_micro_batches_are_those_of_the_batch_to_five_digits() {
        // The first moment after one step is a tenth of the gradient. Without dropout: its draws follow the shapes.
        let (whole, parts) = (stepped(config(50), 128, None).2, stepped(config(50), 8, None).2);
        let error = (&whole - &parts).norm().double_value(&[]) / whole.norm().double_value(&[]);
        assert!(error < 1e-5, "{error}");
    }

    #[test]
    fn offloaded_gradients_give_the_same_bits() {
        let offloaded = DqnConfig { offload_gradients: true, ..config(50) };
        assert!(stepped(offloaded, 8, None).1 == stepped(config(50), 8, None).1);
    }

    #[test]
    fn bf16_is_close_to_f32_and_its_sums_are_f32() {
        let narrow = stepped(DqnConfig { precision: Precision::Bf16, ..config(50) }, 128, None);
        let wide = stepped(config(50), 128, None);
        assert_eq!(narrow.2.kind(), Kind::Float);
        let error = (&narrow.2 - &wide.2).norm().double_value(&[]) / wide.2.norm().double_value(&[]);
        assert!((1e-5..0.1).contains(&error), "{error}");
    }

    #[test]
    fn a_refused_step_leaves_the_learner_as_it_was() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut rng = Pcg64Mcg::seed_from_u64(9);
        let dataset = dataset(&mut rng);
        let replay = replay(&dataset, &mut rng);
        let config = config(50);
        let mut learner = Learner::new(config, Network::new(&config), dataset, Device::Cpu).unwrap();
        let mut batch: Batch = replay.sample(32, 0.5, &mut rng).unwrap();
        let before = learner.online.flat().detach().copy();
        // The last part of the batch cannot be learned from: others have added their gradients by then.
        batch.actions = Tensor::cat(&[&batch.actions.narrow(0, 0, 31), &Tensor::from_slice(&[99i64])], 0);
        assert!(learner.step(&batch, 8).is_err());
        assert!(learner.online.flat().detach() == before && learner.n_steps() == 0);
        assert_eq!(learner.gradients.flat_mut().abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn a_loss_that_is_no_number_is_an_error() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut rng = Pcg64Mcg::seed_from_u64(9);
        let dataset = dataset(&mut rng);
        let replay = replay(&dataset, &mut rng);
        let config = DqnConfig { reward_scale: f64::NAN, ..config(50) };
        let mut learner =
            Learner::new(config, Network::new(&config), Arc::clone(&dataset), Device::Cpu).unwrap();
        let batch: Batch = replay.sample(32, 0.5, &mut rng).unwrap();
        assert!(matches!(learner.step(&batch, 32), Err(Error::Diverged { learner_step: 0, .. })));
    }
}
