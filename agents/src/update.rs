//! The update step, written once for every agent.
//!
//! ```text
//! for each micro-batch    loss (under autocast) -> backward      gradients add up in one flat buffer
//! once for the batch      norm -> commit: clip, Adam             one pass over the flat buffers each
//!                              or roll back: gradients zeroed    weights and moments as they were
//! ```
//!
//! An agent gives the loss of a micro-batch, as Acme's `LossFn` does, and knows nothing of micro-batches, precision,
//! gradient offload or the memory limit. An agent with several losses over one set of weights gives their sum.
//!
//! A step is a transaction: before the commit it writes gradients only, and no allocation in the commit is refused.
//! Between the last backward and the norm the gradients of the whole batch lie in one flat buffer; a sum over
//! several workers belongs there, in [`UpdateStep::accumulate`].
//!
//! Dropout draws from libtorch's generator. Each step seeds it from the run's seed and the step's number, so there is
//! no random state to save, and a step that is tried again draws the same.

use std::ops::Range;

use memsys::ledger::Owner;
use memsys::ledger::budget;
use memsys::libtorch::ScalarOps as _;
use memsys::nn::adam::Adam;
use memsys::nn::gradient_offload;
use memsys::nn::gradient_offload::HostGradients;
use memsys::nn::parameters::{Layout, Weights};
use memsys::nn::precision;
use memsys::nn::precision::LossScale;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::seed::mix_seed;

/// The kind of number in which matrix products are computed. Weights, gradient sums and moments are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// No autocast.
    F32,
    /// Autocast to bf16.
    Bf16,
    /// Autocast to f16 with a scaled loss. Only a GPU computes it.
    F16,
}

impl Precision {
    fn kind(self) -> Option<Kind> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(Kind::BFloat16),
            Self::F16 => Some(Kind::Half),
        }
    }
}

/// How an update step computes and how far it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateOptions {
    /// Adam's step size.
    pub learning_rate: f64,
    /// Norm over all parameters to which a longer gradient is scaled down.
    pub max_gradient_norm: f64,
    /// The kind of number of matrix products.
    pub precision: Precision,
    /// Whether each gradient moves to the host's memory as soon as it is complete.
    pub offload_gradients: bool,
    /// Seed of the initial weights and of dropout.
    pub seed: u64,
}

/// Consecutive rows of a batch, which go through forward and backward together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicroBatch {
    rows: Range<usize>,
    device: Device,
}

impl MicroBatch {
    /// Which rows of the batch.
    #[must_use]
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// These rows of a tensor of the batch, on the learner's device.
    ///
    /// # Errors
    /// Where libtorch refuses the memory.
    pub fn of(&self, tensor: &Tensor) -> Result<Tensor> {
        let rows = tensor.f_narrow(0, self.rows.start as i64, self.rows.len() as i64)?;
        Ok(rows.f_to_device(self.device)?)
    }

    /// These rows of each tensor, on the learner's device.
    ///
    /// # Errors
    /// Where libtorch refuses the memory.
    pub fn of_all(&self, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
        tensors.iter().map(|tensor| self.of(tensor)).collect()
    }
}

/// What an update step computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Updated {
    /// The batch's loss: the sum over its micro-batches.
    pub loss: f64,
    /// Norm of the gradient before the clip.
    pub gradient_norm: f64,
    /// What the loss gave beside itself, in the batch's order.
    pub extras: Vec<f32>,
}

/// The counters of an update step that a checkpoint keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateCounters {
    /// Steps taken.
    pub n_steps: u64,
    /// Steps that Adam took: those without an overflow of f16 gradients. Adam's correction of its bias follows them.
    pub n_adam_steps: u64,
    /// Factor of the loss scale and its steps without an overflow. They matter in f16 only.
    pub loss_scale: (f64, u32),
}

#[derive(Debug)]
enum Gradients {
    InPlace(Tensor),
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

/// The online weights of an agent and all that changes them.
#[derive(Debug)]
pub struct UpdateStep {
    options: UpdateOptions,
    device: Device,
    online: Weights,
    gradients: Gradients,
    loss_scale: LossScale,
    adam: Adam,
    n_steps: u64,
}

impl UpdateStep {
    /// Draws initial weights for `layout` from the seed.
    ///
    /// # Errors
    /// Where libtorch refuses the memory.
    pub fn new(layout: &Layout, options: UpdateOptions, device: Device) -> Result<Self> {
        let mut online = {
            let _owner = Owner::named("run/learner/parameters").enter();
            Weights::initial(layout, options.seed, device)?
        };
        let gradients = {
            let _owner = Owner::named("run/learner/gradients").enter();
            if options.offload_gradients {
                Gradients::Offloaded(gradient_offload::offload(&mut online)?)
            } else {
                Gradients::InPlace(online.record_gradients()?)
            }
        };
        let adam = {
            let _owner = Owner::named("run/learner/optimizer").enter();
            Adam::new(&online, options.learning_rate)?
        };
        Ok(Self { options, device, online, gradients, loss_scale: LossScale::default(), adam, n_steps: 0 })
    }

