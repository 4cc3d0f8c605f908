// The CPU allocator of every tensor: bytes are counted and refused in Rust, libtorch's exception is thrown here.

#include <ATen/Context.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include "border.h"

extern "C" {
// In Rust. A block of `bytes` aligned to 64, or null where it is refused.
void* memsys_tensor_allocate(size_t bytes);
void memsys_tensor_free(void* data);
}

namespace {

struct CountingAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) {
      return {nullptr, nullptr, &memsys_tensor_free, c10::Device(c10::DeviceType::CPU)};
    }
    void* data = memsys_tensor_allocate(bytes);
    TORCH_CHECK_WITH(OutOfMemoryError, data != nullptr, "the memory budget refuses ", bytes, " bytes");
    return {data, data, &memsys_tensor_free, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &memsys_tensor_free; }

  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
};

}  // namespace

extern "C" {

// Makes every CPU tensor from now on one of ours. Tensors made before keep their own deleter.
char* memsys_install_allocator() {
  return memsys::guarded([] {
    // Never freed: tensors may outlive everything else.
    static auto* allocator = new CountingAllocator();
    c10::SetCPUAllocator(allocator, /*priority=*/100);
  });
}

// Attention by the plain product instead of the fused kernels.
void memsys_attend_plainly() {
  at::globalContext().setSDPUseFlash(false);
  at::globalContext().setSDPUseMemEfficient(false);
}
}
