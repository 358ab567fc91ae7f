// What the kernels for GPUs of compute capability 9.0 share, for head_dim up to 64. As many blocks as the GPU holds go
// through the items of a problem. In each, three warps bring what an item needs step by step, each of them a stage of
// shared memory of its own, a fourth one what stays for the item, and two groups of four warps compute with it:
// products of four warps (wgmma) on swizzled tiles. Named barriers hand the buffers to and fro, so that nobody waits
// for more than they need.
#pragma once

#include "src/attention/cuda/key_stream.cuh"

namespace earshot::cuda {

struct Hopper {
  static constexpr int kDim = 64, kGroups = 2, kGroupThreads = 4 * kWarp, kComputing = kGroups * kGroupThreads;
  static constexpr int kThreads = kComputing + kGroupThreads;  // the last four warps bring
  static constexpr int kStages = kGroupThreads / kWarp - 1;
  static constexpr int kTileElements = kTile * kDim, kTileBytes = 2 * kTileElements;
  static constexpr int64_t kAlignment = 1024;
  static constexpr int kStagingBytes = kGroupRows * TileShape<kDim>::kPitch * 2;  // of a warp, for WriteRounded
  static constexpr int64_t kStaging = int64_t{kGroups} * 4 * kStagingBytes;

  // Registers of a thread that computes, and of one that brings, in eights. What all take must be what all were started
  // with, or they wait for ever.
  template <int kBlocks, int kOfComputing, int kOfBringing>
  static constexpr bool kRegistersFit = kGroups* kOfComputing + kOfBringing <=
                                        (kGroups + 1) * (65536 / (kBlocks * kThreads) / 8 * 8);

  // The shared memory of a block, on 1024 bytes.
  static __device__ __forceinline__ unsigned char* Shared() {
    unsigned char* shared = DynamicShared<unsigned char>();
    return shared + (kAlignment - reinterpret_cast<uintptr_t>(shared) % kAlignment) % kAlignment;
  }
  static __device__ __forceinline__ bool Brings() { return static_cast<int>(threadIdx.x) >= kComputing; }
  // 0 to 7 compute, those from 8 on bring; known to be the same for all lanes, which spares instructions.
  static __device__ __forceinline__ int Warp() {
    return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
  }
  // Of those that bring: 0 to kStages - 1, the stage; kStages brings what stays for an item.
  static __device__ __forceinline__ int BringingWarp() { return Warp() - kComputing / kWarp; }
};

// Buffers of shared memory that come round: `index` counts them from 0. The warp that brings waits until all groups
// have said that one is free; barriers kFirst to kFirst + kCount - 1.
template <int kFirst, int kCount>
struct FreeBarriers {
  static constexpr int kEnd = kFirst + kCount, kThreads = Hopper::kComputing + kWarp;

  static __device__ __forceinline__ void Wait(int index) {
    if (index >= kCount) WaitAtBarrier(kFirst + index % kCount, kThreads);
  }
  static __device__ __forceinline__ void Say(int index) { ArriveAtBarrier(kFirst + index % kCount, kThreads); }
};
// And the other way round, for each group by itself.
template <int kFirst, int kCount>
struct FullBarriers {
  static constexpr int kEnd = kFirst + Hopper::kGroups * kCount, kPair = Hopper::kGroupThreads + kWarp;
  static_assert(kEnd <= 16);

