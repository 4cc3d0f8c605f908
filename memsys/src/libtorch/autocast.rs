//! A thread's autocast state in libtorch.

use std::ffi::{c_int, c_void};
use std::ptr;

use crate::error::Result;
use crate::libtorch::raw;
use crate::libtorch::status::checked;

/// The autocast state before a scope, which the drop restores. Not `Send`: the state belongs to the thread.
#[derive(Debug)]
pub(crate) struct Autocast(*mut c_void);

impl Autocast {
    /// Enters a scope. `kind` is 0 for no casts, 1 for bfloat16, 2 for float16.
    pub(crate) fn enter(cuda: bool, kind: c_int) -> Result<Self> {
        let mut found = ptr::null_mut();
        // SAFETY: plain numbers; `found` is ours to be written.
        checked("enter autocast", unsafe { raw::memsys_enter_autocast(cuda, kind, &raw mut found) })?;
        Ok(Self(found))
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `memsys_enter_autocast` on this thread and is given back once.
        let message = unsafe { raw::memsys_leave_autocast(self.0) };
        // A drop cannot return an error, and a caller could not act on this one.
        let _ = checked("leave autocast", message);
    }
}
