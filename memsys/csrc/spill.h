// Saved tensors whose storages wait for backward outside of memory: a CPU tensor's in a file without a name, a CUDA
// tensor's in pinned host memory.
#pragma once

#include <c10/core/Storage.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "saved_tensors.h"

namespace memsys {

// Bytes that all spill files of the process hold now, and how long those files are.
struct SpillTotals {
  std::atomic<uint64_t> live_bytes{0};
  std::atomic<uint64_t> file_bytes{0};
};
SpillTotals& spill_totals();

// Ranges of one file. Freed ranges are used again; a file that holds nothing has no length.
class SpillFile {
 public:
  // Takes the file over.
  SpillFile(int file, std::string folder);
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  // Returns where the bytes lie.
  uint64_t write(const void* from, uint64_t n_bytes);
  void read(uint64_t offset, void* to, uint64_t n_bytes);
  void free(uint64_t offset, uint64_t n_bytes) noexcept;
  // Asks the system to read ahead, if the bytes have left its cache.
  void will_need(uint64_t offset, uint64_t n_bytes) noexcept;

 private:
  uint64_t reserve(uint64_t length);

  const int file_;
  const std::string folder_;
  std::mutex mutex_;
  std::map<uint64_t, uint64_t> free_;  // offset -> length; no two touch, none ends at end_
  uint64_t end_ = 0;
};

class SpilledStorage;

// All that one scope has spilled.
class SpillStore : public std::enable_shared_from_this<SpillStore> {
 public:
  SpillStore(int file, std::string folder, uint64_t threshold_bytes)
      : file_(file, std::move(folder)), threshold_bytes_(threshold_bytes) {}

  // Leaves the storage of `tensor`, which its owner holds through backward, where it is.
  void exempt(const at::Tensor& tensor);
  bool moves(const at::Tensor& tensor);
  // The copy of the tensor's storage as it is at `version`: one for all tensors of the storage.
  std::shared_ptr<SpilledStorage> put(const at::Tensor& tensor, const Version& version);

 private:
  friend class SpilledStorage;
  void forget(const SpilledStorage& storage) noexcept;
  void read_ahead(uint64_t sequence) noexcept;

  SpillFile file_;
  const uint64_t threshold_bytes_;
  std::mutex mutex_;
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> exempt_;
  std::unordered_map<const c10::StorageImpl*, std::weak_ptr<SpilledStorage>> newest_;
  std::map<uint64_t, const SpilledStorage*> in_file_;  // by the order in which they were put
  uint64_t next_sequence_ = 0;
};

// The hooks of one saved tensor.
std::unique_ptr<torch::autograd::SavedVariableHooks> spill_hooks(std::shared_ptr<SpillStore> store);

}  // namespace memsys
