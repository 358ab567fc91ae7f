#include "src/attention/cuda/scan_sort.cuh"

#include "src/attention/cuda/launch.cuh"

namespace earshot::cuda {
namespace {

constexpr int kScanThreads = 256;
constexpr int kScanItems = 4;  // of a thread
constexpr int kScanBlock = kScanThreads * kScanItems;

constexpr int kSortThreads = 256;  // one for each value of a digit
constexpr int kSortRounds = 8;
constexpr int kSortBlock = kSortThreads * kSortRounds;
constexpr int kSortWarps = kSortThreads / kWarp;

__global__ void ScanTotalsKernel(const int32_t* values, int64_t count, int32_t* totals) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kScanBlock;
  int sum = 0;
  for (int i = threadIdx.x; i < kScanBlock; i += kScanThreads) sum += begin + i < count ? values[begin + i] : 0;
  const BlockSums sums = SumOverBlock<kScanThreads>(sum, DynamicShared<int32_t>());
  if (threadIdx.x == 0) totals[blockIdx.x] = sums.total;
}

// One block: the totals become what comes before them, *total the sum of all.
__global__ void ScanOfTotalsKernel(int32_t* totals, int64_t count, int32_t* total) {
  int before = 0;
  for (int64_t begin = 0; begin < count; begin += kScanThreads) {
    const int64_t i = begin + threadIdx.x;
    const BlockSums sums = SumOverBlock<kScanThreads>(i < count ? totals[i] : 0, DynamicShared<int32_t>());
    if (i < count) totals[i] = before + sums.before;
    before += sums.total;
  }
  if (threadIdx.x == 0) *total = before;
}

__global__ void ScanApplyKernel(int32_t* values, int64_t count, const int32_t* totals) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kScanBlock + threadIdx.x * kScanItems;
  int own[kScanItems], sum = 0;
  for (int i = 0; i < kScanItems; ++i) {
    own[i] = begin + i < count ? values[begin + i] : 0;
    sum += own[i];
  }
  const BlockSums sums = SumOverBlock<kScanThreads>(sum, DynamicShared<int32_t>());
  int before = totals[blockIdx.x] + sums.before;
  for (int i = 0; i < kScanItems; ++i) {
    if (begin + i < count) values[begin + i] = before;
    before += own[i];
  }
}

// histogram[digit * blocks + block]
__global__ void SortHistogramKernel(const uint32_t* keys, DeviceCount size, int shift, int32_t* histogram) {
  int32_t* counts = DynamicShared<int32_t>();
  SharedStore(counts + threadIdx.x, 0);
  __syncthreads();
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kSortBlock, count = Get(size);
  for (int i = threadIdx.x; i < kSortBlock; i += kSortThreads) {
    if (begin + i < count) atomicAdd(counts + (keys[begin + i] >> shift & 0xFF), 1);
  }
  __syncthreads();
  histogram[static_cast<int64_t>(threadIdx.x) * gridDim.x + blockIdx.x] = SharedLoad(counts + threadIdx.x);
}

__global__ void SortScatterKernel(SortPairs from, SortPairs to, DeviceCount size, int shift, const int32_t* histogram) {
  int32_t* next = DynamicShared<int32_t>();  // where the next item of each digit goes
  int32_t* in_warp = next + kSortThreads;    // (warp, digit): items of this round
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, digit_of_thread = threadIdx.x;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kSortBlock, count = Get(size);
  SharedStore(next + digit_of_thread, histogram[static_cast<int64_t>(digit_of_thread) * gridDim.x + blockIdx.x]);
  for (int round = 0; round < kSortRounds; ++round) {
    for (int w = 0; w < kSortWarps; ++w) SharedStore(in_warp + w * kSortThreads + digit_of_thread, 0);
    __syncthreads();
    const int64_t i = begin + round * kSortThreads + threadIdx.x;
    const uint32_t key = i < count ? from.keys[i] : 0;
    const unsigned digit = i < count ? key >> shift & 0xFF : kAllLanes;
    const unsigned same = __match_any_sync(kAllLanes, digit);
    const int rank = __popc(same & ((1U << lane) - 1));
    if (i < count && rank == 0) SharedStore(in_warp + warp * kSortThreads + digit, __popc(same));
    __syncthreads();
    if (i < count) {
      int at = SharedLoad(next + digit) + rank;
      for (int w = 0; w < warp; ++w) at += SharedLoad(in_warp + w * kSortThreads + digit);
      to.keys[at] = key;
      to.values[at] = from.values[i];
    }
    __syncthreads();
    int total = SharedLoad(next + digit_of_thread);
    for (int w = 0; w < kSortWarps; ++w) total += SharedLoad(in_warp + w * kSortThreads + digit_of_thread);
    SharedStore(next + digit_of_thread, total);
  }
}

}  // namespace

int64_t ScanScratch(int64_t count) { return Blocks(count, kScanBlock); }

int ExclusiveScan(int32_t* values, int64_t count, int32_t* scratch, void* stream) {
  constexpr int64_t kShared = kScanThreads / kWarp * 4;
  const int64_t blocks = ScanScratch(count);
  EARSHOT_CUDA_TRY(Launch(ScanTotalsKernel, {blocks}, kScanThreads, kShared, stream, values, count, scratch));
  EARSHOT_CUDA_TRY(Launch(ScanOfTotalsKernel, {1}, kScanThreads, kShared, stream, scratch, blocks, values + count));
  return Launch(ScanApplyKernel, {blocks}, kScanThreads, kShared, stream, values, count, scratch);
}

int64_t SortScratch(int64_t capacity) {
  const int64_t counts = kSortThreads * Blocks(capacity, kSortBlock);
  return counts + 1 + ScanScratch(counts);
}

int StableSort(SortPairs& pairs, SortPairs& other, DeviceCount size, int bits, int32_t* scratch, void* stream) {
  const int64_t blocks = Blocks(size.capacity, kSortBlock), counts = kSortThreads * blocks;
  if (blocks == 0) return 0;
  for (int shift = 0; shift < bits; shift += 8) {
    EARSHOT_CUDA_TRY(Launch(SortHistogramKernel, {blocks}, kSortThreads, kSortThreads * 4, stream, pairs.keys, size,
                            shift, scratch));
    EARSHOT_CUDA_TRY(ExclusiveScan(scratch, counts, scratch + counts + 1, stream));
    EARSHOT_CUDA_TRY(Launch(SortScatterKernel, {blocks}, kSortThreads, kSortThreads * (kSortWarps + 1) * 4, stream,
                            pairs, other, size, shift, scratch));
    const SortPairs sorted = other;
    other = pairs, pairs = sorted;
  }
  return 0;
}

}  // namespace earshot::cuda