    /// Adds up the gradients of a batch of `n_rows`, at most `micro_batch` rows at a time.
    ///
    /// `loss(online weights, micro-batch)` gives the micro-batch's share of the batch's loss, a scalar, and a tensor
    /// of extras (TD errors, say). Shares must add up to the loss of the whole batch. The micro-batch size then changes
    /// the result only by rounding, and by dropout where there is one, whose draws follow the shapes. `loss` runs under
    /// autocast.
    ///
    /// # Errors
    /// [`Error::Diverged`], or where `loss` or libtorch refuses; nothing has changed then.
    pub fn accumulate(
        &mut self,
        n_rows: usize,
        micro_batch: usize,
        loss: impl FnMut(&Weights, &MicroBatch) -> Result<(Tensor, Tensor)>,
    ) -> Result<Accumulated<'_>> {
        let updated = Updated { extras: Vec::with_capacity(n_rows), ..Updated::default() };
        // It exists before the first backward, so that its drop rolls back a backward that fails.
        let mut accumulated = Accumulated { update: self, updated };
        let Accumulated { update, updated } = &mut accumulated;
        update.backward(n_rows, micro_batch, loss, updated)?;
        updated.gradient_norm = update.gradient_norm()?;
        Ok(accumulated)
    }

    /// Adds the gradients of each micro-batch to the flat buffer.
    fn backward(
        &mut self,
        n_rows: usize,
        micro_batch: usize,
        mut loss: impl FnMut(&Weights, &MicroBatch) -> Result<(Tensor, Tensor)>,
        updated: &mut Updated,
    ) -> Result<()> {
        tch::manual_seed(mix_seed(self.options.seed, self.n_steps) as i64);
        for start in (0..n_rows).step_by(micro_batch) {
            let rows = start..n_rows.min(start + micro_batch);
            let micro_batch = MicroBatch { rows, device: self.device };
            let (share, extras) = {
                let _autocast = precision::autocast(self.options.precision.kind(), self.device)?;
                loss(&self.online, &micro_batch)?
            };
            if self.options.precision == Precision::F16 {
                share.mul_scalar(self.loss_scale.factor())?.f_backward()?;
            } else {
                share.f_backward()?;
            }
            updated.loss += share.f_double_value(&[])?;
            updated.extras.extend(Vec::<f32>::try_from(extras.f_to_device(Device::Cpu)?)?);
        }
        if !updated.loss.is_finite() {
            return Err(Error::Diverged { learner_step: self.n_steps, loss: updated.loss });
        }
        Ok(())
    }

    /// Takes the loss scale out of the gradients and gives their norm over all parameters.
    fn gradient_norm(&mut self) -> Result<f64> {
        let gradients = self.gradients.flat_mut();
        if self.options.precision == Precision::F16 {
            gradients.mul_scalar_(1.0 / self.loss_scale.factor())?;
        }
        Ok(tch::no_grad(|| gradients.f_norm())?.f_double_value(&[])?)
    }

    /// Clips the gradients and takes Adam's step along them.
    fn apply_gradients(&mut self, norm: f64) -> Result<()> {
        if self.options.precision == Precision::F16 && !self.loss_scale.update(norm) {
            // An f16 gradient overflowed: this batch is skipped, and the halved scale serves the next one.
            return Ok(());
        }
        let Self { adam, online, gradients, device, options, .. } = self;
        let flat = gradients.flat_mut();
        if flat.device() == *device {
            adam.step(online, flat, norm, options.max_gradient_norm)?;
        } else {
            adam.step(online, &mut flat.f_to_device(*device)?, norm, options.max_gradient_norm)?;
        }
        Ok(())
    }

    /// The weights that learn.
    #[must_use]
    pub fn online(&self) -> &Weights {
        &self.online
    }

