//! What a call over the border gives back: a status that becomes a `Result`, and tensors as pointers.

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;

use crate::error::{Error, Result};
use crate::libtorch::raw;

pub(super) fn checked(what: &'static str, message: *mut c_char) -> Result<()> {
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

pub(super) fn shared(tensor: &Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

pub(super) fn exclusive(tensor: &mut Tensor) -> *mut c_void {
    tensor.as_mut_ptr().cast()
}

/// Whether libtorch asks this crate for the blocks of CPU tensors, as it has since before `main`.
pub(super) fn count_tensors_can_begin() -> Result<()> {
    // SAFETY: takes no pointers and reads what libtorch has as its allocator.
    checked("count tensors", unsafe { raw::memsys_expect_allocator() })
}
