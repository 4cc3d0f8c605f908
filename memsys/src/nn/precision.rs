//! Mixed precision: within a scope libtorch computes matrix products in a narrower kind of number. Weights, their
//! gradients and sums stay f32.

use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::libtorch;

/// Autocast on one device for this thread, until it is dropped; the scope around it then holds again, and the
/// outermost forgets its casts of weights.
#[derive(Debug)]
#[must_use = "autocast holds while the scope lives"]
pub struct Autocast {
    _autocast: libtorch::Autocast,
}

/// Casts to `kind` where that is safe: [`Kind::BFloat16`] on a CPU or a GPU, [`Kind::Half`] on a GPU. `None` stops
/// casting for the scope. Put it around forward; backward follows what forward did.
///
/// # Errors
/// [`Error::AutocastKind`] where `kind` is another.
pub fn autocast(kind: Option<Kind>, device: Device) -> Result<Autocast> {
    let number = match kind {
        None => 0,
        Some(Kind::BFloat16) => 1,
        Some(Kind::Half) if device.is_cuda() => 2,
        Some(kind) => {
            return Err(Error::AutocastKind { kind, device: if device.is_cuda() { "CUDA" } else { "CPU" } });
        }
    };
    Ok(Autocast { _autocast: libtorch::Autocast::enter(device.is_cuda(), number)? })
}

/// The factor by which a loss is multiplied before backward where gradients are f16, so that small ones do not vanish
/// (Micikevicius et al. 2018, section 3.2): halved where one overflowed, doubled after 2,000 steps without.
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
    /// Steps without an overflow after which the factor is doubled.
    const PATIENCE_STEPS: u32 = 2_000;

    /// The factor.
    #[must_use]
    pub fn factor(self) -> f64 {
        self.factor
    }

    /// After a step: whether its gradients, of norm `norm`, can be used.
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

    /// Its state, to be saved.
    #[must_use]
    pub fn state(self) -> (f64, u32) {
        (self.factor, self.n_clean)
    }

    /// The scale of a saved state.
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
