//! Dropout (Srivastava et al. 2014), drawn by the byte.

use memsys::libtorch::NumberOperations as _;
use tch::{Kind, Tensor};

use crate::error::Result;

/// Sets a part of the numbers to 0 at random and scales the others up, so that the mean stays.
///
/// A byte decides each number: libtorch's own dropout draws a 64-bit random number for each, on one core slower
/// than a transformer block's arithmetic. The part is therefore rounded to a 256th (0.2 becomes 51 / 256).
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// How many of 256 byte values drop a number.
    n_dropped: i64,
}

impl Dropout {
    /// `fraction` in [0, 1) is dropped.
    #[must_use]
    pub fn new(fraction: f64) -> Self {
        Self { n_dropped: ((fraction * 256.0).round() as i64).clamp(0, 255) }
    }

    /// Any shape, the same shape. Draws from libtorch's generator of `x`'s device.
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
        let kept = bytes.f_narrow(0, 0, n_numbers)?.f_view(x.size().as_slice())?.ge_number(self.n_dropped)?;
        // Backward keeps the mask alone, a byte a number: the scale is not multiplied into it.
        let scale = 256.0 / (256 - self.n_dropped) as f64;
        let mut scaled = x.f_mul(&kept)?;
        scaled.mul_number_(scale)?;
        Ok(scaled)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn keeps_the_mean_and_drops_the_fraction() {
        let _turn = crate::turn::seeded(3);
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
