#include "recompute.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>

#include <cstdlib>

namespace memsys {

namespace {

thread_local Recording* replaying = nullptr;

// While it lives, the tensors that this thread saves go to `recording`.
class Replaying {
 public:
  explicit Replaying(Recording* recording) { replaying = recording; }
  ~Replaying() { replaying = nullptr; }
  Replaying(const Replaying&) = delete;
  Replaying& operator=(const Replaying&) = delete;
};

std::vector<RandomState> random_states(const at::Tensor& input) {
  std::vector<RandomState> states{RandomState::of(at::globalContext().defaultGenerator(at::kCPU))};
  if (input.is_cuda()) states.push_back(RandomState::of(at::globalContext().defaultGenerator(input.device())));
  return states;
}

// While it lives, the generators continue from `states`; afterwards they are as before.
class Drawn {
 public:
  Drawn(std::vector<RandomState>& states, const at::Tensor& input) {
    if (states.empty()) return;
    before_ = random_states(input);
    for (auto& state : states) state.apply();
  }
  ~Drawn() {
    try {
      for (auto& state : before_) state.apply();
    } catch (...) {
      // Cannot happen: a generator accepts the state that it returned.
    }
  }
  Drawn(const Drawn&) = delete;
  Drawn& operator=(const Drawn&) = delete;

 private:
  std::vector<RandomState> before_;
};

// While it lives, libtorch casts as `autocast` says; afterwards as before.
class Casting {
 public:
  explicit Casting(const Autocast& autocast) : before_(Autocast::here()) { autocast.apply(); }
  ~Casting() { before_.apply(); }
  Casting(const Casting&) = delete;
  Casting& operator=(const Casting&) = delete;

