// Moves gradients to the host during backward, each as soon as it is complete.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "border.h"

namespace {

class AddToHost final : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit AddToHost(at::Tensor host) : host_(std::move(host)) {}

  void operator()(const at::Tensor& parameter) override {
    // It leaves the parameter first. If the sum is refused, the next attempt must not find it there and add it again.
    const at::Tensor gradient = std::move(parameter.mutable_grad());
    parameter.mutable_grad().reset();
    if (!gradient.defined()) return;
    at::NoGradGuard no_grad;
    host_.add_(gradient.to(host_.device()));
  }

 private:
  at::Tensor host_;
};

}  // namespace

extern "C" {

// From now on, adds every gradient of `parameter` to `host` as soon as backward has accumulated it, and frees it.
char* memsys_offload_gradient(const at::Tensor* parameter, const at::Tensor* host) {
  return memsys::guarded([&] {
    torch::autograd::impl::set_post_acc_grad_hooks(*parameter, std::make_unique<AddToHost>(*host));
  });
}

char* memsys_stop_offload(const at::Tensor* parameter) {
  return memsys::guarded([&] { torch::autograd::impl::set_post_acc_grad_hooks(*parameter, nullptr); });
}
}
