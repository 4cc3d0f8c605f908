// Saved tensors whose storages wait for backward elsewhere: a CPU tensor's in a nameless file, a CUDA tensor's in pinned
// host memory.
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

// The live bytes in all spill files of the process, the total length of those files, and how often a file could not be
// written or read.
struct SpillTotals {
  std::atomic<uint64_t> live_bytes{0};
  std::atomic<uint64_t> file_bytes{0};
  std::atomic<uint64_t> n_failed{0};
};
SpillTotals& spill_totals();

// Allocates ranges of one file. Freed ranges are used again, and a file without live ranges has length 0.
class SpillFile {
 public:
  // Takes over the file descriptor.
  SpillFile(int file, std::string folder);
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  // Returns the offset of the written bytes.
  uint64_t write(const void* from, uint64_t n_bytes);
  void read(uint64_t offset, void* to, uint64_t n_bytes);
  void free(uint64_t offset, uint64_t n_bytes) noexcept;
  // Asks the kernel to read the bytes ahead, if they are no longer in its cache.
  void will_need(uint64_t offset, uint64_t n_bytes) noexcept;

 private:
  uint64_t reserve(uint64_t length);

  const int file_;
  const std::string folder_;
  std::mutex mutex_;
  std::map<uint64_t, uint64_t> free_;  // offset -> length; no two ranges touch, none ends at end_
  uint64_t end_ = 0;
};

class SpilledStorage;

// Everything that one scope has spilled.
class SpillStore : public std::enable_shared_from_this<SpillStore> {
 public:
  SpillStore(int file, std::string folder, uint64_t threshold_bytes)
      : file_(file, std::move(folder)), threshold_bytes_(threshold_bytes) {}

  // Keeps the storage of `tensor` in memory, because its owner holds it through backward anyway.
  void exempt(const at::Tensor& tensor);
  bool moves(const at::Tensor& tensor);
  // The copy of the tensor's storage at `version`, which all tensors of that storage share.
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
  std::map<uint64_t, const SpilledStorage*> in_file_;  // in the order of `put`
  uint64_t next_sequence_ = 0;
};

// The hooks of one saved tensor.
std::unique_ptr<torch::autograd::SavedVariableHooks> spill_hooks(std::shared_ptr<SpillStore> store);

}  // namespace memsys
