// The caching allocator of GPUs, reached through virtual calls of libc10, so that this program need not link CUDA.

#include <ATen/DeviceAccelerator.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "border.h"

extern "C" {

// Writes seven numbers: bytes of live tensors, bytes taken from the device, the peaks of both, the number of
// out-of-memory errors so far, and the free and total bytes of the device.
char* memsys_device_statistics(int index, int64_t* numbers) {
  return memsys::guarded([&] {
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    const auto device = static_cast<c10::DeviceIndex>(index);
    const auto statistics = allocator->getDeviceStats(device);
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    numbers[0] = statistics.allocated_bytes[all].current;
    numbers[1] = statistics.reserved_bytes[all].current;
    numbers[2] = statistics.allocated_bytes[all].peak;
    numbers[3] = statistics.reserved_bytes[all].peak;
    numbers[4] = statistics.num_ooms;
    const auto memory = allocator->getMemoryInfo(device);
    numbers[5] = static_cast<int64_t>(memory.first);
    numbers[6] = static_cast<int64_t>(memory.second);
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
