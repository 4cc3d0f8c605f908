// The numbers of a tensor, for Rust to write in place.

#include <ATen/ATen.h>

#include "border.h"

extern "C" {

// Gives where the numbers of `tensor` lie, if it is a contiguous f32 tensor on the CPU, outside autograd, whose handle
// and storage are held by nothing else; else null.
char* memsys_exclusive_tensor_data(at::Tensor* tensor, const int64_t* shape, size_t n_dimensions, float** numbers) {
  return memsys::guarded([&] {
    *numbers = nullptr;
    const bool plain = tensor->defined() && tensor->layout() == at::kStrided && tensor->device().is_cpu() &&
                       tensor->scalar_type() == at::kFloat && tensor->is_contiguous() && !tensor->requires_grad();
    const bool fits = plain && tensor->sizes() == at::IntArrayRef(shape, n_dimensions);
    if (fits && tensor->use_count() == 1 && tensor->storage().use_count() == 1) {
      // Not `data_ptr`: this one parts from a storage that shares its bytes until they are written.
      *numbers = tensor->mutable_data_ptr<float>();
    }
  });
}
}
