// Chooses the hooks of each tensor that libtorch saves for backward, by the scopes of the thread that saves it.
//
// Backward of a CPU graph runs on the calling thread, and backward of a CUDA graph on libtorch's threads. Therefore hooks
// hold all that they need and do not look at the thread's scopes.

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/engine.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "border.h"
#include "recompute.h"
#include "spill.h"

namespace {

// The activation modes of all stages are one word: two bits a stage, as `step/stage_modes.rs` packs them.
constexpr uint32_t kStages = 32;
constexpr uint64_t kSpill = 2;
// The stage of all that lies in no stage.
constexpr uint32_t kRest = kStages - 1;

uint64_t mode_of(uint64_t modes, uint32_t stage) { return modes >> (2 * std::min(stage, kRest)) & 3; }

struct Scope {
  uint64_t id;
  uint64_t modes;
  std::shared_ptr<memsys::SpillStore> store;  // null if no stage spills
};

// The innermost scope is the last one.
thread_local std::vector<Scope> scopes;
thread_local uint64_t next_scope = 0;
thread_local memsys::Recording* recording = nullptr;
thread_local uint32_t current_stage = kRest;

class HookingEngine final : public torch::autograd::Engine {
 public:
  // The threads that run graphs must stop before the derived part of this object is destroyed.
  ~HookingEngine() override { stop(); }

  std::unique_ptr<torch::autograd::SavedVariableHooks> get_default_saved_variable_hooks() override {
    if (memsys::is_replaying()) return memsys::replaying_hooks();
    if (recording != nullptr) return memsys::recording_hooks(recording->shared_from_this());
    if (scopes.empty() || !scopes.back().store) return nullptr;
    const auto& scope = scopes.back();
    return mode_of(scope.modes, current_stage) == kSpill ? memsys::spill_hooks(scope.store) : nullptr;
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

// Enters a scope on this thread. Takes over `spill_file`, which is -1 if no stage spills.
char* memsys_enter_scope(uint64_t modes, int spill_file, const char* folder, uint64_t threshold_bytes, uint64_t* id) {
  return memsys::guarded([&] {
    std::shared_ptr<memsys::SpillStore> store;
    if (spill_file >= 0) store = std::make_shared<memsys::SpillStore>(spill_file, folder, threshold_bytes);
    scopes.push_back({next_scope, modes, std::move(store)});
    *id = next_scope++;
  });
}

void memsys_leave_scope(uint64_t id) {
  const auto is_it = [id](const Scope& scope) { return scope.id == id; };
  scopes.erase(std::remove_if(scopes.begin(), scopes.end(), is_it), scopes.end());
}

// Whether this thread records a graph whose stages have modes of their own, and those modes. Within a stage of another
// chain and without gradients it does not.
char* memsys_begin_chain(const at::Tensor* input, uint64_t* modes, bool* applies) {
  return memsys::guarded([&] {
    *applies = false;
    *modes = 0;
    if (recording != nullptr || memsys::is_replaying() || !at::GradMode::is_enabled()) return;
    *applies = true;
    if (scopes.empty()) return;
    const auto& scope = scopes.back();
    *modes = scope.modes;
    if (scope.store && input->is_leaf()) scope.store->exempt(*input);
  });
}

// Makes `stage` the one that this thread is in, and returns the one before.
uint32_t memsys_enter_stage(uint32_t stage) { return std::exchange(current_stage, stage); }

// Calls `call` when backward has the gradient of `output` and goes on to what made it. `drop` is called once, when nothing
// can call any more.
char* memsys_on_backward(const at::Tensor* output, void* context, void (*call)(const void*), void (*drop)(void*)) {
  return memsys::guarded([&] {
    const std::shared_ptr<void> owned(context, drop);
    if (!output->requires_grad()) return;
    output->register_hook([owned, call](const at::Tensor&) { call(owned.get()); });
  });
}

char* memsys_begin_recording(const at::Tensor* input, std::shared_ptr<memsys::Recording>** out) {
  return memsys::guarded([&] {
    TORCH_CHECK(recording == nullptr, "stages are being recorded on this thread already");
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
