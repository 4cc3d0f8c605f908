//! Operations of a tensor with a number that return their errors.
//!
//! tch 0.24 has these operations too, but it frees the number before it reads the error of the operation, and panics if
//! there is one. A refused allocation would then end the program.

use std::ffi::CStr;
use std::ptr::null_mut;

use tch::{TchError, Tensor};
use torch_sys::{C_scalar, C_tensor, c_generated};

/// Operations of a tensor with numbers. Each one is libtorch's operation of the same name. It fails if the memory is
/// refused or if shapes or kinds do not fit.
#[allow(clippy::missing_errors_doc, reason = "stated once, on the trait")]
pub trait ScalarOps {
    /// `self × number`.
    fn mul_scalar(&self, number: f64) -> Result<Tensor, TchError>;
    /// `self × number`, in place.
    fn mul_scalar_(&mut self, number: f64) -> Result<(), TchError>;
    /// `self / number`.
    fn div_scalar(&self, number: f64) -> Result<Tensor, TchError>;
    /// `self + number`.
    fn add_scalar(&self, number: f64) -> Result<Tensor, TchError>;
    /// `self ≥ number` for integers, as a tensor of booleans.
    fn ge_scalar(&self, number: i64) -> Result<Tensor, TchError>;
    /// `self + weight (end − self)`, in place.
    fn lerp_scalar_(&mut self, end: &Tensor, weight: f64) -> Result<(), TchError>;
    /// `beta self + alpha (batch1 batch2)`, where `self` is B × N × P, `batch1` B × N × M and `batch2` B × M × P.
    fn baddbmm_scalars(
        &self,
        batch1: &Tensor,
        batch2: &Tensor,
        beta: f64,
        alpha: f64,
    ) -> Result<Tensor, TchError>;
    /// The Euclidean norm along `dim`, which the result no longer has.
    fn length_along(&self, dim: i64) -> Result<Tensor, TchError>;
}

/// A libtorch scalar, which is freed after the error of its operation has been read.
struct Scalar(*mut C_scalar);

impl Scalar {
    fn float(number: f64) -> Result<Self, TchError> {
        // SAFETY: takes no pointers.
        let number = Self(unsafe { torch_sys::ats_float(number) });
        last_error().map(|()| number)
    }

    fn int(number: i64) -> Result<Self, TchError> {
        // SAFETY: takes no pointers.
        let number = Self(unsafe { torch_sys::ats_int(number) });
        last_error().map(|()| number)
    }
}

impl Drop for Scalar {
    fn drop(&mut self) {
        // SAFETY: made by `ats_float` or `ats_int` and freed once; null, where that failed, may be freed.
        unsafe { torch_sys::ats_free(self.0) };
    }
}

/// The error of libtorch's last call on this thread, if it failed.
fn last_error() -> Result<(), TchError> {
    // SAFETY: hands over a NUL-terminated string from `strdup`, or null; it is read and freed once.
    unsafe {
        let message = torch_sys::get_and_reset_last_err();
        if message.is_null() {
            return Ok(());
        }
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        libc::free(message.cast());
        Err(TchError::Torch(text))
    }
}

/// The tensor that `call` writes, or its error.
fn written(call: impl FnOnce(*mut *mut C_tensor)) -> Result<Tensor, TchError> {
    let mut tensors = [null_mut(); 1];
    call(tensors.as_mut_ptr());
    last_error()?;
    // SAFETY: a call without an error has written a tensor, which is ours.
    Ok(unsafe { Tensor::from_ptr(tensors[0]) })
}

fn pointer(tensor: &Tensor) -> *mut C_tensor {
    tensor.as_ptr().cast_mut()
}

impl ScalarOps for Tensor {
    fn mul_scalar(&self, number: f64) -> Result<Tensor, TchError> {
        let number = Scalar::float(number)?;
        // SAFETY: tensors and numbers live for the call, which keeps handles of its own and writes one tensor.
        written(|out| unsafe { c_generated::atg_mul_scalar(out, pointer(self), number.0) })
    }

    fn mul_scalar_(&mut self, number: f64) -> Result<(), TchError> {
        let number = Scalar::float(number)?;
        // SAFETY: tensors and numbers live for the call, which keeps handles of its own and writes one tensor;
        // `self`, which it changes, is borrowed exclusively.
        written(|out| unsafe { c_generated::atg_mul_scalar_(out, self.as_mut_ptr(), number.0) }).map(drop)
    }

