//! Chains of stages that backward may run again (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"). It
//! resembles PyTorch's non-reentrant `checkpoint_sequential`.
//!
//! The second run of a stage must repeat the first. Before it, the stage's input is checked for writes in place, and
//! libtorch's random generator and autocast are set as they were; afterwards they are restored. The number, the shapes
//! and the kinds of the saved tensors are compared, and so is the final state of the generator. All threads of the
//! process share libtorch's generator: if another thread draws from it while a stage with dropout runs for the first or
//! the second time, backward fails.

use std::fmt::Display;

use tch::Tensor;

use crate::error::Error;
use crate::libtorch::{self, InStage, Recording};
use crate::nn::activations::trace;
use crate::step::activation_mode::ActivationMode;
use crate::step::stage_modes::{REST, StageModes};

/// One step of a chain. It owns what it needs (weights by [`Weights::share`](crate::nn::parameters::Weights::share)),
/// because backward may call it much later, on one of libtorch's threads. Two calls with the same input and the same
/// state of libtorch's random generator must return the same output.
pub type Stage<E> = Box<dyn Fn(&Tensor) -> std::result::Result<Tensor, E> + Send>;

/// Passes `input` through the stages in order and returns the output of the last one. The stages have the numbers `first`,
/// `first` + 1 and so on, by which a [`Scope`](crate::nn::activations::Scope) gives each one its mode.
///
/// A stage of [`Recompute`](ActivationMode::Recompute) keeps only its input until backward. Without gradients and within a
/// stage of another chain the stages are only called. If any stage of the scope spills, an `input` that is a leaf stays in
/// memory, because its owner holds it anyway.
///
/// # Errors
/// The error of a stage. Backward fails with a message from libtorch if a stage fails or panics in its second run, if an
/// input of a stage or a saved tensor was written in place, or if the second run differs from the first.
pub fn sequential<E>(first: usize, stages: Vec<Stage<E>>, input: &Tensor) -> std::result::Result<Tensor, E>
where
    E: From<Error> + Display + 'static,
{
    let modes = libtorch::begin_chain(input)?.map(StageModes::unpacked);
    let mut x = input.shallow_clone();
    for (number, stage) in (first..).zip(stages) {
        let Some(modes) = modes else {
            x = stage(&x)?;
            continue;
        };
        trace::begin(number);
        x = if modes.of(number) == ActivationMode::Recompute {
            run_recorded(stage, &x)?
        } else {
            let _stage = InStage::enter(number.min(REST) as u32);
            stage(&x)?
        };
        trace::end(number, &x)?;
    }
    Ok(x)
}

fn run_recorded<E>(stage: Stage<E>, input: &Tensor) -> std::result::Result<Tensor, E>
where
    E: From<Error> + Display + 'static,
{
    let recording = Recording::begin(input)?;
    let output = stage(input)?;
    let again = move |x: &Tensor| stage(x).map(drop).map_err(|error| error.to_string());
    recording.finish(Box::new(again))?;
    Ok(output)
}
