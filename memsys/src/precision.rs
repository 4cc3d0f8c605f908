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
}
