// The lists by key. Rows are ordered by how many entries they have, in powers of two, so that a tile of 64 keys holds
// keys that are seen alike: 64 anchors together cost as much as one alone. Then the entries are sorted by key tile; the
// sort is stable and the lists go by tiles of queries, so that those of one pair of tiles lie together: a segment.
#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/launch.cuh"
#include "src/attention/cuda/scan_sort.cuh"

namespace earshot::cuda {
namespace {

constexpr int kItemThreads = 256;  // a thread for each item
constexpr int kKeyTile = 64;

__device__ __forceinline__ int64_t Item() { return static_cast<int64_t>(blockIdx.x) * kItemThreads + threadIdx.x; }

template <class... P, class... A>
int LaunchItems(void (*kernel)(P...), int64_t items, void* stream, A... arguments) {
  return Launch(kernel, {Blocks(items, kItemThreads)}, kItemThreads, 0, stream, arguments...);
}

__global__ void FillKernel(int32_t* values, int64_t count, int32_t value) {
  if (Item() < count) values[Item()] = value;
}

// Sums of whole numbers, the same in any order.
__global__ void RowCountKernel(const CudaKeyEntry* entries, DeviceCount size, int32_t* counts) {
  if (Item() < Get(size)) atomicAdd(counts + entries[Item()].row, 1);
}

constexpr int kRowClassBits = 6;
__global__ void RowClassKernel(const int32_t* counts, int64_t rows, SortPairs pairs) {
  if (Item() >= rows) return;
  pairs.keys[Item()] = __clz(counts[Item()]);  // the most first, none last
  pairs.values[Item()] = static_cast<int32_t>(Item());
}

__global__ void SlotKernel(const int32_t* row_order, int64_t rows, int32_t* slots) {
  if (Item() < rows) slots[row_order[Item()]] = static_cast<int32_t>(Item());
}

__global__ void EntryTileKernel(const CudaKeyEntry* entries, DeviceCount size, const int32_t* slots, SortPairs pairs) {
  if (Item() >= Get(size)) return;
  pairs.keys[Item()] = slots[entries[Item()].row] / kKeyTile;
  pairs.values[Item()] = static_cast<int32_t>(Item());
}

// The tile of queries that an entry belongs to: the last one that does not begin behind it.
__device__ __forceinline__ int32_t TileOf(const int32_t* offsets, int32_t num_tiles, int32_t entry) {
  int32_t begin = 0, end = num_tiles;
  while (end - begin > 1) {
    const int32_t middle = (begin + end) / 2;
    (offsets[middle] <= entry ? begin : end) = middle;
  }
  return begin;
}

__global__ void GatherKernel(CudaKeyLists lists, DeviceCount size, const int32_t* slots, const int32_t* order,
                             CudaTransposedEntry* to) {
  if (Item() >= Get(size)) return;
  const CudaKeyEntry entry = lists.entries[order[Item()]];
  CudaTransposedEntry transposed;
  transposed.tile = TileOf(lists.tile_offsets, lists.num_tiles, order[Item()]);
  transposed.slot = static_cast<uint8_t>(slots[entry.row] % kKeyTile);
  transposed.first = entry.first, transposed.end = entry.end, transposed.score = entry.score;
  to[Item()] = transposed;
}

__device__ __forceinline__ bool SameSegment(const uint32_t* keys, const CudaTransposedEntry* entries, int64_t a,
                                            int64_t b) {
  return keys[a] == keys[b] && entries[a].tile == entries[b].tile;
}

__global__ void LayerKernel(const uint32_t* keys, DeviceCount size, CudaTransposedEntry* entries) {
  const int64_t item = Item();
  if (item >= Get(size)) return;
  int layer = 0;
  for (int64_t i = item - 1; i >= 0 && SameSegment(keys, entries, i, item); --i)
    layer += entries[i].slot == entries[item].slot ? 1 : 0;
  entries[item].layer = static_cast<uint8_t>(layer);
}

// Parts of 64 queries of its tile that see the entry.
__device__ __forceinline__ unsigned PartsOf(const CudaTransposedEntry& entry) {
  static_assert(kCudaTileQueries == 2 * kKeyTile);
  return (entry.first < kKeyTile ? 1U : 0U) | (entry.end > kKeyTile ? 2U : 0U);
}

// Counts the segments that begin at each entry, one for each layer; with the prefix sums of the counts, writes them.
template <bool kFill>
__global__ void SegmentKernel(const uint32_t* keys, DeviceCount size, const CudaTransposedEntry* entries,
                              int32_t* counts, CudaSegment* segments) {
  const int64_t item = Item(), count = Get(size);
  if (item >= size.capacity) return;
  int layers = 0;
  if (item < count && (item == 0 || !SameSegment(keys, entries, item - 1, item))) {
    int64_t end = item;
    for (; end < count && SameSegment(keys, entries, item, end); ++end) layers = Max(layers, entries[end].layer + 1);
    if constexpr (kFill) {
      for (int layer = 0; layer < layers; ++layer) {
        unsigned parts = 0;
        for (int64_t i = item; i < end; ++i)
          if (entries[i].layer == layer) parts |= PartsOf(entries[i]);
        segments[counts[item] + layer] = {entries[item].tile, static_cast<int32_t>(item), static_cast<int32_t>(end),
                                          static_cast<int16_t>(layer), static_cast<uint16_t>(parts)};
      }
    }
  }
  if constexpr (!kFill) counts[item] = layers;
}

__global__ void SegmentOffsetsKernel(const uint32_t* keys, DeviceCount size, const int32_t* starts, int64_t key_tiles,
                                     int32_t* offsets) {
  if (Item() <= key_tiles) offsets[Item()] = starts[LowerBound(keys, Get(size), static_cast<uint32_t>(Item()))];
}

__global__ void ScoreKernel(const CudaTransposedEntry* entries, DeviceCount size, int32_t num_scores, SortPairs pairs) {
  if (Item() >= Get(size)) return;
  const int32_t score = entries[Item()].score;
  pairs.keys[Item()] = score >= 0 && score < num_scores ? score : num_scores;
  pairs.values[Item()] = static_cast<int32_t>(Item());
}

__global__ void ScoreOffsetsKernel(const uint32_t* keys, DeviceCount size, int64_t num_scores, int32_t* offsets) {
  if (Item() <= num_scores)
    offsets[Item()] = static_cast<int32_t>(LowerBound(keys, Get(size), static_cast<uint32_t>(Item())));
}

struct Layout {
  int64_t rows, capacity, key_tiles;
  int32_t *row_counts, *slots, *sort_scratch, *starts, *scan_scratch, *segment_offsets, *score_offsets;
  SortPairs row_pairs[2], pairs[2], score_pairs[2];
  CudaTransposedEntry* entries;
  CudaSegment* segments;
  int64_t bytes;
};

SortPairs TakePairs(Carver& carver, int64_t count) {
  return {carver.Take<uint32_t>(count), carver.Take<int32_t>(count)};
}

int LayOut(const CudaTransposeArguments& a, void* memory, Layout* layout) {
  if (a.num_keys < 0 || a.num_keys >= kCudaEndless || a.num_scores < 0) return kRowsOutOfRange;
  if (a.lists.capacity < 0 || a.lists.capacity >= INT32_MAX || a.lists.num_tiles < 0) return kListsOutOfRange;
  Layout& l = *layout;
  l.rows = a.num_keys, l.capacity = a.lists.capacity, l.key_tiles = Blocks(a.num_keys, kKeyTile);
  Carver carver(memory);
  l.row_counts = carver.Take<int32_t>(l.rows);
  l.slots = carver.Take<int32_t>(l.rows);
  l.sort_scratch = carver.Take<int32_t>(SortScratch(Max(l.rows, l.capacity)));
  l.starts = carver.Take<int32_t>(l.capacity + 1);
  l.scan_scratch = carver.Take<int32_t>(ScanScratch(l.capacity));
  l.segment_offsets = carver.Take<int32_t>(l.key_tiles + 1);
  for (SortPairs& pairs : l.row_pairs) pairs = TakePairs(carver, l.rows);
  for (SortPairs& pairs : l.pairs) pairs = TakePairs(carver, l.capacity);
  l.entries = carver.Take<CudaTransposedEntry>(l.capacity);
  l.segments = carver.Take<CudaSegment>(l.capacity);
  // The pairs that sorted the entries are free again.
  for (int i = 0; i < 2; ++i) l.score_pairs[i] = l.pairs[i];
  l.score_offsets = carver.Take<int32_t>(l.capacity > 0 || a.num_scores > 0 ? a.num_scores + 1 : 0);
  l.bytes = carver.bytes();
  return 0;
}

int SortRows(const CudaTransposeArguments& a, Layout& l, DeviceCount size, void* stream) {
  EARSHOT_CUDA_TRY(LaunchItems(FillKernel, l.rows, stream, l.row_counts, l.rows, 0));
  EARSHOT_CUDA_TRY(LaunchItems(RowCountKernel, l.capacity, stream, a.lists.entries, size, l.row_counts));
  EARSHOT_CUDA_TRY(LaunchItems(RowClassKernel, l.rows, stream, l.row_counts, l.rows, l.row_pairs[0]));
  EARSHOT_CUDA_TRY(
      StableSort(l.row_pairs[0], l.row_pairs[1], {nullptr, l.rows}, kRowClassBits, l.sort_scratch, stream));
  return LaunchItems(SlotKernel, l.rows, stream, l.row_pairs[0].values, l.rows, l.slots);
}

int MakeSegments(const CudaTransposeArguments& a, Layout& l, DeviceCount size, void* stream) {
  EARSHOT_CUDA_TRY(LaunchItems(EntryTileKernel, l.capacity, stream, a.lists.entries, size, l.slots, l.pairs[0]));
  EARSHOT_CUDA_TRY(StableSort(l.pairs[0], l.pairs[1], size, BitsFor(l.key_tiles), l.sort_scratch, stream));
  const uint32_t* keys = l.pairs[0].keys;
  EARSHOT_CUDA_TRY(LaunchItems(GatherKernel, l.capacity, stream, a.lists, size, l.slots, l.pairs[0].values, l.entries));
  EARSHOT_CUDA_TRY(LaunchItems(LayerKernel, l.capacity, stream, keys, size, l.entries));
  EARSHOT_CUDA_TRY(LaunchItems(SegmentKernel<false>, l.capacity, stream, keys, size, l.entries, l.starts, l.segments));
  EARSHOT_CUDA_TRY(ExclusiveScan(l.starts, l.capacity, l.scan_scratch, stream));
  EARSHOT_CUDA_TRY(LaunchItems(SegmentKernel<true>, l.capacity, stream, keys, size, l.entries, l.starts, l.segments));
  return LaunchItems(SegmentOffsetsKernel, l.key_tiles + 1, stream, keys, size, l.starts, l.key_tiles,
                     l.segment_offsets);
}

int SortScores(const CudaTransposeArguments& a, Layout& l, DeviceCount size, void* stream) {
  EARSHOT_CUDA_TRY(LaunchItems(ScoreKernel, l.capacity, stream, l.entries, size, a.num_scores, l.score_pairs[0]));
  EARSHOT_CUDA_TRY(StableSort(l.score_pairs[0], l.score_pairs[1], size, BitsFor(a.num_scores), l.sort_scratch, stream));
  return LaunchItems(ScoreOffsetsKernel, a.num_scores + 1, stream, l.score_pairs[0].keys, size, a.num_scores,
                     l.score_offsets);
}

}  // namespace

int64_t TransposedListsBytes(const CudaTransposeArguments& arguments) {
  Layout layout;
  EARSHOT_CUDA_TRY(LayOut(arguments, nullptr, &layout));
  return layout.bytes;
}

int BuildTransposedLists(const CudaTransposeArguments& arguments, void* memory, CudaTransposedLists* lists,
                         void* stream) {
  Layout layout;
  EARSHOT_CUDA_TRY(LayOut(arguments, memory, &layout));
  if (!memory || !lists || !arguments.lists.tile_offsets) return kNullPointer;
  const DeviceCount size = {arguments.lists.tile_offsets + arguments.lists.num_tiles, layout.capacity};
  EARSHOT_CUDA_TRY(SortRows(arguments, layout, size, stream));
  EARSHOT_CUDA_TRY(MakeSegments(arguments, layout, size, stream));
  if (arguments.num_scores > 0) EARSHOT_CUDA_TRY(SortScores(arguments, layout, size, stream));
  *lists = {static_cast<int32_t>(layout.key_tiles), layout.row_pairs[0].values, layout.segment_offsets, layout.segments,
            layout.entries};
  if (arguments.num_scores > 0) {
    lists->score_offsets = layout.score_offsets;
    lists->score_entries = layout.score_pairs[0].values;
  }
  return 0;
}

}  // namespace earshot::cuda
