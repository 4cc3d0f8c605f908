// Scopes of autocast, in which libtorch casts the inputs of matrix products to a narrower kind.

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include "border.h"

namespace {

// The state before a scope, which the end of the scope restores.
struct Found {
  at::DeviceType device;
  bool enabled;
  at::ScalarType kind;
};

}  // namespace

extern "C" {

// Enters a scope. `kind` is 0 for no casts, 1 for bfloat16, 2 for float16.
char* memsys_enter_autocast(bool cuda, int kind, Found** out) {
  return memsys::guarded([&] {
    const auto device = cuda ? at::kCUDA : at::kCPU;
    *out = new Found{device, at::autocast::is_autocast_enabled(device), at::autocast::get_autocast_dtype(device)};
    at::autocast::increment_nesting();
    at::autocast::set_autocast_enabled(device, kind != 0);
    if (kind != 0) at::autocast::set_autocast_dtype(device, kind == 1 ? at::kBFloat16 : at::kHalf);
  });
}

// Ends a scope. The end of the outermost one clears the cache of cast weights: a later scope would otherwise use values
// from before the optimizer's step.
char* memsys_leave_autocast(Found* found) {
  const std::unique_ptr<Found> owned(found);
  return memsys::guarded([&] {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(owned->device, owned->enabled);
    at::autocast::set_autocast_dtype(owned->device, owned->kind);
  });
}
}
