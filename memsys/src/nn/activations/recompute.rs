//! Chains of stages, cut into groups that backward runs again (Chen et al. 2016, "Training Deep Nets with Sublinear
//! Memory Cost"). It resembles PyTorch's non-reentrant `checkpoint_sequential`.
//!
//! The second run of a group must repeat the first. Before it, the group's input is checked for writes in place, and
//! libtorch's random generator and autocast are set as they were; afterwards they are restored. The number, the shapes
//! and the kinds of the saved tensors are compared, and so is the final state of the generator. All threads of the
//! process share libtorch's generator: if another thread draws from it while a chain with dropout runs for the first or
//! the second time, backward fails.

use std::fmt::Display;

use tch::Tensor;

use crate::error::Error;
use crate::libtorch::{self, Recording};

/// One step of a chain. It owns what it needs (weights by [`Weights::share`](crate::nn::parameters::Weights::share)),
/// because backward may call it much later, on one of libtorch's threads. Two calls with the same input and the same
/// state of libtorch's random generator must return the same output.
pub type Stage<E> = Box<dyn Fn(&Tensor) -> std::result::Result<Tensor, E> + Send>;

/// Passes `input` through the stages in order and returns the output of the last one.
///
/// In a scope of [`ActivationMode::Recompute`](crate::nn::activations::ActivationMode::Recompute) it keeps only the input
/// of each group until backward. In other scopes, without gradients, and within a stage of another chain it only calls
/// the stages. In a scope of [`ActivationMode::Spill`](crate::nn::activations::ActivationMode::Spill) an `input` that is
/// a leaf stays in memory, because its owner holds it anyway.
///
/// # Errors
/// The error of a stage. Backward fails with a message from libtorch if a stage fails or panics in its second run, if an
/// input of a group or a saved tensor was written in place, or if the second run differs from the first.
pub fn sequential<E>(mut stages: Vec<Stage<E>>, input: &Tensor) -> std::result::Result<Tensor, E>
where
    E: From<Error> + Display + 'static,
{
    let n_groups = usize::try_from(libtorch::begin_chain(input)?).unwrap_or(usize::MAX).min(stages.len());
    if n_groups == 0 {
        return run(&stages, input);
    }
    let mut x = input.shallow_clone();
    for n_left in (1..=n_groups).rev() {
        let rest = stages.split_off(stages.len().div_ceil(n_left));
        x = run_recorded(stages, &x)?;
        stages = rest;
    }
    Ok(x)
}

fn run<E>(stages: &[Stage<E>], input: &Tensor) -> std::result::Result<Tensor, E> {
    let Some((first, rest)) = stages.split_first() else { return Ok(input.shallow_clone()) };
    rest.iter().try_fold(first(input)?, |x, stage| stage(&x))
}

fn run_recorded<E>(stages: Vec<Stage<E>>, input: &Tensor) -> std::result::Result<Tensor, E>
where
    E: From<Error> + Display + 'static,
{
    let recording = Recording::begin(input)?;
    let output = run(&stages, input)?;
    let again = move |x: &Tensor| run(&stages, x).map(drop).map_err(|error| error.to_string());
    recording.finish(Box::new(again))?;
    Ok(output)
}