    /// Steps taken.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// The flat tensors that a checkpoint keeps.
    pub fn tensors(&self) -> [(&'static str, &Tensor); 3] {
        let (first_moment, second_moment, _) = self.adam.state();
        [("online", self.online.flat()), ("first_moment", first_moment), ("second_moment", second_moment)]
    }

    /// The counters that a checkpoint keeps.
    #[must_use]
    pub fn counters(&self) -> UpdateCounters {
        let (.., n_adam_steps) = self.adam.state();
        UpdateCounters { n_steps: self.n_steps, n_adam_steps, loss_scale: self.loss_scale.state() }
    }

    /// Resumes at `counters`, which [`UpdateStep::counters`] gave, from the numbers that now stand in
    /// [`UpdateStep::tensors`].
    pub fn resume_at(&mut self, counters: UpdateCounters) {
        self.adam.resume_at(counters.n_adam_steps);
        self.loss_scale = LossScale::of_state(counters.loss_scale);
        self.n_steps = counters.n_steps;
    }
}

/// The gradients of one batch, ready to be applied.
///
/// Without a commit its drop zeroes them, and the batch has changed nothing. An agent with several [`UpdateStep`]s
/// accumulates in all of them before it commits the first.
#[derive(Debug)]
#[must_use = "without a commit nothing is learned"]
pub struct Accumulated<'a> {
    update: &'a mut UpdateStep,
    updated: Updated,
}

impl Accumulated<'_> {
    /// Applies the gradients; no allocation in it is refused. `then(online weights, steps taken)` runs after the
    /// weights have changed and within the commit. A target network is updated there.
    ///
    /// # Errors
    /// Where libtorch refuses a call for a reason other than memory.
    pub fn commit(mut self, then: impl FnOnce(&Weights, u64) -> Result<()>) -> Result<Updated> {
        let Self { update, updated } = &mut self;
        budget::commit(|| {
            update.apply_gradients(updated.gradient_norm)?;
            update.n_steps += 1;
            then(&update.online, update.n_steps)
        })?;
        Ok(std::mem::take(updated))
    }
}

impl Drop for Accumulated<'_> {
    fn drop(&mut self) {
        // It allocates nothing. Where it fails, the device is lost, and the next call reports that.
        let _ = self.update.gradients.flat_mut().f_zero_();
    }
}

#[cfg(test)]
mod tests {
    use memsys::nn::parameters::{Init, ParameterId};

    use super::*;
    use crate::tests::rng_lock;

    /// One step along the gradient of `scale · √(w₀ + w)`, as f16 takes it once the norm is known. Its gradient at 0 is infinite, its loss is not.
    fn f16_step(update: &mut UpdateStep, id: ParameterId, scale: f64, w: f64) {
        let root = |online: &Weights, _: &MicroBatch| {
            let root = (&online[id] + w).f_sqrt()?.f_sum(Kind::Float)? * scale;
            Ok((root, Tensor::ones([1], (Kind::Float, Device::Cpu))))
        };
        let accumulated = update.accumulate(1, 1, root).unwrap();
        accumulated.update.options.precision = Precision::F16;
        accumulated.commit(|_, _| Ok(())).unwrap();
        update.options.precision = Precision::F32;
    }

    #[test]
    fn after_a_skipped_batch_a_resumed_adam_counts_its_own_steps() {
        let _lock = rng_lock::lock();
        let mut layout = Layout::new();
        let id = layout.add("w", &[1], Init::Constant(0.0));
        let options = UpdateOptions {
            learning_rate: 0.1,
            max_gradient_norm: 1.0,
            precision: Precision::F32,
            offload_gradients: false,
            seed: 1,
        };
        let mut whole = UpdateStep::new(&layout, options, Device::Cpu).unwrap();
        f16_step(&mut whole, id, 1.0, 0.0);
        let skipped = whole.counters();
        assert_eq!((skipped.n_steps, skipped.n_adam_steps), (1, 0), "an infinite gradient is skipped");
        assert!(skipped.loss_scale.0 < LossScale::default().factor());
        f16_step(&mut whole, id, 1.0, 5.0);

        let mut resumed = UpdateStep::new(&layout, options, Device::Cpu).unwrap();
        for ((_, saved), (_, tensor)) in whole.tensors().into_iter().zip(resumed.tensors()) {
            tch::no_grad(|| tensor.shallow_clone().copy_(saved));
        }
        resumed.resume_at(whole.counters());
        assert_eq!(resumed.counters(), whole.counters());
        f16_step(&mut whole, id, 0.5, 5.0);
        f16_step(&mut resumed, id, 0.5, 5.0);
        assert!(whole.online().flat() == resumed.online().flat());
    }
}
