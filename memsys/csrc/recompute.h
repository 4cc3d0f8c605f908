// Checkpointing on saved-tensor hooks (Chen et al. 2016), not re-entrant: forward runs once and records how many
// tensors it would save, backward runs it again at the first of them and takes what that run saves.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "saved_tensors.h"

namespace memsys {

// Runs the stages again from an input that it takes over; returns nullptr or a message to be freed.
using RunStages = char* (*)(const void* stages, at::Tensor* input);
using DropStages = void (*)(void* stages);

// Whether libtorch casts by itself on this thread, and to what.
class Autocast {
 public:
  static Autocast here();
  void apply() const;
  Autocast without_cache() const;

 private:
  bool cpu_, cuda_, cache_;
  at::ScalarType cpu_kind_, cuda_kind_;
};

// The state of one random generator, in host memory.
struct RandomState {
  at::Generator generator;
  at::Tensor state;

  static RandomState of(at::Generator generator);
  void apply();
  bool operator==(const RandomState& other) const;
};

// A group of stages between its first run and its backward. The hooks of its saved tensors own it.
class Recording : public std::enable_shared_from_this<Recording> {
 public:
  explicit Recording(const at::Tensor& input);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  // Ends the first run and takes `stages` over.
  void finish(void* stages, RunStages run, DropStages drop);

  // From the hooks of the first run: a place for a tensor that is to be recomputed, or none where it is kept.
  std::optional<size_t> add(const at::Tensor& tensor);
  at::Tensor take(size_t place);
  void release(size_t place) noexcept;

  // From the hooks of the second run.
  void give(const at::Tensor& tensor);

 private:
  struct ObservationRef {
    Version version;
    std::vector<int64_t> sizes;
    at::ScalarType kind;
    c10::Device device;
    bool wanted;
    at::Tensor value;
  };

  void run_again();
  // Frees what only a second run needs.
  void let_go() noexcept;

  // Recursive, for letting go of a graph within a stage may come back here.
  std::recursive_mutex mutex_;
  at::Tensor input_;
  const bool input_requires_grad_;
  const Version input_version_;
  const Autocast autocast_;
  std::vector<RandomState> random_first_;  // empty where the first run drew nothing
  std::vector<RandomState> random_last_;
  void* stages_ = nullptr;
  RunStages run_ = nullptr;
  DropStages drop_ = nullptr;
  std::vector<ObservationRef> places_;
  size_t n_given_ = 0;
  bool done_ = false;
  std::string failure_;
};

std::unique_ptr<torch::autograd::SavedVariableHooks> recording_hooks(std::shared_ptr<Recording> recording);
// The hooks that apply while this thread runs a group again; nullptr while it does not.
std::unique_ptr<torch::autograd::SavedVariableHooks> replaying_hooks();
bool is_replaying();

}  // namespace memsys
