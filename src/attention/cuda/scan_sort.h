// Prefix sums and a stable sort on the device, small and deterministic: lists are built once for all layers of a batch.
// Sizes that only the device knows are given as a pointer; the host knows what they are at most. Functions return 0 or
// a cudaError_t.
#pragma once

#include <cstdint>

namespace earshot::cuda {

inline int64_t Blocks(int64_t items, int64_t of_a_block) { return (items + of_a_block - 1) / of_a_block; }

// values[i] becomes the sum of those before it, values[count] the sum of all. scratch: ScanScratch(count) ints.
int ExclusiveScan(int32_t* values, int64_t count, int32_t* scratch, void* stream);
int64_t ScanScratch(int64_t count);

struct SortPairs {
  uint32_t* keys = nullptr;
  int32_t* values = nullptr;
};

// How many there are: *count, or, where it is null, capacity.
struct DeviceCount {
  const int32_t* count = nullptr;
  int64_t capacity = 0;
};

// Sorts pairs by the low `bits` of their keys, equal ones in their order; they end in `pairs`, which is exchanged with
// `other` as often as it takes. scratch: SortScratch(capacity) ints.
int StableSort(SortPairs& pairs, SortPairs& other, DeviceCount size, int bits, int32_t* scratch, void* stream);
int64_t SortScratch(int64_t capacity);

// Bits that hold the numbers up to `largest`.
inline int BitsFor(int64_t largest) {
  int bits = 1;
  while (largest >> bits) ++bits;
  return bits;
}

}  // namespace earshot::cuda
