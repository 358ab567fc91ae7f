// What the kernels for GPUs of compute capability 9.0 share, for head_dim up to 64. As many blocks as the GPU holds go
// through the items of a problem. In each, some warps bring what an item needs step by step, each of them a stage of
// shared memory of its own, another one what stays for the item, and two groups of four warps compute with it: products
// of four warps (wgmma) on swizzled tiles. Rings of buffers hand them to and fro, so that nobody waits for more than
// they need.
#pragma once

#include "src/attention/cuda/key_stream.cuh"

namespace earshot::cuda {

struct Hopper {
  static constexpr int kDim = 64, kGroups = 2, kGroupWarps = 4, kGroupThreads = kGroupWarps * kWarp;
  static constexpr int kComputing = kGroups * kGroupThreads;  // the first threads compute
  static constexpr int kStages = 3;
  static constexpr int kTileElements = kTile * kDim, kTileBytes = 2 * kTileElements;
  static constexpr int kStagingBytes = kRoundedBytes<kDim>;  // of a warp
  static constexpr int64_t kStaging = int64_t{kGroups} * kGroupWarps * kStagingBytes;

  // Registers of a thread that computes, and of one that brings, in eights. What all take must be what all were started
  // with, or they wait for ever.
  template <int kBlocks, int kThreads, int kOfComputing, int kOfBringing>
  static constexpr bool kRegistersFit = kComputing* kOfComputing + (kThreads - kComputing) * kOfBringing
                                        <= kThreads*(65536 / (kBlocks * kThreads) / 8 * 8);

  static __device__ __forceinline__ bool Brings() { return static_cast<int>(threadIdx.x) >= kComputing; }
  // Known to be the same for all lanes, which spares instructions.
  static __device__ __forceinline__ int Warp() {
    return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
  }
  static __device__ __forceinline__ int BringingWarp() { return Warp() - kComputing / kWarp; }
};

// A place in a ring of kCount buffers: which of them, and how often all have come round.
template <int kCount>
class RingPlace {
 public:
  // Of the index-th buffer, counted from 0.
  __device__ __forceinline__ RingPlace(int index)
      : buffer_(index % kCount), round_(index / kCount) {}  // NOLINT(google-explicit-constructor)
  __device__ __forceinline__ int buffer() const { return buffer_; }
  __device__ __forceinline__ int round() const { return round_; }
  __device__ __forceinline__ void Advance() {
    if (++buffer_ == kCount) buffer_ = 0, ++round_;
  }
  __device__ __forceinline__ void AdvanceRound() { ++round_; }

 private:
  int buffer_, round_;
};

// Buffers of shared memory that come round. Some warps fill a buffer, others empty it.
template <int kCount>
class HopperRing {
  using Place = RingPlace<kCount>;

 public:
  // By one thread, before a barrier of the block: this many warps empty each buffer, and fill it.
  __device__ __forceinline__ void Init(int emptying_warps, int filling_warps = 1) {
    for (int i = 0; i < kCount; ++i) {
      InitPhases(full_ + i, filling_warps);
      InitPhases(free_ + i, emptying_warps);
    }
  }
  __device__ __forceinline__ void WaitUntilFree(Place at) {
    if (at.round() > 0) WaitForPhase(free_ + at.buffer(), at.round() % 2 ^ 1);
  }
  // The copies of this warp, which have been committed, and what its lanes wrote.
  __device__ __forceinline__ void SayFull(Place at) {
    WaitCopies<0>();
    FenceForProducts();
    Say(full_ + at.buffer());
  }
  __device__ __forceinline__ void WaitUntilFull(Place at) { WaitForPhase(full_ + at.buffer(), at.round() % 2); }
  __device__ __forceinline__ void SayFree(Place at) { Say(free_ + at.buffer()); }

 private:
  static __device__ __forceinline__ void Say(PhaseBarrier* barrier) {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) ArriveAtPhase(barrier);
  }

  PhaseBarrier full_[kCount], free_[kCount];
};

using StagePlace = RingPlace<Hopper::kStages>;

