//! Scopes of saved-tensor hooks, and groups of stages that backward runs again: the safe side of `csrc/activations.cpp`.

use std::ffi::{CString, c_char, c_void};
use std::marker::PhantomData;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;

use tch::Tensor;

use crate::error::Result;
use crate::libtorch::raw;
use crate::libtorch::status::{checked, shared};

/// Makes libtorch ask this crate how to save tensors for backward. Later calls do nothing.
pub(crate) fn install_engine() -> Result<()> {
    // SAFETY: no arguments; the C++ side calls once, and the engine it sets is never destroyed.
    checked("install the engine", unsafe { raw::memsys_install_engine() })
}

/// Makes libtorch's engine drop what a failed backward left in this thread's queue.
pub(crate) fn release_failed_backward() -> Result<()> {
    // SAFETY: no arguments; the C++ side makes and frees what it needs.
    checked("release a failed backward", unsafe { raw::memsys_release_failed_backward() })
}

/// The file into which a scope spills.
pub(crate) struct Spill<'a> {
    /// An empty file, which the scope takes over.
    pub(crate) file: OwnedFd,
    /// The file's folder, for error messages.
    pub(crate) folder: &'a Path,
    /// Storages of fewer bytes stay in memory.
    pub(crate) threshold_bytes: u64,
}

/// A scope of the thread that entered it.
#[derive(Debug)]
pub(crate) struct Scope {
    id: u64,
    // Makes the guard neither `Send` nor `Sync`: a scope belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Scope {
    pub(crate) fn enter(modes: u64, spill: Option<Spill<'_>>) -> Result<Self> {
        let mut id = 0;
        let (file, folder, threshold_bytes) = match spill {
            Some(spill) => {
                let folder = CString::new(spill.folder.as_os_str().as_encoded_bytes()).unwrap_or_default();
                (spill.file.into_raw_fd(), folder, spill.threshold_bytes)
            }
            None => (-1, CString::default(), 0),
        };
        // SAFETY: `folder` is NUL-terminated and outlives the call, which copies it; `id` is ours to be written.
        // The descriptor is open and given away: nothing here closes it.
        checked("enter a scope", unsafe {
            raw::memsys_enter_scope(modes, file, folder.as_ptr(), threshold_bytes, &raw mut id)
        })?;
        Ok(Self { id, _thread: PhantomData })
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // SAFETY: plain numbers. The type is neither `Send` nor `Sync`, so this is the thread that entered.
        unsafe { raw::memsys_leave_scope(self.id) }
    }
}

/// The packed activation modes of the stages of a chain that begins at `input`; `None` where they do not apply: without
/// gradients and within a stage of another chain.
pub(crate) fn begin_chain(input: &Tensor) -> Result<Option<u64>> {
    let (mut modes, mut applies) = (0, false);
    // SAFETY: `input` is a live tch tensor for the length of the call; `modes` and `applies` are ours to be written.
    checked("begin a chain of stages", unsafe {
        raw::memsys_begin_chain(shared(input), &raw mut modes, &raw mut applies)
    })?;
    Ok(applies.then_some(modes))
}

/// While it lives, what this thread saves for backward belongs to one stage.
#[derive(Debug)]
pub(crate) struct InStage {
    before: u32,
    // Makes the guard neither `Send` nor `Sync`: a stage belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl InStage {
    pub(crate) fn enter(stage: u32) -> Self {
        // SAFETY: plain numbers, of this thread.
        Self { before: unsafe { raw::memsys_enter_stage(stage) }, _thread: PhantomData }
    }
}

impl Drop for InStage {
    fn drop(&mut self) {
        // SAFETY: as in `enter`; the type is neither `Send` nor `Sync`, so this is the thread that entered.
        unsafe { raw::memsys_enter_stage(self.before) };
    }
}

/// Called when backward reaches a tensor. libtorch calls it on the thread that runs backward.
pub(crate) type Mark = Box<dyn Fn() + Send + Sync>;

/// Calls `mark` each time backward has the gradient of `output` and goes on to what made it. Without a gradient it is
/// never called.
pub(crate) fn on_backward(output: &Tensor, mark: Mark) -> Result<()> {
    let context: *mut Mark = Box::into_raw(Box::new(mark));
    // SAFETY: `output` is a live tch tensor for the length of the call. `context` is given away; the C++ side hands it to
    // `call_mark` while it lives (`Mark` is `Sync`) and to `drop_mark` once, also where the call fails.
    checked("mark a stage", unsafe {
        raw::memsys_on_backward(shared(output), context.cast(), call_mark, drop_mark)
    })
}

