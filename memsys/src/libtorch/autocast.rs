//! libtorch's autocast state of a thread.

use std::ffi::{c_int, c_void};
use std::ptr;

use crate::error::Result;
use crate::libtorch::{checked, raw};

/// What autocast was before, to be put back. Not `Send`: the state is the thread's own.
#[derive(Debug)]
pub(crate) struct Autocast(*mut c_void);

impl Autocast {
    /// `kind`: 0 none, 1 bfloat16, 2 float16.
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
        // Setting thread-local state fails for no reason that a caller could act on.
        let _ = checked("leave autocast", message);
    }
}
