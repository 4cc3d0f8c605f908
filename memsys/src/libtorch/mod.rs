//! The one place that speaks to libtorch's C++ and to the C library: all `unsafe` of the project lives here.
//!
//! Three levels: `raw` holds the C functions, the private helpers of this module turn their messages into
//! [`Result`]s, the public functions are safe and speak of tensors. It does not hold policy: what to do about
//! bytes is decided elsewhere.
#![allow(unsafe_code, reason = "the border to C and C++; every block states why it is sound")]

mod raw;
mod runtime;

pub use runtime::{LIBTORCH_VERSION, Runtime, keep_freed_memory, open, resident_libtorch};

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;

use crate::error::{Error, Result};

fn checked(what: &'static str, message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a message that is not null is a NUL-terminated string from `strdup`, ours to read and free once.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        libc::free(message.cast());
        text
    };
    Err(Error::Libtorch { what, message: text })
}

fn shared(tensor: &Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

fn exclusive(tensor: &mut Tensor) -> *mut c_void {
    tensor.as_mut_ptr().cast()
}

/// Makes `gradient` the place where the autograd engine accumulates the gradient of the leaf `parameter`.
///
/// # Errors
/// Where shapes, kinds or devices of the two differ.
pub fn set_gradient(parameter: &mut Tensor, gradient: &Tensor) -> Result<()> {
    // SAFETY: both pointers are live tch tensors for the length of the call; the C++ side copies the handle of
    // `gradient` (a reference count) and keeps no pointer.
    checked("set a gradient", unsafe { raw::memsys_set_gradient(exclusive(parameter), shared(gradient)) })
}

/// The constants of an Adam step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConstants {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

/// One Adam step over flat buffers, in place, in one pass (libtorch's `_fused_adam_`). `step` counts from 1.
///
/// # Errors
/// Where shapes, kinds or devices of the four tensors differ.
pub fn adam_step(
    weights: &mut Tensor,
    gradients: &Tensor,
    first_moment: &mut Tensor,
    second_moment: &mut Tensor,
    step: u64,
    constants: &AdamConstants,
) -> Result<()> {
    // SAFETY: the four pointers are live, distinct tch tensors (three of them borrowed exclusively) for the
    // length of the call; the C++ side keeps none of them.
    checked("step Adam", unsafe {
        raw::memsys_adam_step(
            exclusive(weights),
            shared(gradients),
            exclusive(first_moment),
            exclusive(second_moment),
            step as f64,
            constants.learning_rate,
            constants.beta1,
            constants.beta2,
            constants.epsilon,
        )
    })
}