 private:
  const Autocast before_;
};

}  // namespace

Autocast Autocast::here() {
  Autocast autocast;
  autocast.cpu_ = at::autocast::is_autocast_enabled(at::kCPU);
  autocast.cuda_ = at::autocast::is_autocast_enabled(at::kCUDA);
  autocast.cpu_kind_ = at::autocast::get_autocast_dtype(at::kCPU);
  autocast.cuda_kind_ = at::autocast::get_autocast_dtype(at::kCUDA);
  autocast.cache_ = at::autocast::is_autocast_cache_enabled();
  return autocast;
}

void Autocast::apply() const {
  at::autocast::set_autocast_enabled(at::kCPU, cpu_);
  at::autocast::set_autocast_enabled(at::kCUDA, cuda_);
  at::autocast::set_autocast_dtype(at::kCPU, cpu_kind_);
  at::autocast::set_autocast_dtype(at::kCUDA, cuda_kind_);
  at::autocast::set_autocast_cache_enabled(cache_);
}

Autocast Autocast::without_cache() const {
  Autocast autocast = *this;
  autocast.cache_ = false;
  return autocast;
}

RandomState RandomState::of(at::Generator generator) {
  std::lock_guard<std::mutex> lock(generator.mutex());
  return {generator, generator.get_state()};
}

void RandomState::apply() {
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

bool RandomState::operator==(const RandomState& other) const {
  return generator == other.generator && state.nbytes() == other.state.nbytes() &&
         std::memcmp(state.const_data_ptr(), other.state.const_data_ptr(), state.nbytes()) == 0;
}

Recording::Recording(const at::Tensor& input)
    : input_(input.tensor_data()),
      input_requires_grad_(input.requires_grad()),
      input_version_(input),
      autocast_(Autocast::here()),
      random_first_(random_states(input)) {}

Recording::~Recording() { let_go(); }

void Recording::finish(void* stages, RunStages run, DropStages drop) {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  stages_ = stages;
  run_ = run;
  drop_ = drop;
  random_last_ = random_states(input_);
  if (random_first_ == random_last_) {
    random_first_.clear();
    random_last_.clear();
  }
}

void Recording::let_go() noexcept {
  if (stages_ != nullptr) drop_(stages_);
  stages_ = nullptr;
  input_.reset();
  random_first_.clear();
  random_last_.clear();
}

std::optional<size_t> Recording::add(const at::Tensor& tensor) {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  const bool wanted = !is_of_a_parameter(tensor);
  saved_.push_back({Version(tensor), tensor.sizes().vec(), tensor.scalar_type(), tensor.device(), wanted, {}});
  if (!wanted) return std::nullopt;
  return saved_.size() - 1;
}

void Recording::give(const at::Tensor& tensor) {
  if (n_given_ >= saved_.size()) {
    throw std::runtime_error("the recomputation saves more tensors than the " + std::to_string(saved_.size()) +
                             " of the first run");
  }
  auto& saved = saved_[n_given_++];
  if (tensor.sizes() != c10::IntArrayRef(saved.sizes) || tensor.scalar_type() != saved.kind ||
      tensor.device() != saved.device) {
    throw std::runtime_error("the recomputation saves another tensor than the first run at place " +
                             std::to_string(n_given_) + " of " + std::to_string(saved_.size()));
  }
  if (saved.wanted) saved.value = tensor.tensor_data();
}

at::Tensor Recording::take(size_t index) {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  auto& saved = saved_[index];
  saved.version.check("a tensor to be recomputed");
  if (!failure_.empty()) throw std::runtime_error(failure_);
  if (!done_) {
    try {
      run_again();
    } catch (const std::exception& error) {
      failure_ = std::string("the activations cannot be recomputed: ") + error.what();
      for (auto& each : saved_) each.value.reset();
      let_go();
      throw std::runtime_error(failure_);
    }
  }
  if (!saved.value.defined()) {
    throw std::runtime_error("a recomputed tensor is used a second time: backward runs once under recomputation");
  }
  return std::move(saved.value);
}

void Recording::release(size_t index) noexcept {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  saved_[index].wanted = false;
  saved_[index].value.reset();
}

void Recording::run_again() {
  input_version_.check("the input of stages");
  if (stages_ == nullptr) throw std::runtime_error("its first run did not end");
  if (replaying != nullptr) throw std::runtime_error("another recomputation is under way on this thread");
  {
    at::AutoGradMode with_gradients(true);
    Casting casting(autocast_.without_cache());
    Drawn drawn(random_first_, input_);
    Replaying to_me(this);
    auto input = input_.detach();
    input.set_requires_grad(input_requires_grad_);
    if (char* message = run_(stages_, new at::Tensor(std::move(input)))) {
      std::string text(message);
      std::free(message);
      throw std::runtime_error(text);
    }
    if (n_given_ != saved_.size()) {
      throw std::runtime_error("the recomputation saves " + std::to_string(n_given_) +
                               " tensors, the first run saved " + std::to_string(saved_.size()));
    }
    if (!random_first_.empty() && random_states(input_) != random_last_) {
      throw std::runtime_error(
          "it drew other random numbers than the first run: another thread draws from libtorch's generator");
    }
  }
  done_ = true;
  let_go();
}

namespace {

class RecordingHooks final : public torch::autograd::SavedVariableHooks {
 public:
  explicit RecordingHooks(std::shared_ptr<Recording> recording) : recording_(std::move(recording)) {}

  ~RecordingHooks() override {
    if (index_) recording_->release(*index_);
  }

  void call_pack_hook(const at::Tensor& tensor) override {
    index_ = recording_->add(tensor);
    if (!index_) {
      kept_.emplace(tensor);
      recording_.reset();
    }
  }

  at::Tensor call_unpack_hook() override { return kept_ ? kept_->get() : recording_->take(*index_); }

 private:
  std::shared_ptr<Recording> recording_;
  std::optional<size_t> index_;
  std::optional<Kept> kept_;
};

class ReplayingHooks final : public torch::autograd::SavedVariableHooks {
 public:
  void call_pack_hook(const at::Tensor& tensor) override { replaying->give(tensor); }

  at::Tensor call_unpack_hook() override {
    throw std::runtime_error("a stage runs backward within its recomputation");
  }
};

}  // namespace

std::unique_ptr<torch::autograd::SavedVariableHooks> recording_hooks(std::shared_ptr<Recording> recording) {
  return std::make_unique<RecordingHooks>(std::move(recording));
}

std::unique_ptr<torch::autograd::SavedVariableHooks> replaying_hooks() {
  return replaying == nullptr ? nullptr : std::make_unique<ReplayingHooks>();
}

bool is_replaying() { return replaying != nullptr; }

}  // namespace memsys