  static __device__ __forceinline__ void Say(int index) {
    for (int group = 0; group < Hopper::kGroups; ++group)
      ArriveAtBarrier(kFirst + group * kCount + index % kCount, kPair);
  }
  static __device__ __forceinline__ void Wait(int index, int group) {
    WaitAtBarrier(kFirst + group * kCount + index % kCount, kPair);
  }
};

// The barriers of the stages, and of what stays for an item, which there is twice: for one item and for the next.
struct HopperBarriers {
  using Free = FreeBarriers<1, Hopper::kStages>;
  using Full = FullBarriers<Free::kEnd, Hopper::kStages>;
  using ItemFree = FreeBarriers<Full::kEnd, 2>;
  using ItemFull = FullBarriers<ItemFree::kEnd, 2>;
};

// Buffer `index` is full once the copies of this warp are there.
template <class Full>
__device__ __forceinline__ void SayFull(int index) {
  CommitCopies();
  WaitCopies<0>();
  FenceForProducts();
  Full::Say(index);
}

// By a warp: begins to copy 64 rows of one head into a swizzled tile, zeros where one is negative. A lane
// has two chunks of the rows lane / 4 + 8 i, which are rows[i].
inline constexpr int kLaneRows = kTile / 8;
__device__ __forceinline__ void BringTile(uint16_t* tile, const Rows& from, const int (&rows)[kLaneRows]) {
  const int lane = threadIdx.x % kWarp, chunk = lane % 4;
  const bool inside = chunk * 8 < from.head_dim, inside_second = chunk * 8 + 32 < from.head_dim;
  uint16_t* first = tile + SwizzledChunk(lane / 4, chunk);
  uint16_t* second = tile + SwizzledChunk(lane / 4, chunk + 4);
  EARSHOT_UNROLL
  for (int i = 0; i < kLaneRows; ++i) {
    const uint16_t* row = from.At(rows[i], chunk * 8);
    CopyAsync<16>(first + i * 8 * Hopper::kDim, row, inside && rows[i] >= 0);
    CopyAsync<16>(second + i * 8 * Hopper::kDim, row + 32, inside_second && rows[i] >= 0);
  }
}
// Of the rows from `first` on, `count` of them at most.
__device__ __forceinline__ void BringRows(uint16_t* tile, const Rows& from, int first, int count) {
  int rows[kLaneRows];
  EARSHOT_UNROLL
  for (int i = 0; i < kLaneRows; ++i) {
    const int r = static_cast<int>(threadIdx.x) % kWarp / 4 + 8 * i;
    rows[i] = r < count ? first + r : -1;
  }
  BringTile(tile, from, rows);
}
// The lane's rows, where lane i knows rows i and i + 32.
__device__ __forceinline__ void LaneRows(int row, int second_row, int (&rows)[kLaneRows]) {
  EARSHOT_UNROLL
  for (int i = 0; i < kLaneRows; ++i) {
    const int source = static_cast<int>(threadIdx.x) % kWarp / 4 + i % 4 * 8;
    rows[i] = __shfl_sync(kAllLanes, i < 4 ? row : second_row, source);
  }
}

// ---- Kernels that go by tiles of queries ----

// What a block works on: one tile of queries for one head, 64 of its queries by a group.
struct HopperItem {
  int list, head;
};
__device__ __forceinline__ HopperItem ItemOf(const CudaAttentionArguments& a, int item) {
  return {item / a.heads, item % a.heads};
}

// 64 keys and values.
struct alignas(16) HopperEntries {
  uint32_t bounds[kTile];  // BoundsOf each, 0 where there is none
  float biases[kTile];     // added to logits, to base 2
  PairBits flags;          // of 32 entries each, as below
  // Bit w: each of the entries is seen by all queries of warp w. Bit kAny + g: one of them is seen by a query of group
  // g. kLast: they are the last ones of a tile and head.
  static constexpr int kAny = 8, kLast = 16;
};

// HopperEntries::flags of one entry, seen by queries [first, end) of the tile.
__device__ __forceinline__ uint32_t FlagsOf(int first, int end, int num_queries) {
  static_assert(Hopper::kGroups == 2 && kCudaTileQueries / kGroupRows == HopperEntries::kAny);
  const int full_end = end >= num_queries ? HopperEntries::kAny : end / kGroupRows;
  const int full_first = (first + kGroupRows - 1) / kGroupRows;
  const uint32_t warps = ((1U << full_end) - 1) & ~((1U << full_first) - 1);
  return warps | (first < kTile && first < end ? 1U << HopperEntries::kAny : 0U) |
         (end > kTile && first < end ? 2U << HopperEntries::kAny : 0U);
}

// The stages of keys and values; and kLeft matrices of the 128 queries of an item.
template <int kLeft>
class KeyStages {
  static constexpr int kStages = Hopper::kStages;

 public:
  static constexpr int64_t kSharedBytes =
      (2 * kStages + 2 * kLeft * Hopper::kGroups) * Hopper::kTileBytes + kStages * int64_t{sizeof(HopperEntries)};

  __device__ __forceinline__ explicit KeyStages(unsigned char* shared)
      : tiles_(reinterpret_cast<uint16_t*>(shared)),
        entries_(reinterpret_cast<HopperEntries*>(shared + kSharedBytes - kStages * sizeof(HopperEntries))) {}

  __device__ __forceinline__ uint16_t* key_rows(int index) const {
    return tiles_ + index % kStages * 2 * Hopper::kTileElements;
  }
  __device__ __forceinline__ uint16_t* value_rows(int index) const { return key_rows(index) + Hopper::kTileElements; }
  __device__ __forceinline__ HopperEntries& entries(int index) const { return entries_[index % kStages]; }
  // 64 queries of a group, of the turn-th item.
  __device__ __forceinline__ uint16_t* left_rows(int turn, int matrix, int group) const {
    const int tile = 2 * kStages + (turn % 2 * kLeft + matrix) * Hopper::kGroups + group;
    return tiles_ + tile * Hopper::kTileElements;
  }

