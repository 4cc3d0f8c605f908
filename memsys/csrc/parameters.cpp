// Flat parameters: gradients as views of one buffer, and one pass of Adam over all parameters.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adam.h>

#include "border.h"

extern "C" {

// Makes the autograd engine accumulate the gradient of `parameter` into `gradient`.
char* memsys_set_gradient(at::Tensor* parameter, const at::Tensor* gradient) {
  return memsys::guarded([&] { parameter->mutable_grad() = *gradient; });
}

// Takes one Adam step in place (Kingma & Ba 2015, algorithm 1; no weight decay, no AMSGrad). `step` counts from 1.
char* memsys_adam_step(at::Tensor* weights, const at::Tensor* gradients, at::Tensor* first_moment,
                       at::Tensor* second_moment, double step, double learning_rate, double beta1, double beta2,
                       double epsilon) {
  return memsys::guarded([&] {
    at::NoGradGuard no_grad;
    auto count = at::full({}, step, gradients->options().dtype(at::kFloat));
    at::_fused_adam_({*weights}, {*gradients}, {*first_moment}, {*second_moment}, {}, {count}, learning_rate, beta1,
                     beta2, /*weight_decay=*/0.0, epsilon, /*amsgrad=*/false, /*maximize=*/false);
  });
}
}