// The stages, and what stays for an item, which there is twice: for one item and for the next.
struct HopperRings {
  HopperRing<Hopper::kStages> stages;
  HopperRing<2> items;
};

// The stage that products which have been begun still read: they may go on until the logits of the next one are there,
// and its buffer is free when they have ended.
class HeldStage {
 public:
  __device__ __forceinline__ void Hold(StagePlace at) { at_ = at, holds_ = true; }
  __device__ __forceinline__ void Free(HopperRing<Hopper::kStages>& ring) {
    if (holds_) ring.SayFree(at_);
    holds_ = false;
  }

 private:
  StagePlace at_ = 0;
  bool holds_ = false;
};

// Rows first to first + count - 1.
struct alignas(8) Span {
  int32_t first, count;
};

// By a warp: begins to copy 64 rows of one head into a swizzled tile. A lane has two chunks of the rows lane / 4 + 8 i,
// which are rows[i].
inline constexpr int kLaneRows = kTile / 8;
__device__ __forceinline__ void BringTile(uint16_t* tile, const Rows& from, const int (&rows)[kLaneRows]) {
  const int lane = threadIdx.x % kWarp, chunk = lane % 4;
  const bool inside = chunk * 8 + 32 < from.head_dim;  // head_dim is more than 32
  uint16_t* first = tile + SwizzledChunk(lane / 4, chunk);
  uint16_t* second = tile + SwizzledChunk(lane / 4, chunk + 4);
  EARSHOT_UNROLL
  for (int i = 0; i < kLaneRows; ++i) {
    const uint16_t* row = from.At(rows[i], chunk * 8);
    CopyAsync<16>(first + i * 8 * Hopper::kDim, row, true);
    CopyAsync<16>(second + i * 8 * Hopper::kDim, row + 32, inside);
  }
}
// The rows from `first` on; those behind `last` are copies of it, since what nobody reads has to be a number all the
// same.
__device__ __forceinline__ void BringRows(uint16_t* tile, const Rows& from, int first, int last) {
  int rows[kLaneRows];
  EARSHOT_UNROLL
  for (int i = 0; i < kLaneRows; ++i) rows[i] = Min(first + static_cast<int>(threadIdx.x) % kWarp / 4 + 8 * i, last);
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

// What a group has to know of its item.
struct alignas(16) HopperItemInfo {
  Span queries;
  int32_t head;
};

// 64 keys and values.
struct alignas(16) HopperEntries {
  uint32_t ranges[kTile];  // RangeOf each, kEmptyRange where there is none
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

// The shared memory of such a kernel: the stages of keys and values; and kLeft matrices of the 128 queries of an item.
// Four warps bring, the last of them what belongs to the queries.
template <int kLeft>
class KeyStages {
  static constexpr int kStages = Hopper::kStages, kTiles = 2 * kStages + 2 * kLeft * Hopper::kGroups;

  struct Small {
    HopperRings rings;
    HopperItemInfo items[2];
    HopperEntries entries[kStages];
  };

 public:
  static constexpr int kThreads = Hopper::kComputing + (kStages + 1) * kWarp;
  static constexpr int64_t kSharedBytes = int64_t{kTiles} * Hopper::kTileBytes + sizeof(Small);

  __device__ __forceinline__ explicit KeyStages(unsigned char* shared)
      : tiles_(reinterpret_cast<uint16_t*>(shared)),
        small_(*reinterpret_cast<Small*>(shared + kTiles * Hopper::kTileBytes)) {}
  __device__ __forceinline__ void Init() const {
    if (threadIdx.x == 0) {
      small_.rings.stages.Init(Hopper::kComputing / kWarp);
      small_.rings.items.Init(Hopper::kComputing / kWarp);
    }
    __syncthreads();
  }

  __device__ __forceinline__ HopperRings& rings() const { return small_.rings; }
  __device__ __forceinline__ uint16_t* key_rows(StagePlace at) const {
    return tiles_ + at.buffer() * 2 * Hopper::kTileElements;
  }
  __device__ __forceinline__ uint16_t* value_rows(StagePlace at) const { return key_rows(at) + Hopper::kTileElements; }
  __device__ __forceinline__ HopperEntries& entries(StagePlace at) const { return small_.entries[at.buffer()]; }
  // Of the turn-th item, 64 queries of a group.
  __device__ __forceinline__ uint16_t* left_rows(int turn, int matrix, int group) const {
    const int tile = 2 * kStages + (turn % 2 * kLeft + matrix) * Hopper::kGroups + group;
    return tiles_ + tile * Hopper::kTileElements;
  }
  __device__ __forceinline__ HopperItemInfo& item(int turn) const { return small_.items[turn % 2]; }

 private:
  uint16_t* tiles_;
  Small& small_;
};

// The stages that one warp brings: every kStages-th of all items' one after the other. What leads to the copies of one
// is read while those of the one before are waited for.
class KeyCursor {
 public:
  __device__ __forceinline__ KeyCursor(const CudaAttentionArguments& a, int items)
      : a_(a), items_(items), heads_(a.heads / a.kv_heads) {
    ReadItem();
    Seek();
  }
  __device__ __forceinline__ bool AtEnd() const { return item_ >= items_; }
  __device__ __forceinline__ void Advance() {
    index_ += Hopper::kStages;
    place_.AdvanceRound();
    Seek();
  }

  __device__ __forceinline__ StagePlace place() const { return place_; }
  __device__ __forceinline__ int kv_head() const { return kv_head_; }
  __device__ __forceinline__ bool last() const { return index_ + 1 == before_ + steps_; }
  __device__ __forceinline__ bool empty() const { return begin_ == end_; }
  __device__ __forceinline__ int num_queries() const { return num_queries_; }
  // Entries lane and lane + 32 of the stage. Where there are none, rows are that of the last one, and ranges empty.
  __device__ __forceinline__ int row(int i) const { return rows_[i]; }
  __device__ __forceinline__ int score(int i) const { return scores_[i]; }
  __device__ __forceinline__ int first(int i) const { return static_cast<int>(range(i) & 0xFFFF); }
  __device__ __forceinline__ int end(int i) const { return static_cast<int>(range(i) >> 16); }

 private:
  // An entry as three words, which are not taken apart before they are used: that would be waiting for them.
  struct Words {
    int32_t row;
    uint32_t range;
    int32_t score;
  };
  static_assert(sizeof(Words) == sizeof(CudaKeyEntry));

  __device__ __forceinline__ int EntryOf(int i) const {
    return begin_ + (index_ - before_) * kTile + i * kWarp + static_cast<int>(threadIdx.x) % kWarp;
  }
  __device__ __forceinline__ uint32_t range(int i) const { return EntryOf(i) < end_ ? ranges_[i] : 0U; }
  __device__ __forceinline__ void ReadItem() {
    if (AtEnd()) return;
    const HopperItem of = ItemOf(a_, item_);
    kv_head_ = of.head / heads_;
    begin_ = a_.lists.tile_offsets[of.list], end_ = a_.lists.tile_offsets[of.list + 1];
    num_queries_ = a_.lists.tiles[of.list].num_queries;
    // A tile without entries gets a stage as well: its queries get zeros.
    steps_ = Max((end_ - begin_ + kTile - 1) / kTile, 1);
  }
  __device__ __forceinline__ void Seek() {
    while (!AtEnd() && index_ >= before_ + steps_) {
      before_ += steps_;
      item_ += static_cast<int>(gridDim.x);
      ReadItem();
    }
    if (AtEnd() || empty()) return;
    EARSHOT_UNROLL
    for (int i = 0; i < 2; ++i) {
      const auto* words = reinterpret_cast<const Words*>(a_.lists.entries + Min(EntryOf(i), end_ - 1));
      rows_[i] = words->row, ranges_[i] = words->range;
      if (a_.scores) scores_[i] = words->score;
    }
  }

  const CudaAttentionArguments& a_;
  const int items_, heads_;  // query heads of a kv head
  int item_ = static_cast<int>(blockIdx.x), index_ = Hopper::BringingWarp();
  StagePlace place_ = index_;
  int kv_head_ = 0, begin_ = 0, end_ = 0, num_queries_ = 0, steps_ = 0;
  int before_ = 0;  // stages of the items before this one
  int rows_[2] = {}, scores_[2] = {-1, -1};
  uint32_t ranges_[2] = {};
};

// What the warps that bring do. bring_left(turn, item, queries) begins the copies of what belongs to the queries of an
// item.
template <class Stages, class BringLeft>
__device__ __forceinline__ void BringKeys(const Problem& p, const Stages& stages, int items, BringLeft bring_left) {
  const CudaAttentionArguments& a = p.arguments;
  const int lane = threadIdx.x % kWarp;
  if (Hopper::BringingWarp() == Hopper::kStages) {
    HopperRing<2>& ring = stages.rings().items;
    int turn = 0;
    for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x), ++turn) {
      const HopperItem of = ItemOf(a, item);
      const Span queries = {a.lists.tiles[of.list].first_query, a.lists.tiles[of.list].num_queries};
      ring.WaitUntilFree(turn);
      bring_left(turn, of, queries);
      CommitCopies();
      if (lane == 0) SharedStore(&stages.item(turn), HopperItemInfo{queries, of.head});
      ring.SayFull(turn);
    }
    return;
  }
  HopperRing<Hopper::kStages>& ring = stages.rings().stages;
  for (KeyCursor cursor(a, items); !cursor.AtEnd();) {
    const StagePlace at = cursor.place();
    int rows[kLaneRows];
    LaneRows(cursor.row(0), cursor.row(1), rows);
    ring.WaitUntilFree(at);
    if (!cursor.empty()) {
      BringTile(stages.key_rows(at), HeadOf(a.k, cursor.kv_head(), a.head_dim, true), rows);
      BringTile(stages.value_rows(at), HeadOf(a.v, cursor.kv_head(), a.head_dim, true), rows);
    }
    CommitCopies();
    HopperEntries& to = stages.entries(at);
    uint32_t flags[2];
    EARSHOT_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int first = cursor.first(i), end = cursor.end(i);
      SharedStore(to.ranges + i * kWarp + lane, RangeOf(first, end));
      if (p.biased && !cursor.empty())
        SharedStore(to.biases + i * kWarp + lane, EntryBias(a, cursor.row(i), cursor.score(i)));
      const uint32_t of_entry = FlagsOf(first, end, cursor.num_queries());
      constexpr uint32_t kWarpBits = (1U << HopperEntries::kAny) - 1;
      flags[i] = (__reduce_and_sync(kAllLanes, of_entry) & kWarpBits) |
                 (__reduce_or_sync(kAllLanes, of_entry) & ~kWarpBits) |
                 (cursor.last() ? 1U << HopperEntries::kLast : 0U);
    }
    if (lane == 0) SharedStore(&to.flags, PairBits{flags[0], flags[1]});
    cursor.Advance();
    ring.SayFull(at);
  }
}

// c = left times the transpose of the rows of `right`, over all channels, or += where it `adds`; in the background.
template <class T, int kColumns>
__device__ __forceinline__ void BeginMultiply(Sums<1, kColumns>& c, const uint16_t* left, const uint16_t* right,
                                              bool adds = false) {
  const uint32_t a = TileDescriptor(left), b = TileDescriptor(right);
  EARSHOT_UNROLL
  for (int i = 0; i < Hopper::kDim / 16; ++i) MultiplyTiles<T>(c[0], a + 2 * i, b + 2 * i, adds || i > 0);
}
// c += weights times the rows from `tile` on; in the background.
template <class T, int kDepth>
__device__ __forceinline__ void BeginAddWeighted(Sums<1, Hopper::kDim>& c, const Packed<1, kDepth>& weights,
                                                 const uint16_t* tile) {
  const uint32_t b = TileDescriptor(tile);
  EARSHOT_UNROLL
  for (int i = 0; i < kDepth / 16; ++i) AddWeightedTile<T>(c[0], weights[0][i], b + 128 * i);
}

}  // namespace earshot::cuda