unsafe extern "C" fn call_mark(context: *const c_void) {
    // SAFETY: `context` is the live box that `on_backward` gave away.
    let mark = unsafe { &*context.cast::<Mark>() };
    // A panic must not unwind into C++. Marks only measure.
    let _ = catch_unwind(AssertUnwindSafe(mark));
}

unsafe extern "C" fn drop_mark(context: *mut c_void) {
    // SAFETY: `context` came from `Box::into_raw` in `on_backward` and is given back once.
    let mark = unsafe { Box::from_raw(context.cast::<Mark>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(mark)));
}

/// Runs stages again from its input. libtorch calls it on the thread that runs backward.
pub(crate) type RunAgain = Box<dyn Fn(&Tensor) -> std::result::Result<(), String> + Send>;

/// The first run of stages on this thread. If it is dropped without [`Recording::finish`], what the run saved
/// cannot be recomputed.
#[derive(Debug)]
pub(crate) struct Recording(*mut c_void);

impl Recording {
    pub(crate) fn begin(input: &Tensor) -> Result<Self> {
        let mut recording = ptr::null_mut();
        // SAFETY: `input` is a live tch tensor for the length of the call (the C++ side keeps a handle of its
        // own); `recording` is ours to be written.
        checked("record stages", unsafe { raw::memsys_begin_recording(shared(input), &raw mut recording) })?;
        Ok(Self(recording))
    }

    /// Ends the first run. Backward then calls `again`.
    pub(crate) fn finish(mut self, again: RunAgain) -> Result<()> {
        let recording = std::mem::replace(&mut self.0, ptr::null_mut());
        let stages: *mut RunAgain = Box::into_raw(Box::new(again));
        // SAFETY: `recording` came from `memsys_begin_recording` on this thread (the type holds a raw pointer and
        // is therefore not `Send`) and ends once, for `self` forgets it. `stages` is given away; the C++ side
        // hands it to `run_stages`, never from two threads at once, and to `drop_stages` once.
        checked("end the recording of stages", unsafe {
            raw::memsys_end_recording(recording, stages.cast(), run_stages, drop_stages)
        })
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.0.is_null() {
            return;
        }
        // SAFETY: as in `finish`; without stages the two functions are not called, and nothing can fail.
        unsafe { raw::memsys_end_recording(self.0, ptr::null_mut(), run_stages, drop_stages) };
    }
}

unsafe extern "C" fn run_stages(stages: *const c_void, input: *mut c_void) -> *mut c_char {
    // SAFETY: `input` is a heap-allocated `at::Tensor` that the caller gives away, which is what tch frees.
    let input = unsafe { Tensor::from_ptr(input.cast()) };
    // SAFETY: `stages` is the live box that `Recording::finish` gave away, and it is called by one thread at a
    // time; it is `Send`.
    let again = unsafe { &*stages.cast::<RunAgain>() };
    let message = match catch_unwind(AssertUnwindSafe(|| again(&input))) {
        Ok(Ok(())) => return ptr::null_mut(),
        Ok(Err(message)) => message,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("a stage panicked: {}", said.unwrap_or("without a message"))
        }
    };
    let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
    // SAFETY: `message` is NUL-terminated; the copy is the caller's to free.
    unsafe { libc::strdup(message.as_ptr()) }
}

unsafe extern "C" fn drop_stages(stages: *mut c_void) {
    // SAFETY: `stages` came from `Box::into_raw` in `Recording::finish` and is given back once.
    let stages = unsafe { Box::from_raw(stages.cast::<RunAgain>()) };
    // A panic in a drop must not unwind into C++. It has no effect on the gradients.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(stages)));
}

/// The live bytes in all spill files, and the total length of those files.
pub(crate) fn spilled_bytes() -> (u64, u64) {
    let (mut live_bytes, mut file_bytes) = (0, 0);
    // SAFETY: both are ours to be written.
    unsafe { raw::memsys_spilled_bytes(&raw mut live_bytes, &raw mut file_bytes) };
    (live_bytes, file_bytes)
}

/// How often a spill file of the process could not be written or read.
pub(crate) fn n_failed_spills() -> u64 {
    // SAFETY: no arguments; the C++ side reads an atomic.
    unsafe { raw::memsys_failed_spills() }
}