    fn div_scalar(&self, number: f64) -> Result<Tensor, TchError> {
        let number = Scalar::float(number)?;
        // SAFETY: tensors and numbers live for the call, which keeps handles of its own and writes one tensor.
        written(|out| unsafe { c_generated::atg_div_scalar(out, pointer(self), number.0) })
    }

    fn add_scalar(&self, number: f64) -> Result<Tensor, TchError> {
        let number = Scalar::float(number)?;
        // SAFETY: tensors and numbers live for the call, which keeps handles of its own and writes one tensor.
        written(|out| unsafe { c_generated::atg_add_scalar(out, pointer(self), number.0) })
    }

    fn ge_scalar(&self, number: i64) -> Result<Tensor, TchError> {
        let number = Scalar::int(number)?;
        // SAFETY: tensors and numbers live for the call, which keeps handles of its own and writes one tensor.
        written(|out| unsafe { c_generated::atg_ge(out, pointer(self), number.0) })
    }

    fn lerp_scalar_(&mut self, end: &Tensor, weight: f64) -> Result<(), TchError> {
        let weight = Scalar::float(weight)?;
        // SAFETY: tensors and numbers live for the call, which keeps handles of its own and writes one tensor;
        // `self`, which it changes, is borrowed exclusively.
        written(|out| unsafe { c_generated::atg_lerp_(out, self.as_mut_ptr(), pointer(end), weight.0) })
            .map(drop)
    }

    fn baddbmm_scalars(
        &self,
        batch1: &Tensor,
        batch2: &Tensor,
        beta: f64,
        alpha: f64,
    ) -> Result<Tensor, TchError> {
        let (beta, alpha) = (Scalar::float(beta)?, Scalar::float(alpha)?);
        let (batch1, batch2) = (pointer(batch1), pointer(batch2));
        // SAFETY: tensors and numbers live for the call, which keeps handles of its own and writes one tensor.
        written(|out| unsafe {
            c_generated::atg_baddbmm(out, pointer(self), batch1, batch2, beta.0, alpha.0);
        })
    }

    fn length_along(&self, dim: i64) -> Result<Tensor, TchError> {
        let square = Scalar::int(2)?;
        let dims = [dim];
        // SAFETY: tensors and numbers live for the call, which keeps handles of its own and writes one tensor.
        written(|out| unsafe {
            c_generated::atg_norm_scalaropt_dim(out, pointer(self), square.0, dims.as_ptr(), 1, 0);
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn operations_are_those_of_tch() {
        let x = Tensor::randn([3, 4, 5], (Kind::Float, Device::Cpu));
        let y = Tensor::randn([3, 5, 2], (Kind::Float, Device::Cpu));
        let sums = Tensor::randn([3, 4, 2], (Kind::Float, Device::Cpu));
        assert_eq!(x.mul_scalar(0.3).unwrap(), &x * 0.3);
        assert_eq!(x.div_scalar(0.3).unwrap(), &x / 0.3);
        assert_eq!(x.add_scalar(0.3).unwrap(), &x + 0.3);
        assert_eq!(x.length_along(2).unwrap(), x.norm_scalaropt_dim(2, 2, false));
        assert_eq!(sums.baddbmm_scalars(&x, &y, 0.5, 0.25).unwrap(), sums.baddbmm(&x, &y, 0.5, 0.25));
        let bytes = Tensor::from_slice(&[0u8, 7, 8, 255]);
        assert_eq!(bytes.ge_scalar(8).unwrap(), bytes.ge(8));
        let mut z = x.copy();
        z.mul_scalar_(2.0).unwrap();
        assert_eq!(z, &x * 2.0);
        z.lerp_scalar_(&x, 0.5).unwrap();
        assert_eq!(z, (&x * 2.0).lerp(&x, 0.5));
    }

    #[test]
    fn a_failed_operation_is_an_error_and_leaves_none_behind() {
        let (x, y) = (
            Tensor::zeros([2, 3, 4], (Kind::Float, Device::Cpu)),
            Tensor::zeros([5], (Kind::Float, Device::Cpu)),
        );
        let error = x.baddbmm_scalars(&y, &y, 1.0, 1.0).unwrap_err();
        assert!(matches!(error, TchError::Torch(_)), "{error}");
        assert!(x.length_along(9).is_err());
        assert!(x.mul_scalar(2.0).is_ok());
    }
}
