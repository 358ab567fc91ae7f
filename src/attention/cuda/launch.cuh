// How host code starts kernels, and the error codes it returns.
//
//   EARSHOT_CUDA_TRY(Launch(Kernel, {grid_x, grid_y}, threads, shared_bytes, stream, arguments...));
//
// Under the emulation the kernel has run when Launch returns.
#pragma once

#include <cstdint>
#include <type_traits>

#include "src/attention/cuda/primitives.cuh"

#define EARSHOT_CUDA_TRY(call)                         \
  do {                                                 \
    if (const int error = (call); error) return error; \
  } while (false)

namespace earshot::cuda {

struct Grid {
  int64_t x = 1, y = 1;
};

// 0, or a cudaError_t. An empty grid is no error and does nothing.
template <class... P>
int Launch(void (*kernel)(P...), Grid grid, int threads, int64_t shared_bytes, void* stream,
           std::type_identity_t<P>... arguments) {
  if (grid.x == 0 || grid.y == 0) return 0;
#if defined(__CUDACC__)
  if (shared_bytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  void* pointers[] = {&arguments...};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel),
                          dim3(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y)), dim3(threads), pointers,
                          shared_bytes, static_cast<cudaStream_t>(stream));
#else
  emulation::Run({static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y)}, threads, shared_bytes,
                 [&] { kernel(arguments...); });
  return 0;
#endif
}

// Of the current device; under the emulation as emulation::hopper and emulation::multiprocessors say.
struct DeviceKind {
  bool hopper;  // compute capability 9.0
  int multiprocessors;
};
inline DeviceKind CurrentDevice() {
#if defined(__CUDACC__)
  int device = 0, major = 0, minor = 0, count = 1;
  if (cudaGetDevice(&device) != cudaSuccess) return {false, 1};
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return {major == 9 && minor == 0, count};
#else
  return {emulation::hopper, emulation::multiprocessors};
#endif
}

}  // namespace earshot::cuda
