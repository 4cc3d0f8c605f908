// Non-reentrant checkpointing on saved-tensor hooks (Chen et al. 2016). Forward runs once and records which tensors it
// would save. When backward needs the first of them, it runs the stages again and uses the tensors that this run saves.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "saved_tensors.h"

namespace memsys {

// Runs the stages again from `input`, which it takes over. Returns nullptr, or a message that the caller frees.
using RunStages = char* (*)(const void* stages, at::Tensor* input);
using DropStages = void (*)(void* stages);

// The state of autocast on a thread.
class Autocast {
 public:
  static Autocast here();
  void apply() const;
  Autocast without_cache() const;

 private:
  bool cpu_, cuda_, cache_;
  at::ScalarType cpu_kind_, cuda_kind_;
};

// The state of one random generator. The state is in host memory.
struct RandomState {
  at::Generator generator;
  at::Tensor state;

  static RandomState of(at::Generator generator);
  void apply();
  bool operator==(const RandomState& other) const;
};

// Stages between their first run and their backward. The hooks of its saved tensors own it together.
class Recording : public std::enable_shared_from_this<Recording> {
 public:
  explicit Recording(const at::Tensor& input);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  // Ends the first run and takes over `stages`.
  void finish(void* stages, RunStages run, DropStages drop);

  // Called by the hooks of the first run: the index of a tensor that will be recomputed, or none if it is kept.
  std::optional<size_t> add(const at::Tensor& tensor);
  at::Tensor take(size_t index);
  void release(size_t index) noexcept;

  // Called by the hooks of the second run.
  void give(const at::Tensor& tensor);

 private:
  struct SavedTensor {
    Version version;
    std::vector<int64_t> sizes;
    at::ScalarType kind;
    c10::Device device;
    bool wanted;
    at::Tensor value;
  };

  void run_again();
  // Frees what only the second run needs.
  void let_go() noexcept;

  // Recursive, because a stage may free a graph whose hooks call `release`.
  std::recursive_mutex mutex_;
  at::Tensor input_;
  const bool input_requires_grad_;
  const Version input_version_;
  const Autocast autocast_;
  std::vector<RandomState> random_first_;  // empty if the first run drew no random numbers
  std::vector<RandomState> random_last_;
  void* stages_ = nullptr;
  RunStages run_ = nullptr;
  DropStages drop_ = nullptr;
  std::vector<SavedTensor> saved_;
  size_t n_given_ = 0;
  bool done_ = false;
  std::string failure_;
};

std::unique_ptr<torch::autograd::SavedVariableHooks> recording_hooks(std::shared_ptr<Recording> recording);
// The hooks to use while this thread runs a group again; nullptr at other times.
std::unique_ptr<torch::autograd::SavedVariableHooks> replaying_hooks();
bool is_replaying();

}  // namespace memsys
