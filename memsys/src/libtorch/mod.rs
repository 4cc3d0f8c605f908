//! The only code of the project that calls libtorch's C++ beyond tch.
//!
//! There are three levels: `raw` declares the C functions of `csrc/`, private helpers turn their messages into
//! [`Result`]s, and the public functions are safe and take tensors. Nothing is decided here: the budget, the step and the
//! memory system decide what to do about bytes.
#![allow(unsafe_code, reason = "the border to C++; every block states why it is sound")]

mod activations;
mod allocator;
mod autocast;
mod block_map;
mod devices;
mod raw;
mod runtime;
mod scalar_ops;
mod shared_tensors;
mod status;
mod tensor_data;
mod threads;

pub(crate) use activations::{
    InStage, Recording, Scope, Spill, begin_chain, install_engine, n_failed_spills, on_backward,
    release_failed_backward, spilled_bytes,
};
pub use allocator::untouched as untouched_bytes;
pub(crate) use autocast::Autocast;
pub use devices::{DeviceMemory, DeviceStatistics, gpu_in_use, use_gpu};
pub use runtime::{LIBTORCH_VERSION, Runtime, open, resident_libtorch};
pub use scalar_ops::ScalarOps;
pub(crate) use shared_tensors::SharedTensors;
pub use tensor_data::exclusive_tensor_data;
pub use threads::{adopt_threads, set_threads_once};

use tch::Tensor;

use crate::error::Result;
use status::{checked, count_tensors_can_begin, exclusive, shared};

/// Makes every CPU tensor from now on one that the ledger counts and the budget may refuse. Call it before any tensor that
/// should be counted is made; those that are older, oneDNN's own blocks included, stay uncounted until they are freed.
///
/// # Errors
/// Where another allocator has taken the place of this crate's.
pub fn count_tensors() -> Result<()> {
    count_tensors_can_begin()?;
    allocator::register_cache();
    allocator::count_from_now_on();
    Ok(())
}

/// Makes libtorch compute attention by plain matrix products, which store every attention weight, instead of the fused
/// kernels. This is for runs without memory management.
pub fn attend_plainly() {
    // SAFETY: takes no pointers and sets flags of libtorch's own.
    unsafe { raw::memsys_attend_plainly() }
}

/// Makes the autograd engine accumulate the gradient of the leaf `parameter` into `gradient`.
///
/// # Errors
/// If the shapes, kinds or devices of the two differ.
pub fn set_gradient(parameter: &mut Tensor, gradient: &Tensor) -> Result<()> {
    // SAFETY: both pointers are live tch tensors for the length of the call; the C++ side copies the handle of
    // `gradient` (a reference count) and keeps no pointer.
    checked("set a gradient", unsafe { raw::memsys_set_gradient(exclusive(parameter), shared(gradient)) })
}

/// From now on, adds every gradient of the leaf `parameter` to `host` as soon as backward has accumulated it, and frees it.
///
/// # Errors
/// If the call to libtorch fails.
pub(crate) fn offload_gradient(parameter: &Tensor, host: &Tensor) -> Result<()> {
    // SAFETY: both pointers are live tch tensors for the length of the call; the hook that stays with `parameter`
    // holds a handle of `host` of its own.
    checked("offload a gradient", unsafe { raw::memsys_offload_gradient(shared(parameter), shared(host)) })
}

/// Undoes [`offload_gradient`].
///
/// # Errors
/// If the call to libtorch fails.
pub(crate) fn stop_offload(parameter: &Tensor) -> Result<()> {
    // SAFETY: the pointer is a live tch tensor for the length of the call.
    checked("stop the offload of a gradient", unsafe { raw::memsys_stop_offload(shared(parameter)) })
}

/// The constants of an Adam step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConstants {
    /// Step size, above 0.
    pub learning_rate: f64,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the square root of the second moment, above 0.
    pub epsilon: f64,
}

/// Takes one Adam step over flat buffers, in place and in one pass (libtorch's `_fused_adam_`). `step` counts from 1.
///
/// # Errors
/// If the shapes, kinds or devices of the four tensors differ.
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
