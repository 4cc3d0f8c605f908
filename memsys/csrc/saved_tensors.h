// What all ways of saving a tensor for backward share: the check that the tensor was not written in place, and the test
// for tensors that are never moved.
//
// Hooks disable libtorch's check (SavedVariable::unpack). A tensor that is written in place between forward and backward
// would then give a wrong gradient without an error, so every way of saving in this folder checks instead.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>
#include <torch/csrc/autograd/variable.h>

#include <cstring>
#include <stdexcept>
#include <string>

namespace memsys {

// The number of writes in place to a tensor at the time when it was saved. Holds the counter, which all views of the
// tensor share, but not the storage.
class Version {
 public:
  explicit Version(const at::Tensor& tensor)
      : counter_(torch::autograd::impl::version_counter(tensor)), saved_(counter_.current_version()) {}

  void check(const char* whose) const {
    if (counter_.current_version() == saved_) return;
    throw std::runtime_error(std::string("one of the variables needed for gradient computation has been modified by "
                                         "an inplace operation: ") +
                             whose + " is at version " + std::to_string(counter_.current_version()) +
                             "; expected version " + std::to_string(saved_));
  }

  // Whether both are the same value of the same counter. Two tensors that share a storage may have separate counters
  // (after `data()`), which do not count each other's writes.
  bool operator==(const Version& other) const {
    return saved_ == other.saved_ && identity() == other.identity();
  }

 private:
  const void* identity() const {
    static_assert(sizeof(c10::VariableVersion) == sizeof(void*), "a VariableVersion is one counted pointer");
    const void* pointer;
    std::memcpy(&pointer, static_cast<const void*>(&counter_), sizeof(pointer));
    return pointer;
  }

  c10::VariableVersion counter_;
  uint32_t saved_;
};

// A saved tensor that stays in memory.
class Kept {
 public:
  // `tensor_data` shares the storage and the version but drops the graph: a tensor held by the node that made it would
  // keep that node alive forever.
  explicit Kept(const at::Tensor& tensor) : tensor_(tensor.tensor_data()), version_(tensor) {}

  at::Tensor get() const {
    version_.check("a saved tensor");
    return tensor_;
  }

 private:
  at::Tensor tensor_;
  Version version_;
};

// Whether the tensor is a parameter (a leaf that requires a gradient) or a view of one. The network holds the storage of a
// parameter anyway, so moving it would free nothing.
inline bool is_of_a_parameter(const at::Tensor& tensor) {
  if (tensor.is_leaf()) return tensor.requires_grad();
  const auto* view = torch::autograd::impl::get_view_autograd_meta(tensor);
  if (view == nullptr || !view->has_bw_view()) return false;
  const auto& base = view->get_backward_view().base_;
  return base.is_leaf() && base.requires_grad();
}

}  // namespace memsys
