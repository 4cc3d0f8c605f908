// The caching allocator of GPUs, reached through virtual calls of libc10, so that this program need not link CUDA.

#include <ATen/DeviceAccelerator.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "border.h"

extern "C" {

// Writes five numbers: bytes of live tensors, bytes taken from the device, the peaks of both, and the number of
// out-of-memory errors so far.
char* memsys_device_statistics(int index, int64_t* numbers) {
  return memsys::guarded([&] {
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    const auto statistics = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    numbers[0] = statistics.allocated_bytes[all].current;
    numbers[1] = statistics.reserved_bytes[all].current;
    numbers[2] = statistics.allocated_bytes[all].peak;
    numbers[3] = statistics.reserved_bytes[all].peak;
    numbers[4] = statistics.num_ooms;
  });
}

// Restarts the peaks of a device's statistics at what is held now.
char* memsys_device_restart_peaks(int index) {
  return memsys::guarded([&] {
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->resetPeakStats(static_cast<c10::DeviceIndex>(index));
  });
}

// Gives the cached blocks of every device back to the driver.
char* memsys_device_empty_cache() {
  return memsys::guarded([] { c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache(); });
}

// Sets the caching allocator, with settings in the form of PYTORCH_ALLOC_CONF. They only apply before CUDA starts.
char* memsys_device_settings(const char* settings) {
  return memsys::guarded([&] { c10::CachingAllocator::setAllocatorSettings(settings); });
}
}
