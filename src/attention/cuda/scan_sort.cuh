// What kernels that make lists share.
#pragma once

#include "src/attention/cuda/primitives.cuh"
#include "src/attention/cuda/scan_sort.h"

namespace earshot::cuda {

__device__ __forceinline__ int64_t Get(const DeviceCount& size) { return size.count ? *size.count : size.capacity; }

// Sum of the values of the threads before this one, and of all; `shared` holds an int for each warp, and is free again
// after the next barrier.
struct BlockSums {
  int before, total;
};
template <int kBlockThreads>
__device__ __forceinline__ BlockSums SumOverBlock(int value, int32_t* shared) {
  constexpr int kWarps = kBlockThreads / kWarp;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int sum = value;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int other = __shfl_up_sync(kAllLanes, sum, distance);
    if (lane >= distance) sum += other;
  }
  if (lane == kWarp - 1) SharedStore(shared + warp, sum);
  __syncthreads();
  BlockSums sums = {sum - value, 0};
  for (int w = 0; w < kWarps; ++w) {
    const int of_warp = SharedLoad(shared + w);
    if (w < warp) sums.before += of_warp;
    sums.total += of_warp;
  }
  __syncthreads();
  return sums;
}

// The first of the sorted keys that is not below `key`.
__device__ __forceinline__ int64_t LowerBound(const uint32_t* keys, int64_t count, uint32_t key) {
  int64_t begin = 0, end = count;
  while (begin < end) {
    const int64_t middle = (begin + end) / 2;
    if (keys[middle] < key) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

}  // namespace earshot::cuda