 private:
  uint16_t* tiles_;
  HopperEntries* entries_;
};

// What the warps that bring do, each of the first ones every kStages-th stage. bring_left(turn, item, tile) begins the
// copies of what belongs to the queries.
template <class Stages, class BringLeft>
__device__ __forceinline__ void BringKeys(const Problem& p, const Stages& stages, int items, BringLeft bring_left) {
  using Barriers = HopperBarriers;
  const CudaAttentionArguments& a = p.arguments;
  const int lane = threadIdx.x % kWarp;
  int item = static_cast<int>(blockIdx.x);
  if (Hopper::BringingWarp() == Hopper::kStages) {
    for (int turn = 0; item < items; item += static_cast<int>(gridDim.x), ++turn) {
      const HopperItem of = ItemOf(a, item);
      const CudaQueryTile tile = a.lists.tiles[of.list];
      Barriers::ItemFree::Wait(turn);
      bring_left(turn, of, tile);
      SayFull<Barriers::ItemFull>(turn);
    }
    return;
  }
  int before = 0;  // stages of the items before this one
  for (int index = Hopper::BringingWarp(); item < items; item += static_cast<int>(gridDim.x)) {
    const HopperItem of = ItemOf(a, item);
    const int begin = a.lists.tile_offsets[of.list], end = a.lists.tile_offsets[of.list + 1];
    // A tile without entries gets a stage as well: its queries get zeros.
    const int steps = Max((end - begin + kTile - 1) / kTile, 1);
    for (; index < before + steps; index += Hopper::kStages) {
      const int num_queries = a.lists.tiles[of.list].num_queries;
      const bool last = index + 1 == before + steps;
      CudaKeyEntry entries[2];
      EARSHOT_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int entry = begin + (index - before) * kTile + i * kWarp + lane;
        entries[i] = entry < end ? a.lists.entries[entry] : CudaKeyEntry{-1, 0, 0, -1};
      }
      int rows[kLaneRows];
      LaneRows(entries[0].row, entries[1].row, rows);
      Barriers::Free::Wait(index);
      const int kv_head = of.head / (a.heads / a.kv_heads);
      BringTile(stages.key_rows(index), HeadOf(a.k, kv_head, a.head_dim, true), rows);
      BringTile(stages.value_rows(index), HeadOf(a.v, kv_head, a.head_dim, true), rows);
      HopperEntries& to = stages.entries(index);
      uint32_t flags[2];
      EARSHOT_UNROLL
      for (int i = 0; i < 2; ++i) {
        const CudaKeyEntry& entry = entries[i];
        SharedStore(to.bounds + i * kWarp + lane, BoundsOf(entry));
        if (p.biased)
          SharedStore(to.biases + i * kWarp + lane, entry.row < 0 ? 0.F : EntryBias(a, entry.row, entry.score));
        const uint32_t of_entry = FlagsOf(entry.first, entry.end, num_queries);
        constexpr uint32_t kWarpBits = (1U << HopperEntries::kAny) - 1;
        flags[i] = (__reduce_and_sync(kAllLanes, of_entry) & kWarpBits) |
                   (__reduce_or_sync(kAllLanes, of_entry) & ~kWarpBits) | (last ? 1U << HopperEntries::kLast : 0U);
      }
      if (lane == 0) SharedStore(&to.flags, PairBits{flags[0], flags[1]});
      SayFull<Barriers::Full>(index);
    }
    before += steps;
  }
}

// c = left times the transpose of right, over all channels; in the background.
template <class T, int kColumns>
__device__ __forceinline__ void BeginMultiply(Sums<1, kColumns>& c, const uint16_t* left, const uint16_t* right) {
  const uint32_t a = TileDescriptor(left), b = TileDescriptor(right);
  EARSHOT_UNROLL
  for (int i = 0; i < Hopper::kDim / 16; ++i) MultiplyTiles<T>(c[0], a + 2 * i, b + 2 * i, i > 0);
}
// c += weights times the rows of the tile; in the background.
template <class T, int kDepth>
__device__ __forceinline__ void BeginAddWeighted(Sums<1, Hopper::kDim>& c, const Packed<1, kDepth>& weights,
                                                 const uint16_t* tile) {
  const uint32_t b = TileDescriptor(tile);
  EARSHOT_UNROLL
  for (int i = 0; i < kDepth / 16; ++i) AddWeightedTile<T>(c[0], weights[0][i], b + 128 * i);
}

}  // namespace earshot::cuda
