// Chooses the hooks of each tensor that libtorch saves for backward, by the scopes of the thread that saves it.
//
// Backward of a CPU graph runs on the calling thread, and backward of a CUDA graph on libtorch's threads. Therefore hooks
// hold all that they need and do not look at the thread's scopes.

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/engine.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "border.h"
#include "recompute.h"
#include "spill.h"

namespace {

struct Scope {
  uint64_t id;
  uint64_t n_segments;                        // 0 if the scope does not recompute
  std::shared_ptr<memsys::SpillStore> store;  // null if the scope does not spill
};

// The innermost scope is the last one.
thread_local std::vector<Scope> scopes;
thread_local uint64_t next_scope = 0;
thread_local memsys::Recording* recording = nullptr;

class HookingEngine final : public torch::autograd::Engine {
 public:
  // The threads that run graphs must stop before the derived part of this object is destroyed.
  ~HookingEngine() override { stop(); }

  std::unique_ptr<torch::autograd::SavedVariableHooks> get_default_saved_variable_hooks() override {
    if (memsys::is_replaying()) return memsys::replaying_hooks();
    if (recording != nullptr) return memsys::recording_hooks(recording->shared_from_this());
    if (!scopes.empty() && scopes.back().store) return memsys::spill_hooks(scopes.back().store);
    return nullptr;
  }
};

torch::autograd::Engine& hooking_engine() {
  // Never destroyed, because its threads outlive static objects.
  static auto* engine = new HookingEngine();
  return *engine;
}

}  // namespace

extern "C" {

char* memsys_install_engine() {
  return memsys::guarded([] {
    static std::once_flag once;
    std::call_once(once, [] { torch::autograd::set_default_engine_stub(&hooking_engine); });
  });
}

// Nodes of a failed graph that were ready to run stay at the front of the thread's queue. The next backward of any graph
// discards them.
char* memsys_release_failed_backward() {
  return memsys::guarded([] {
    at::AutoGradMode with_gradients(true);
    auto leaf = at::zeros({}).requires_grad_();
    torch::autograd::backward({leaf + 1}, {});
  });
}

// Enters a scope on this thread. Takes over `spill_file`, which is -1 if the scope does not spill.
char* memsys_enter_scope(uint64_t n_segments, int spill_file, const char* folder, uint64_t threshold_bytes,
                         uint64_t* id) {
  return memsys::guarded([&] {
    std::shared_ptr<memsys::SpillStore> store;
    if (spill_file >= 0) store = std::make_shared<memsys::SpillStore>(spill_file, folder, threshold_bytes);
    scopes.push_back({next_scope, n_segments, std::move(store)});
    *id = next_scope++;
  });
}

void memsys_leave_scope(uint64_t id) {
  const auto is_it = [id](const Scope& scope) { return scope.id == id; };
  scopes.erase(std::remove_if(scopes.begin(), scopes.end(), is_it), scopes.end());
}

// Writes the number of groups into which to cut a chain of stages that begins at `input`, or 0 to run it without
// recomputation.
char* memsys_begin_chain(const at::Tensor* input, uint64_t* n_segments) {
  return memsys::guarded([&] {
    *n_segments = 0;
    if (scopes.empty() || recording != nullptr || memsys::is_replaying() || !at::GradMode::is_enabled()) return;
    const auto& scope = scopes.back();
    *n_segments = scope.n_segments;
    if (scope.store && input->is_leaf()) scope.store->exempt(*input);
  });
}

char* memsys_begin_recording(const at::Tensor* input, std::shared_ptr<memsys::Recording>** out) {
  return memsys::guarded([&] {
    TORCH_CHECK(recording == nullptr, "a group of stages is being recorded on this thread");
    *out = new std::shared_ptr<memsys::Recording>(std::make_shared<memsys::Recording>(*input));
    recording = (*out)->get();
  });
}

// Ends the first run. If `stages` is null the run failed, and what it saved cannot be recomputed.
char* memsys_end_recording(std::shared_ptr<memsys::Recording>* ended, void* stages, memsys::RunStages run,
                           memsys::DropStages drop) {
  const std::unique_ptr<std::shared_ptr<memsys::Recording>> owned(ended);
  recording = nullptr;
  return memsys::guarded([&] {
    if (stages != nullptr) (*owned)->finish(stages, run, drop);
  });
}

void memsys_spilled_bytes(uint64_t* live_bytes, uint64_t* file_bytes) {
  *live_bytes = memsys::spill_totals().live_bytes;
  *file_bytes = memsys::spill_totals().file_bytes;
}

uint64_t memsys_failed_spills() { return memsys::spill_totals().n_failed; }
}
