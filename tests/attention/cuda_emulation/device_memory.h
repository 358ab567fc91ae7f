// Memory that the kernels under test reach: the host's when they are emulated. With EARSHOT_CUDA_ON_DEVICE, and linked
// to what nvcc made of the kernels instead of to the emulation, the same tests run on a GPU: memory is then the host's,
// mapped for the device and read after Synchronize. on_device.sh builds that.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#if defined(EARSHOT_CUDA_ON_DEVICE)
#include <cuda_runtime.h>
#endif

namespace earshot {

template <class V>
struct DeviceAllocator {
  using value_type = V;
  DeviceAllocator() = default;
  template <class U>
  explicit(false) DeviceAllocator(const DeviceAllocator<U>&) {}

  static constexpr std::align_val_t kAlignment{256};

  V* allocate(size_t count) {
#if defined(EARSHOT_CUDA_ON_DEVICE)
    void* memory = nullptr;
    if (cudaMallocHost(&memory, count * sizeof(V)) != cudaSuccess) throw std::bad_alloc();
    return static_cast<V*>(memory);
#else
    return static_cast<V*>(::operator new(count * sizeof(V), kAlignment));
#endif
  }
  void deallocate(V* memory, size_t) {
#if defined(EARSHOT_CUDA_ON_DEVICE)
    cudaFreeHost(memory);
#else
    ::operator delete(memory, kAlignment);
#endif
  }
  bool operator==(const DeviceAllocator&) const { return true; }
};

template <class V>
using DeviceVector = std::vector<V, DeviceAllocator<V>>;

// Waits until the kernels have run; what they did wrong, as a cudaError_t.
inline int Synchronize() {
#if defined(EARSHOT_CUDA_ON_DEVICE)
  return cudaDeviceSynchronize();
#else
  return 0;
#endif
}

}  // namespace earshot
