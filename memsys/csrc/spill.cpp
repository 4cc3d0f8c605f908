#include "spill.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

namespace memsys {

namespace {

// Ranges of a file begin and end at multiples of this.
constexpr uint64_t kPage = 4096;
// The number of storages that the kernel is asked to read ahead of backward.
constexpr int kReadAhead = 2;

uint64_t whole_pages(uint64_t n_bytes) { return (n_bytes + kPage - 1) / kPage * kPage; }

[[noreturn]] void fail(const char* verb, uint64_t n_bytes, const std::string& folder, const char* why) {
  ++spill_totals().n_failed;
  throw std::runtime_error(std::string("cannot ") + verb + " " + std::to_string(n_bytes) +
                           " bytes of activations: the spill folder " + folder + " says: " + why);
}

}  // namespace

SpillTotals& spill_totals() {
  static SpillTotals totals;
  return totals;
}

SpillFile::SpillFile(int file, std::string folder) : file_(file), folder_(std::move(folder)) {}

SpillFile::~SpillFile() {
  spill_totals().file_bytes -= end_;
  ::close(file_);
}

uint64_t SpillFile::reserve(uint64_t length) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto range = free_.begin(); range != free_.end(); ++range) {
    if (range->second < length) continue;
    const auto [offset, free_length] = *range;
    free_.erase(range);
    if (free_length > length) free_.emplace(offset + length, free_length - length);
    return offset;
  }
  const uint64_t offset = end_;
  end_ += length;
  spill_totals().file_bytes += length;
  return offset;
}

uint64_t SpillFile::write(const void* from, uint64_t n_bytes) {
  const uint64_t offset = reserve(whole_pages(n_bytes));
  spill_totals().live_bytes += n_bytes;
  uint64_t done = 0;
  while (done < n_bytes) {
    const ssize_t n = ::pwrite(file_, static_cast<const char*>(from) + done, n_bytes - done, offset + done);
    if (n > 0) {
      done += n;
    } else if (n == 0 || errno != EINTR) {
      const char* why = n == 0 ? "nothing was written" : std::strerror(errno);
      free(offset, n_bytes);
      fail("write", n_bytes, folder_, why);
    }
  }
  return offset;
}

void SpillFile::read(uint64_t offset, void* to, uint64_t n_bytes) {
  uint64_t done = 0;
  while (done < n_bytes) {
    const ssize_t n = ::pread(file_, static_cast<char*>(to) + done, n_bytes - done, offset + done);
    if (n > 0) {
      done += n;
    } else if (n == 0 || errno != EINTR) {
      fail("read", n_bytes, folder_, n == 0 ? "the file ends too early" : std::strerror(errno));
    }
  }
}

void SpillFile::free(uint64_t offset, uint64_t n_bytes) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  spill_totals().live_bytes -= n_bytes;
  uint64_t length = whole_pages(n_bytes);
  auto next = free_.lower_bound(offset);
  if (next != free_.end() && offset + length == next->first) {
    length += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == offset) {
      offset = before->first;
      length += before->second;
      free_.erase(before);
    }
  }
  if (offset + length < end_) {
    free_.emplace(offset, length);
    return;
  }
  spill_totals().file_bytes -= end_ - offset;
  end_ = offset;
  // An emptied file's pages need never reach the disk. If the file cannot be truncated it only takes disk space until it
  // is closed.
  if (end_ == 0 && ::ftruncate(file_, 0) != 0) return;
}

void SpillFile::will_need(uint64_t offset, uint64_t n_bytes) noexcept {
  ::posix_fadvise(file_, offset, n_bytes, POSIX_FADV_WILLNEED);
}

// A copy of the bytes of one storage at one version.
class SpilledStorage {
 public:
  SpilledStorage(std::shared_ptr<SpillStore> store, const c10::Storage& storage, const Version& version,
                 uint64_t sequence)
      : store_(std::move(store)),
        key_(storage.unsafeGetStorageImpl()),
        original_(storage.getWeakStorageImpl()),
        version_(version),
        n_bytes_(storage.nbytes()),
        device_(storage.device()),
        sequence_(sequence) {
    if (device_.is_cpu()) {
      offset_ = store_->file_.write(storage.data(), n_bytes_);
      return;
    }
    auto bytes = at::empty({0}, at::TensorOptions(at::kByte).device(device_));
    bytes.set_(storage, 0, {static_cast<int64_t>(n_bytes_)}, {1});
    pinned_ = at::empty({static_cast<int64_t>(n_bytes_)}, at::TensorOptions(at::kByte).pinned_memory(true));
    // The stream orders the copy before any later use of the freed storage.
    pinned_.copy_(bytes, /*non_blocking=*/true);
  }

  ~SpilledStorage() {
    store_->forget(*this);
    release();
  }

