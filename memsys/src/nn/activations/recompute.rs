//! Chains of stages, cut into groups that backward runs again (Chen et al. 2016, "Training Deep Nets with Sublinear
//! Memory Cost"; in the manner of PyTorch's `checkpoint_sequential`, not re-entrant).
//!
//! A second run must do what the first did. Its input is checked for writes in place; libtorch's random generator and
//! autocast are set as they were, and put back after; the number and the shapes of saved tensors are compared, and so
//! is the generator's state at the end. libtorch's generator is the process's: while a chain that drops numbers
//! at random runs forward or again, a draw by another thread makes backward fail.

use std::fmt::Display;

use tch::Tensor;

use crate::error::Error;
use crate::libtorch::{self, Recording};

/// One step of a chain. It owns what it needs (places of parameters, [`crate::nn::parameters::Weights::share`]), for
/// backward may call it again long after, on a thread of libtorch's. Called twice with the same input it gives the
/// same output, but for libtorch's random generator.
pub type Stage<E> = Box<dyn Fn(&Tensor) -> std::result::Result<Tensor, E> + Send>;

/// Gives `input` to the first stage, what it returns to the second, and so on; returns what the last returns. Under
/// [`crate::nn::activations::ActivationMode::Recompute`] it holds the input of each group until backward and drops what the group saved;
/// otherwise, without gradients, and within a stage of another chain, it only calls the stages. Under
/// [`crate::nn::activations::ActivationMode::Spill`] an `input` that nothing computed stays in memory, for its owner holds it anyway.
///
/// # Errors
/// What a stage returns. In backward, an error from libtorch's with the reason: a stage's error or panic, a write in
/// place to the input of a group or to a saved tensor, or a second run that differs from the first.
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
