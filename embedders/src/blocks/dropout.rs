//! Dropout (Srivastava et al. 2014) that spends one random byte per number.

use memsys::libtorch::ScalarOps as _;
use tch::{Kind, Tensor};

use crate::error::Result;

/// Sets a fraction of the numbers to 0 at random and scales the others up, so that the mean stays.
///
/// One random byte decides each number, so the fraction is rounded to a 256th (0.2 becomes 51 / 256). libtorch's own
/// dropout draws 64 random bits per number. On one core that takes longer than a transformer block's arithmetic.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// How many of 256 byte values drop a number.
    n_dropped: i64,
}

impl Dropout {
    /// Drops `fraction` of the numbers, in [0, 1).
    #[must_use]
    pub fn new(fraction: f64) -> Self {
        Self { n_dropped: ((fraction * 256.0).round() as i64).clamp(0, 255) }
    }

    /// Returns a tensor of `x`'s shape. Draws from libtorch's generator of `x`'s device.
    ///
    /// # Errors
    /// Where libtorch refuses the memory.
    pub fn forward(self, x: Tensor) -> Result<Tensor> {
        if self.n_dropped == 0 {
            return Ok(x);
        }
        let n_numbers = x.numel() as i64;
        let mut draws = Tensor::f_empty([(n_numbers + 7) / 8], (Kind::Int64, x.device()))?;
        let bytes = draws.f_random_from_(i64::MIN, None)?.f_view_dtype(Kind::Uint8)?;
        let kept = bytes.f_narrow(0, 0, n_numbers)?.f_view(x.size().as_slice())?.ge_scalar(self.n_dropped)?;
        // The scale stays out of the mask, so that backward keeps one byte per number.
        let scale = 256.0 / (256 - self.n_dropped) as f64;
        let mut scaled = x.f_mul(&kept)?;
        scaled.mul_scalar_(scale)?;
        Ok(scaled)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn keeps_the_mean_and_drops_the_fraction() {
        let _lock = crate::tests::rng_lock::seeded(3);
        let x = Tensor::ones([100, 1003], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let y = Dropout::new(0.2).forward(x.shallow_clone()).unwrap();
        let mean = |t: &Tensor| t.mean(Kind::Double).double_value(&[]);
        assert!((mean(&y) - 1.0).abs() < 0.01, "{}", mean(&y));
        assert!((mean(&y.eq(0.0)) - 51.0 / 256.0).abs() < 0.01);
        y.sum(Kind::Float).backward();
        assert_eq!(x.grad(), y, "what is dropped has no gradient, what is kept the scale");
    }

    #[test]
    fn drops_nothing_at_zero() {
        memsys::libtorch::set_threads_once(1).unwrap();
        let x = Tensor::ones([5], (Kind::Float, Device::Cpu));
        assert_eq!(Dropout::new(0.0).forward(x.shallow_clone()).unwrap(), x);
    }
}
