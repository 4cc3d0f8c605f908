//! Mixed precision: autocast scopes, and the loss scale that f16 gradients need.
//!
//! Within a scope libtorch computes matrix products in bf16 or f16. Weights, their gradients and sums stay f32.

use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::libtorch;

/// A scope of autocast on one device, for this thread, until it is dropped. The drop restores the outer scope. The drop
/// of the outermost scope clears libtorch's cache of cast weights, because the optimizer may change the weights next.
#[derive(Debug)]
#[must_use = "autocast holds while the scope lives"]
pub struct Autocast {
    _autocast: libtorch::Autocast,
}

/// Enters a scope in which libtorch casts to `kind` where that is safe. `kind` is [`Kind::BFloat16`] on a CPU or a GPU,
/// or [`Kind::Half`] on a GPU; `None` stops casting for the scope. Put the scope around forward only: backward uses the
/// kinds that forward used.
///
/// # Errors
/// [`Error::AutocastKind`] if `kind` is another one.
pub fn autocast(kind: Option<Kind>, device: Device) -> Result<Autocast> {
    let kind_code = match kind {
        None => 0,
        Some(Kind::BFloat16) => 1,
        Some(Kind::Half) if device.is_cuda() => 2,
        Some(kind) => {
            return Err(Error::AutocastKind { kind, device: if device.is_cuda() { "CUDA" } else { "CPU" } });
        }
    };
    Ok(Autocast { _autocast: libtorch::Autocast::enter(device.is_cuda(), kind_code)? })
}

/// The factor by which the loss is multiplied before backward if gradients are f16, so that small gradients do not become
/// zero (Micikevicius et al. 2018, section 3.2). The factor halves at each overflow and doubles after 2,000 steps
/// without one, within [1, 2²⁴]. It begins at 65,536.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    factor: f64,
    n_clean: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { factor: 65_536.0, n_clean: 0 }
    }
}

impl LossScale {
    /// Number of steps without an overflow after which the factor doubles.
    const PATIENCE_STEPS: u32 = 2_000;

    /// The factor for the next step.
    #[must_use]
    pub fn factor(self) -> f64 {
        self.factor
    }

    /// Updates the factor after backward and returns whether the gradients, of norm `norm`, can be used. They cannot if
    /// `norm` is infinite or NaN.
    pub fn update(&mut self, norm: f64) -> bool {
        if !norm.is_finite() {
            *self = Self { factor: (self.factor / 2.0).max(1.0), n_clean: 0 };
            return false;
        }
        self.n_clean += 1;
        if self.n_clean == Self::PATIENCE_STEPS {
            *self = Self { factor: (self.factor * 2.0).min(16_777_216.0), n_clean: 0 };
        }
        true
    }

    /// The factor and the number of steps since it last changed, to be saved.
    #[must_use]
    pub fn state(self) -> (f64, u32) {
        (self.factor, self.n_clean)
    }

    /// Restores what [`LossScale::state`] returned.
    #[must_use]
    pub fn of_state((factor, n_clean): (f64, u32)) -> Self {
        Self { factor, n_clean }
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    fn kind_of_a_product() -> Kind {
        let x = Tensor::ones([4, 4], (Kind::Float, Device::Cpu));
        x.matmul(&x).kind()
    }

    #[test]
    fn scopes_nest_and_end() {
        assert_eq!(kind_of_a_product(), Kind::Float);
        {
            let _narrow = autocast(Some(Kind::BFloat16), Device::Cpu).unwrap();
            assert_eq!(kind_of_a_product(), Kind::BFloat16);
            {
                let _wide = autocast(None, Device::Cpu).unwrap();
                assert_eq!(kind_of_a_product(), Kind::Float);
            }
            assert_eq!(kind_of_a_product(), Kind::BFloat16);
        }
        assert_eq!(kind_of_a_product(), Kind::Float);
    }

    #[test]
    fn casts_of_weights_do_not_outlive_the_outermost_scope() {
        let weight = Tensor::ones([4, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let x = Tensor::ones([1, 4], (Kind::Float, Device::Cpu));
        let product = || {
            let _narrow = autocast(Some(Kind::BFloat16), Device::Cpu).unwrap();
            x.matmul(&weight).sum(Kind::Float).double_value(&[])
        };
        assert_eq!(product(), 16.0);
        let _ = tch::no_grad(|| weight.shallow_clone().fill_(2.0));
        assert_eq!(product(), 32.0);
    }

    #[test]
    fn other_kinds_are_refused() {
        for kind in [Kind::Half, Kind::Double] {
            assert!(matches!(autocast(Some(kind), Device::Cpu), Err(Error::AutocastKind { .. })));
        }
    }

    #[test]
    fn an_overflow_halves_the_scale_and_patience_doubles_it() {
        let mut scale = LossScale::default();
        assert!(!scale.update(f64::INFINITY) && !scale.update(f64::NAN));
        assert_eq!(scale.factor(), 16_384.0);
        assert!((0..2_000).all(|_| scale.update(1.0)));
        assert_eq!(scale.factor(), 32_768.0);
        assert_eq!(LossScale::of_state(scale.state()), scale);
    }
}
