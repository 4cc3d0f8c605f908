//! Adam over flat buffers (Kingma & Ba 2015, algorithm 1).
//!
//! A step is one pass over the flat buffers. The state is two tensors and a count, which can be saved and restored.
//! There is no weight decay and no learning-rate schedule.

use tch::Tensor;

use crate::error::Result;
use crate::libtorch::{self, AdamConstants, ScalarOps as _};
use crate::nn::parameters::Weights;

/// The optimizer's state for one set of weights.
#[derive(Debug)]
pub struct Adam {
    constants: AdamConstants,
    first_moment: Tensor,
    second_moment: Tensor,
    n_steps: u64,
}

impl Adam {
    /// Moments of zero, with PyTorch's defaults β₁ = 0.9, β₂ = 0.999 and ε = 1e-8.
    ///
    /// # Errors
    /// If the memory for the moments is refused.
    pub fn new(weights: &Weights, learning_rate: f64) -> Result<Self> {
        let constants = AdamConstants { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        let first_moment = weights.flat().f_zeros_like()?;
        let second_moment = weights.flat().f_zeros_like()?;
        Ok(Self { constants, first_moment, second_moment, n_steps: 0 })
    }

    /// Takes one step and sets `gradients` to zero. `gradients` is flat, in the weights' layout, and `norm` is its
    /// Euclidean norm. The step scales the gradients down first if `norm` exceeds `largest_norm`.
    ///
    /// # Errors
    /// If a call to libtorch fails.
    pub fn step(
        &mut self,
        weights: &mut Weights,
        gradients: &mut Tensor,
        norm: f64,
        largest_norm: f64,
    ) -> Result<()> {
        if norm > largest_norm {
            gradients.mul_scalar_(largest_norm / (norm + 1e-6))?;
        }
        self.n_steps += 1;
        libtorch::adam_step(
            weights.flat_mut(),
            gradients,
            &mut self.first_moment,
            &mut self.second_moment,
            self.n_steps,
            &self.constants,
        )?;
        let _ = gradients.f_zero_()?;
        Ok(())
    }

    /// The first moment, the second moment and the number of steps taken.
    pub fn state(&self) -> (&Tensor, &Tensor, u64) {
        (&self.first_moment, &self.second_moment, self.n_steps)
    }

    /// Resumes after step `n_steps`, from the moments that now stand in the tensors of [`Adam::state`].
    pub fn resume_at(&mut self, n_steps: u64) {
        self.n_steps = n_steps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::parameters::{Init, Layout};
    use tch::{Device, Kind};

    #[test]
    fn a_step_follows_the_formula() {
        let mut layout = Layout::new();
        let id = layout.add("w", &[3], Init::Constant(1.0));
        let mut weights = Weights::initial(&layout, 0, Device::Cpu).unwrap();
        let mut gradients = weights.flat().zeros_like();
        let mut adam = Adam::new(&weights, 0.1).unwrap();
        let (mut w, mut m, mut v) = (1.0f64, 0.0f64, 0.0f64);
        for step in 1..=20 {
            let gradient = (step as f64 * 0.7).sin();
            let _ = gradients.narrow(0, 0, 3).fill_(gradient);
            adam.step(&mut weights, &mut gradients, gradient.abs() * 3f64.sqrt(), f64::INFINITY).unwrap();
            m = 0.9 * m + 0.1 * gradient;
            v = 0.999 * v + 0.001 * gradient * gradient;
            w -= 0.1 * (m / (1.0 - 0.9f64.powi(step))) / ((v / (1.0 - 0.999f64.powi(step))).sqrt() + 1e-8);
            assert!((weights[id].double_value(&[1]) - w).abs() < 1e-5, "step {step}");
            assert_eq!(gradients.abs().sum(Kind::Float).double_value(&[]), 0.0);
        }
        assert_eq!(weights.flat().narrow(0, 3, 13).abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn a_long_gradient_is_scaled_to_the_largest_norm() {
        let mut layout = Layout::new();
        layout.add("w", &[4], Init::Constant(0.0));
        let mut weights = Weights::initial(&layout, 0, Device::Cpu).unwrap();
        let mut adam = Adam::new(&weights, 1.0).unwrap();
        let mut gradients = weights.flat().zeros_like();
        let _ = gradients.narrow(0, 0, 4).fill_(10.0);
        adam.step(&mut weights, &mut gradients, 20.0, 1.0).unwrap();
        let first_moment = adam.state().0.double_value(&[0]);
        assert!((first_moment - 0.1 * 0.5).abs() < 1e-6, "{first_moment}");
    }
}
