// The forward pass for head_dim up to 64 on GPUs of compute capability 9.0. As many blocks as the GPU holds go through
// the tiles and heads. In each, a group of four warps brings queries, and keys and values, 64 entries a stage; two
// groups compute with them, each for 64 of the 128 queries. Named barriers hand the stages to and fro, so that neither
// waits for more than it needs. The products are those of four warps (wgmma) on swizzled tiles in shared memory.
#pragma once

#include "src/attention/cuda/forward_kernel.cuh"

namespace earshot::cuda {

// Shared memory, on 1024 bytes.
struct HopperShape {
  static constexpr int kDim = 64, kStages = 3, kGroups = 2;
  static constexpr int kGroupThreads = 4 * kWarp, kThreads = (kGroups + 1) * kGroupThreads;
  // Registers of a thread: two blocks share the 65536 of a multiprocessor, in eights, and what the groups take must be
  // what all were started with, or they wait for ever.
  static constexpr int kStart = 65536 / (2 * kThreads) / 8 * 8, kBringing = 32, kComputing = 104;
  static_assert(kBringing + kGroups * kComputing <= (kGroups + 1) * kStart);
  static constexpr int kTileElements = kTile * kDim;
  static constexpr int64_t kAlignment = 1024;

  struct alignas(16) Entries {
    uint32_t bounds[kTile];  // BoundsOf each, 0 where there is none
    float biases[kTile];     // added to logits, to base 2
    PairBits flags;          // of 32 entries each, as below
  };
  // Bit w: each of the entries is seen by all queries of warp w. Bit kAny + g: one of them is seen by a query of group
  // g. kLast: they are the last ones of a tile and head.
  static constexpr int kAny = 8, kLast = 16;
  static constexpr int64_t kQueries = int64_t{kStages} * 2 * kTileElements * 2;
  static constexpr int64_t kEntries = kQueries + int64_t{2} * kGroups * kTileElements * 2;
  static constexpr int64_t kStaging = kEntries + kStages * int64_t{sizeof(Entries)};
  static constexpr int kStagingBytes = kGroupRows * TileShape<kDim>::kPitch * 2;  // of a warp
  static constexpr int64_t kSharedBytes = kStaging + kGroups * 4 * kStagingBytes + kAlignment;
};

// What a block works on: one tile of queries for one head.
struct HopperItem {
  int list, head;
};
__device__ __forceinline__ HopperItem ItemOf(const CudaAttentionArguments& a, int item) {
  return {item / a.heads, item % a.heads};
}

// The stages of keys and values, on both sides of the barriers. Stages come round: `index` counts them from 0.
class HopperStages {
  using Shape = HopperShape;

 public:
  __device__ __forceinline__ explicit HopperStages(unsigned char* shared)
      : tiles_(reinterpret_cast<uint16_t*>(shared)),
        entries_(reinterpret_cast<Shape::Entries*>(shared + Shape::kEntries)) {}

  __device__ __forceinline__ uint16_t* key_rows(int index) const {
    return tiles_ + index % Shape::kStages * 2 * Shape::kTileElements;
  }
  __device__ __forceinline__ uint16_t* value_rows(int index) const { return key_rows(index) + Shape::kTileElements; }
  // 64 queries of a group; those of one item and of the next.
  __device__ __forceinline__ uint16_t* query_rows(int turn, int group) const {
    return tiles_ + Shape::kQueries / 2 + (turn % 2 * Shape::kGroups + group) * Shape::kTileElements;
  }
  __device__ __forceinline__ Shape::Entries& entries(int index) const { return entries_[index % Shape::kStages]; }

  // By the group that brings: nobody reads the stage any more; and, it is there.
  __device__ __forceinline__ void WaitUntilFree(int index) const {
    if (index >= Shape::kStages) WaitAtBarrier(FreeBarrier(index), Shape::kThreads);
  }
  __device__ __forceinline__ void WaitUntilQueriesFree(int turn) const {
    if (turn >= 2) WaitAtBarrier(QueriesBarrier(turn), Shape::kThreads);
  }
  __device__ __forceinline__ void SayFull(int index) const {
    for (int group = 0; group < Shape::kGroups; ++group) ArriveAtBarrier(FullBarrier(index, group), kPair);
  }
  // By a group that computes.
  __device__ __forceinline__ void WaitUntilFull(int index, int group) const {
    WaitAtBarrier(FullBarrier(index, group), kPair);
  }
  __device__ __forceinline__ void SayFree(int index) const { ArriveAtBarrier(FreeBarrier(index), Shape::kThreads); }
  __device__ __forceinline__ void SayQueriesFree(int turn) const {
    ArriveAtBarrier(QueriesBarrier(turn), Shape::kThreads);
  }

 private:
  static constexpr int kPair = 2 * Shape::kGroupThreads;