  // The original storage if somebody still holds it, else one restored storage that all its tensors share.
  c10::Storage get() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (auto alive = original_.lock()) return c10::Storage(std::move(alive));
    if (restored_) return *restored_;
    auto bytes = at::empty({static_cast<int64_t>(n_bytes_)}, at::TensorOptions(at::kByte).device(device_));
    if (offset_) {
      store_->read_ahead(sequence_);
      store_->file_.read(*offset_, bytes.mutable_data_ptr(), n_bytes_);
    } else {
      bytes.copy_(pinned_, /*non_blocking=*/true);
    }
    release();
    restored_ = bytes.storage();
    return *restored_;
  }

 private:
  friend class SpillStore;

  void release() noexcept {
    if (offset_) store_->file_.free(*offset_, n_bytes_);
    offset_.reset();
    pinned_.reset();
  }

  const std::shared_ptr<SpillStore> store_;
  const c10::StorageImpl* const key_;
  // The weak reference keeps the storage's address taken, so no other storage can get the same `key_` meanwhile.
  const c10::weak_intrusive_ptr<c10::StorageImpl> original_;
  const Version version_;
  const uint64_t n_bytes_;
  const c10::Device device_;
  const uint64_t sequence_;
  std::mutex mutex_;
  std::optional<uint64_t> offset_;
  at::Tensor pinned_;
  std::optional<c10::Storage> restored_;
};

void SpillStore::exempt(const at::Tensor& tensor) {
  if (!tensor.has_storage()) return;
  std::lock_guard<std::mutex> lock(mutex_);
  const auto is_gone = [](const auto& storage) { return storage.expired(); };
  exempt_.erase(std::remove_if(exempt_.begin(), exempt_.end(), is_gone), exempt_.end());
  exempt_.push_back(tensor.storage().getWeakStorageImpl());
}

bool SpillStore::moves(const at::Tensor& tensor) {
  const bool plain = tensor.layout() == at::kStrided && tensor.has_storage() && !tensor.is_quantized() &&
                     !tensor.is_conj() && !tensor.is_neg() && (tensor.is_cpu() || tensor.is_cuda());
  if (!plain || is_of_a_parameter(tensor)) return false;
  // The size of the whole storage counts, because even a small view keeps all of it alive.
  const uint64_t n_bytes = tensor.storage().nbytes();
  if (n_bytes == 0 || n_bytes < threshold_bytes_) return false;
  const auto* storage = tensor.storage().unsafeGetStorageImpl();
  std::lock_guard<std::mutex> lock(mutex_);
  return std::none_of(exempt_.begin(), exempt_.end(), [&](const auto& other) {
    return !other.expired() && other._unsafe_get_target() == storage;
  });
}

std::shared_ptr<SpilledStorage> SpillStore::put(const at::Tensor& tensor, const Version& version) {
  const auto& storage = tensor.storage();
  const auto* key = storage.unsafeGetStorageImpl();
  uint64_t sequence;
  // Declared outside of the lock's block, because the destructor of the last reference locks the mutex too.
  std::shared_ptr<SpilledStorage> known;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = newest_.find(key);
    if (found != newest_.end()) known = found->second.lock();
    if (known && known->version_ == version && known->n_bytes_ == storage.nbytes()) return known;
    sequence = next_sequence_++;
  }
  auto spilled = std::make_shared<SpilledStorage>(shared_from_this(), storage, version, sequence);
  std::lock_guard<std::mutex> lock(mutex_);
  newest_[key] = spilled;
  if (spilled->offset_) in_file_.emplace(sequence, spilled.get());
  return spilled;
}

void SpillStore::forget(const SpilledStorage& storage) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  in_file_.erase(storage.sequence_);
  const auto found = newest_.find(storage.key_);
  if (found != newest_.end() && found->second.expired()) newest_.erase(found);
}

// Backward takes storages in roughly the reverse order of `put`.
void SpillStore::read_ahead(uint64_t sequence) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  auto at = in_file_.erase(in_file_.lower_bound(sequence), in_file_.upper_bound(sequence));
  for (int i = 0; i < kReadAhead && at != in_file_.begin(); ++i) {
    --at;
    file_.will_need(*at->second->offset_, at->second->n_bytes_);
  }
}

namespace {

class SpillHooks final : public torch::autograd::SavedVariableHooks {
 public:
  explicit SpillHooks(std::shared_ptr<SpillStore> store) : store_(std::move(store)) {}

  void call_pack_hook(const at::Tensor& tensor) override {
    const auto store = std::move(store_);
    if (!store->moves(tensor)) {
      kept_.emplace(tensor);
      return;
    }
    at::NoGradGuard no_grad;
    version_.emplace(tensor);
    spilled_ = store->put(tensor, *version_);
    sizes_ = tensor.sizes().vec();
    strides_ = tensor.strides().vec();
    offset_ = tensor.storage_offset();
    kind_ = tensor.scalar_type();
  }

  at::Tensor call_unpack_hook() override {
    if (kept_) return kept_->get();
    version_->check("a spilled tensor");
    at::NoGradGuard no_grad;
    auto storage = spilled_->get();
    auto tensor = at::empty({0}, at::TensorOptions(kind_).device(storage.device()));
    return tensor.set_(std::move(storage), offset_, sizes_, strides_);
  }

 private:
  std::shared_ptr<SpillStore> store_;
  std::optional<Kept> kept_;
  std::optional<Version> version_;
  std::shared_ptr<SpilledStorage> spilled_;
  std::vector<int64_t> sizes_;
  std::vector<int64_t> strides_;
  int64_t offset_ = 0;
  at::ScalarType kind_ = at::kFloat;
};

}  // namespace

std::unique_ptr<torch::autograd::SavedVariableHooks> spill_hooks(std::shared_ptr<SpillStore> store) {
  return std::make_unique<SpillHooks>(std::move(store));
}

}  // namespace memsys
