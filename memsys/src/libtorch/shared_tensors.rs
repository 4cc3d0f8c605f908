//! A slice of tensors that several owners on several threads read.

use std::ops::Deref;
use std::sync::Arc;

use tch::Tensor;

/// A reference-counted slice of tensors. A clone is another handle of the same slice.
#[derive(Debug, Clone)]
pub(crate) struct SharedTensors(Arc<[Tensor]>);

// SAFETY: the slice is never written, so that two threads can do no more with it than call methods of `&Tensor` at
// once. tch's `Tensor` is `Send` and its `shallow_clone` gives a second handle of the same C++ object, so that safe
// code can do this to any tensor already; libtorch's tensors allow it (counts are atomic, gradient accumulators
// made under a lock).
unsafe impl Send for SharedTensors {}

impl From<Vec<Tensor>> for SharedTensors {
    fn from(tensors: Vec<Tensor>) -> Self {
        Self(tensors.into())
    }
}

impl Deref for SharedTensors {
    type Target = [Tensor];

    fn deref(&self) -> &[Tensor] {
        &self.0
    }
}
