//! Declarations of the C functions in `csrc/`.
//!
//! A function that returns `*mut c_char` returns null, or a message that the caller frees.

use std::ffi::{c_char, c_int, c_void};

/// Runs stages again from an input that it takes over. Returns null, or a message that the caller frees.
pub(super) type RunStages = unsafe extern "C" fn(stages: *const c_void, input: *mut c_void) -> *mut c_char;
pub(super) type CallMark = unsafe extern "C" fn(context: *const c_void);
pub(super) type DropStages = unsafe extern "C" fn(stages: *mut c_void);

unsafe extern "C" {
    pub(super) fn memsys_expect_allocator() -> *mut c_char;
    pub(super) fn memsys_set_threads(n_threads: c_int) -> *mut c_char;
    pub(super) fn memsys_threads(n_threads: *mut c_int) -> *mut c_char;
    pub(super) fn memsys_attend_plainly();
    pub(super) fn memsys_device_statistics(index: i32, numbers: *mut i64) -> *mut c_char;
    pub(super) fn memsys_device_restart_peaks(index: i32) -> *mut c_char;
    pub(super) fn memsys_device_empty_cache() -> *mut c_char;
    pub(super) fn memsys_device_settings(settings: *const c_char) -> *mut c_char;
    pub(super) fn memsys_exclusive_tensor_data(
        tensor: *mut c_void,
        shape: *const i64,
        n_dimensions: usize,
        numbers: *mut *mut f32,
    ) -> *mut c_char;
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

    pub(super) fn memsys_install_engine() -> *mut c_char;
    pub(super) fn memsys_release_failed_backward() -> *mut c_char;
    pub(super) fn memsys_enter_scope(
        modes: u64,
        spill_file: c_int,
        folder: *const c_char,
        threshold_bytes: u64,
        id: *mut u64,
    ) -> *mut c_char;
    pub(super) fn memsys_leave_scope(id: u64);
    pub(super) fn memsys_begin_chain(
        input: *const c_void,
        modes: *mut u64,
        applies: *mut bool,
    ) -> *mut c_char;
    pub(super) fn memsys_enter_stage(stage: u32) -> u32;
    pub(super) fn memsys_on_backward(
        output: *const c_void,
        context: *mut c_void,
        call: CallMark,
        drop: DropStages,
    ) -> *mut c_char;
    pub(super) fn memsys_begin_recording(input: *const c_void, out: *mut *mut c_void) -> *mut c_char;
    pub(super) fn memsys_end_recording(
        recording: *mut c_void,
        stages: *mut c_void,
        run: RunStages,
        drop: DropStages,
    ) -> *mut c_char;
    pub(super) fn memsys_spilled_bytes(live_bytes: *mut u64, file_bytes: *mut u64);
    pub(super) fn memsys_failed_spills() -> u64;

    pub(super) fn memsys_offload_gradient(parameter: *const c_void, host: *const c_void) -> *mut c_char;
    pub(super) fn memsys_stop_offload(parameter: *const c_void) -> *mut c_char;

    pub(super) fn memsys_enter_autocast(cuda: bool, kind: c_int, out: *mut *mut c_void) -> *mut c_char;
    pub(super) fn memsys_leave_autocast(found: *mut c_void) -> *mut c_char;
}
