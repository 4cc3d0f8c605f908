//! The C functions of `csrc/`, as they are.

use std::ffi::{c_char, c_void};

unsafe extern "C" {
    pub(super) fn memsys_set_gradient(parameter: *mut c_void, gradient: *const c_void) -> *mut c_char;
    pub(super) fn memsys_adam_step(
        weights: *mut c_void,
        gradients: *const c_void,
        first_moment: *mut c_void,
        second_moment: *mut c_void,
        step: f64,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
    ) -> *mut c_char;
}