  static __device__ __forceinline__ int FreeBarrier(int index) { return 1 + index % Shape::kStages; }
  static __device__ __forceinline__ int FullBarrier(int index, int group) {
    return 1 + (1 + group) * Shape::kStages + index % Shape::kStages;
  }
  static __device__ __forceinline__ int QueriesBarrier(int turn) {
    return 1 + (1 + Shape::kGroups) * Shape::kStages + turn % 2;
  }

  uint16_t* tiles_;
  Shape::Entries* entries_;
};

// HopperShape::Entries::flags of one entry, seen by queries [first, end) of the tile.
__device__ __forceinline__ uint32_t FlagsOf(int first, int end, int num_queries) {
  using Shape = HopperShape;
  static_assert(Shape::kGroups == 2 && kCudaTileQueries / kGroupRows == Shape::kAny);
  const int full_end = end >= num_queries ? Shape::kAny : end / kGroupRows;
  const int full_first = (first + kGroupRows - 1) / kGroupRows;
  const uint32_t warps = ((1U << full_end) - 1) & ~((1U << full_first) - 1);
  return warps | (first < kTile && first < end ? 1U << Shape::kAny : 0U) |
         (end > kTile && first < end ? 2U << Shape::kAny : 0U);
}

// What the group that brings does: thread i has entry i % 64 of a step, and copies chunks i % 8. What leads to the next
// copies is read before the last ones are waited for.
__device__ __forceinline__ void BringKeys(const Problem& p, const HopperStages& stages, int items) {
  using Shape = HopperShape;
  constexpr int kRowsATurn = Shape::kGroupThreads / 8, kTurns = kTile / kRowsATurn;
  const CudaAttentionArguments& a = p.arguments;
  const int thread = static_cast<int>(threadIdx.x) % Shape::kGroupThreads;
  const int chunk = thread % 8, first = thread / 8;
  const bool inside = chunk * 8 < a.head_dim;
  int rows[kTurns];
  const auto load_rows = [&](int at, int end) {
    EARSHOT_UNROLL
    for (int i = 0; i < kTurns; ++i) {
      const int entry = at + first + i * kRowsATurn;
      rows[i] = entry < end ? a.lists.entries[entry].row : -1;
    }
  };
  int item = static_cast<int>(blockIdx.x), turn = 0, index = 0;
  int begin = a.lists.tile_offsets[ItemOf(a, item).list], end = a.lists.tile_offsets[ItemOf(a, item).list + 1];
  load_rows(begin, end);
  for (; item < items; ++turn) {
    const HopperItem of = ItemOf(a, item);
    const int next_item = item + static_cast<int>(gridDim.x), next_list = ItemOf(a, next_item).list;
    const int next_begin = next_item < items ? a.lists.tile_offsets[next_list] : 0;
    const int next_end = next_item < items ? a.lists.tile_offsets[next_list + 1] : 0;
    const CudaQueryTile tile = a.lists.tiles[of.list];
    const Rows queries = HeadOf(a.q, of.head, a.head_dim, true);
    stages.WaitUntilQueriesFree(turn);
    EARSHOT_NO_UNROLL
    for (int r = first; r < Shape::kGroups * kTile; r += kRowsATurn) {
      CopyAsync<16>(stages.query_rows(turn, 0) + SwizzledChunk(r, chunk), queries.At(tile.first_query + r, chunk * 8),
                    inside && r < tile.num_queries);
    }
    const Rows keys = HeadOf(a.k, of.head / (a.heads / a.kv_heads), a.head_dim, true);
    const Rows values = HeadOf(a.v, of.head / (a.heads / a.kv_heads), a.head_dim, true);
    // A tile without entries gets a stage as well: its queries get zeros.
    bool last = false;
    for (int at = begin; !last; at += kTile, ++index) {
      last = at + kTile >= end;
      stages.WaitUntilFree(index);
      uint16_t* to = stages.key_rows(index) + SwizzledChunk(first, chunk);
      EARSHOT_UNROLL
      for (int i = 0; i < kTurns; ++i) {
        static_assert(kRowsATurn % 8 == 0);  // the rows of a thread are swizzled alike
        uint16_t* key = to + i * kRowsATurn * Shape::kDim;
        CopyAsync<16>(key, keys.At(rows[i], chunk * 8), inside && rows[i] >= 0);
        CopyAsync<16>(key + Shape::kTileElements, values.At(rows[i], chunk * 8), inside && rows[i] >= 0);
      }
      CommitCopies();
      if (thread < kTile) {
        uint32_t bounds = 0, flags = 0;
        float bias = 0;
        if (at + thread < end) {
          const CudaKeyEntry& entry = a.lists.entries[at + thread];
          bounds = BoundsOf(entry);
          flags = FlagsOf(entry.first, entry.end, tile.num_queries);
          if (p.biased) bias = EntryBias(a, entry.row, entry.score);
        }
        Shape::Entries& entries = stages.entries(index);
        SharedStore(entries.bounds + thread, bounds);
        SharedStore(entries.biases + thread, bias);
        const uint32_t warps = __reduce_and_sync(kAllLanes, flags) & ((1U << Shape::kAny) - 1);
        const uint32_t groups = __reduce_or_sync(kAllLanes, flags) >> Shape::kAny << Shape::kAny;
        if (thread % kWarp == 0) {
          SharedStore(thread == 0 ? &entries.flags.x : &entries.flags.y,
                      warps | groups | (last ? 1U << Shape::kLast : 0U));
        }
      }
      load_rows(last ? next_begin : at + kTile, last ? next_end : end);
      if (index > 0) {
        WaitCopies<1>();
        FenceForProducts();
        stages.SayFull(index - 1);
      }
    }
    item = next_item, begin = next_begin, end = next_end;
  }
  WaitCopies<0>();
  FenceForProducts();
  stages.SayFull(index - 1);
}

// What a warp of a computing group does.
template <class T>
__device__ __forceinline__ void ComputeItems(const Problem& p, const HopperStages& stages, unsigned char* staging,
                                             int items) {
  using Shape = HopperShape;
  constexpr int kDim = Shape::kDim;
  const CudaAttentionArguments& a = p.arguments;
  const int lane = threadIdx.x % kWarp;
  // Known to be the same for all lanes, which spares instructions.
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0), group = warp / 4;
  const int first = warp * kGroupRows;  // of the tile
  OnlineSoftmax<T, kDim, 1> softmax(p.biased ? 1.F : p.log2_scale);
  int index = 0, turn = 0;
  for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x), ++turn) {
    const HopperItem of = ItemOf(a, item);
    const CudaQueryTile tile = a.lists.tiles[of.list];
    Sums<1, kDim> out = {};
    softmax.Reset();
    bool zeros = true;
    for (bool last = false; !last; ++index) {
      stages.WaitUntilFull(index, group);
      const Shape::Entries& entries = stages.entries(index);
      const PairBits flags = SharedLoad(&entries.flags);
      last = (flags.x >> Shape::kLast & 1) != 0;
      const bool any = ((flags.x | flags.y) >> (Shape::kAny + group) & 1) != 0;
      Sums<1, kTile> logits;
      if (any) {
        const uint64_t queries = TileDescriptor(stages.query_rows(turn, group));
        const uint64_t keys = TileDescriptor(stages.key_rows(index));
        BeginProducts();
        EARSHOT_UNROLL
        for (int i = 0; i < kDim / 16; ++i) MultiplyTiles<T>(logits[0], queries + 2 * i, keys + 2 * i, i > 0);
        EndProducts(logits[0]);
      }
      if (last) stages.SayQueriesFree(turn);
      if (any) {
        if (p.biased) AddBiases<kTile>(logits, p.log2_scale, entries.biases);
        if ((flags.x >> warp & 1) == 0) MaskLogits<kTile, 0, kTile / 2>(logits, entries.bounds, first + lane / 4);
        if ((flags.y >> warp & 1) == 0) MaskLogits<kTile, kTile / 2, kTile>(logits, entries.bounds, first + lane / 4);
        softmax.template Weigh<kTile>(logits, zeros, out);
        zeros = false;
        Packed<1, kTile> weights;
        Pack<T, kTile>(logits, weights);
        const uint64_t values = TileDescriptor(stages.value_rows(index));
        BeginProducts();
        EARSHOT_UNROLL
        for (int i = 0; i < kTile / 16; ++i) AddWeightedTile<T>(out[0], weights[0][i], values + 128 * i);
        softmax.template AddTotals<kTile>(weights);
        EndProducts(out[0]);
      }
      stages.SayFree(index);
    }
    const auto row_of = [&](int r) { return first + r < tile.num_queries ? tile.first_query + first + r : -1; };
    float scales[2];
    softmax.Finish(a, of.head, 0, row_of, scales);
    WriteRounded<T, kDim>(out[0], scales[0], scales[1], staging + warp * Shape::kStagingBytes, a.out, of.head,
                          a.head_dim, row_of);
  }
}

// Tile and head i / heads and i % heads of items, for blockIdx.x and every gridDim.x-th after it; gridDim.x <= items.
template <class T>
__global__ void __launch_bounds__(HopperShape::kThreads, 2)
    HopperForwardKernel(const __grid_constant__ Problem p, int items) {
  using Shape = HopperShape;
  unsigned char* shared = DynamicShared<unsigned char>();
  shared += (Shape::kAlignment - reinterpret_cast<uintptr_t>(shared) % Shape::kAlignment) % Shape::kAlignment;
  const HopperStages stages(shared);
  if (static_cast<int>(threadIdx.x) < Shape::kGroups * Shape::kGroupThreads) {
    TakeRegisters<Shape::kComputing>();
    ComputeItems<T>(p, stages, shared + Shape::kStaging, items);
  } else {
    GiveUpRegisters<Shape::kBringing>();
    BringKeys(p, stages, items);
  }
}

}  // namespace earshot::cuda
