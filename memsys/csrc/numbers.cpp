// Gives Rust access to the numbers of a tensor, to write them in place.

#include <ATen/ATen.h>

#include "border.h"

extern "C" {

// Writes the address of the numbers of `tensor` if it is a contiguous f32 tensor of `shape` on the CPU that requires no
// gradient and if nothing else holds its handle or its storage. Otherwise writes null.
char* memsys_exclusive_tensor_data(at::Tensor* tensor, const int64_t* shape, size_t n_dimensions, float** numbers) {
  return memsys::guarded([&] {
    *numbers = nullptr;
    const bool plain = tensor->defined() && tensor->layout() == at::kStrided && tensor->device().is_cpu() &&
                       tensor->scalar_type() == at::kFloat && tensor->is_contiguous() && !tensor->requires_grad();
    const bool fits = plain && tensor->sizes() == at::IntArrayRef(shape, n_dimensions);
    if (fits && tensor->use_count() == 1 && tensor->storage().use_count() == 1) {
      // `mutable_data_ptr` instead of `data_ptr`: it first copies a copy-on-write storage that others share.
      *numbers = tensor->mutable_data_ptr<float>();
    }
  });
}
}
