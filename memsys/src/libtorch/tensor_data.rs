//! Access to the numbers of a tensor, to write them in place.

use tch::Tensor;

use crate::error::Result;
use crate::libtorch::raw;
use crate::libtorch::status::{checked, exclusive};

/// The numbers of a contiguous f32 tensor of `shape` on the CPU, for writing. `None` if the tensor has another kind or
/// shape, if it requires gradients, or if anything else holds it or its storage: another handle, a view, the graph.
/// Nothing is allocated.
///
/// # Errors
/// If a call to libtorch fails.
pub fn exclusive_tensor_data<'a>(tensor: &'a mut Tensor, shape: &[i64]) -> Result<Option<&'a mut [f32]>> {
    let mut numbers = std::ptr::null_mut();
    // SAFETY: `tensor` is a live tch tensor, borrowed exclusively; `shape` is a slice of as many numbers as
    // are named; the C++ side writes one pointer and keeps none.
    checked("reach a tensor's numbers", unsafe {
        raw::memsys_exclusive_tensor_data(exclusive(tensor), shape.as_ptr(), shape.len(), &mut numbers)
    })?;
    if numbers.is_null() {
        return Ok(None);
    }
    let len = shape.iter().product::<i64>() as usize;
    // SAFETY: the C++ side has seen a contiguous f32 tensor of `shape`, so `len` numbers lie at `numbers`. It has also
    // seen that handle and storage are held once, by `tensor`, which the slice's life borrows exclusively:
    // nobody else can read or free them, or make another holder, meanwhile.
    Ok(Some(unsafe { std::slice::from_raw_parts_mut(numbers, len) }))
}
