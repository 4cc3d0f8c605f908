// The CPU allocator of every tensor: bytes are counted and refused in Rust, libtorch's exception is thrown here.
//
// It is libtorch's allocator from before `main` on, and passes on to the one that was there before for as long as tensors
// are not counted. oneDNN frees its blocks through the allocator that libtorch has then, whoever gave them: an
// allocator that came later would be handed blocks that it never gave.

#include <ATen/Context.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <string>

#include "border.h"

namespace memsys {

// `Refusal` in Rust.
struct Refusal {
  uint16_t owner;
  uint8_t by;  // 0: the memory limit, 1: the system
  uint64_t wanted_bytes, left_bytes, limit_bytes;
};
static_assert(sizeof(Refusal) == 32);

}  // namespace memsys

extern "C" {
// In Rust. Whether a tensor made now is counted; asked before each.
bool memsys_tensors_are_counted();
// A block of `bytes` aligned to 64, or null and a refusal.
void* memsys_tensor_allocate(size_t bytes, memsys::Refusal* refusal);
// Notes that a call of this thread fails because of the refusal.
void memsys_refusal_reached(const memsys::Refusal* refusal);
// Takes a block back, or says false where it is none of those above.
bool memsys_tensor_free(void* data);
}

namespace {

// libtorch hands an exception of one of its own threads on to the thread whose call needed that thread. Whoever turns it
// into an error of that call asks for its text, on the thread that called: so the refusal is that thread's, and no
// other's.
struct Refused final : c10::OutOfMemoryError {
  Refused(const memsys::Refusal& refusal, std::string message)
      : c10::OutOfMemoryError(std::move(message)), refusal(refusal) {}

  const char* what() const noexcept override {
    memsys_refusal_reached(&refusal);
    return c10::OutOfMemoryError::what();
  }

  memsys::Refusal refusal;
};

// Gives what is not counted, and takes it back.
c10::Allocator* before = nullptr;

void take_back(void* data) {
  if (data != nullptr && !memsys_tensor_free(data)) {
    before->raw_deallocate(data);
  }
}

struct CountingAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) {
      return {nullptr, nullptr, &take_back, c10::Device(c10::DeviceType::CPU)};
    }
    if (!memsys_tensors_are_counted()) {
      void* data = before->raw_allocate(bytes);
      return {data, data, &take_back, c10::Device(c10::DeviceType::CPU)};
    }
    memsys::Refusal refusal;
    void* data = memsys_tensor_allocate(bytes, &refusal);
    if (data == nullptr) {
      const char* who = refusal.by == 0 ? "the memory limit has no room for " : "the system gives no memory for ";
      throw Refused(refusal, who + std::to_string(bytes) + " bytes");
    }
    return {data, data, &take_back, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &take_back; }

  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
};

c10::Allocator* installed = nullptr;

// While the program is loaded: after libtorch, and before `main` and whatever else the program runs before it.
__attribute__((constructor(101))) void install() {
  before = c10::GetCPUAllocator();
  // Never freed: tensors may outlive everything else.
  installed = new CountingAllocator();
  c10::SetCPUAllocator(installed, /*priority=*/100);
}

}  // namespace

extern "C" {

// Says where libtorch's allocator is not the one above.
char* memsys_expect_allocator() {
  return memsys::guarded(
      [] { TORCH_CHECK(c10::GetCPUAllocator() == installed, "another allocator has taken the place of ours"); });
}

// Attention by the plain product instead of the fused kernels.
void memsys_attend_plainly() {
  at::globalContext().setSDPUseFlash(false);
  at::globalContext().setSDPUseMemEfficient(false);
}
}
