// The gradients of keys, values, biases and scores on compute capability 9.0 (hopper.cuh). An item is a tile of 64 keys
// for one kv head, and each group has items of its own. It goes through the segments of the transposed lists, in each
// through the parts of 64 queries that see any of its keys, and for each of them through the query heads of the kv
// head. All products are transposed: rows are keys, columns are queries.
#pragma once

#include "src/attention/cuda/gradients.cuh"
#include "src/attention/cuda/hopper.cuh"
#include "src/attention/cuda/step_hopper.cuh"

namespace earshot::cuda {

struct HopperKeyGradientsShape {
  // For each group three warps bring steps, and a fourth one keys and values.
  static constexpr int kBringingWarps = Hopper::kStages + 1;
  static constexpr int kThreads = Hopper::kComputing + Hopper::kGroups * kBringingWarps * kWarp;
  static constexpr int kComputing = 200, kBringing = 56;
  static_assert(Hopper::kRegistersFit<1, kThreads, kComputing, kBringing>);

  // 64 queries, and what the 64 keys have to do with them.
  struct alignas(16) Step {
    Pair32 statistics[kTile];
    uint32_t ranges[kTile];  // RangeOf the queries of the part that see a key
    float biases[kTile];     // added to logits, to base 2
    int32_t entries[kTile];  // the transposed entry, where its score wants a gradient; -1
    uint32_t flags;          // as below
  };
  // Nobody sees the keys; the last step of an item; of a segment.
  static constexpr uint32_t kNone = 1, kLast = 2, kLastOfSegment = 4;

  // What a group has in shared memory behind its tiles: queries and gradients of each stage, keys and values of one
  // item and of the next.
  static constexpr int kTiles = 2 * (Hopper::kStages + 2);
  struct Small {
    HopperRings rings;
    Step steps[Hopper::kStages];
    int32_t rows[2][kTile];  // of the keys of an item, -1 where there is none
  };
  static constexpr int64_t kSmall = int64_t{Hopper::kGroups} * kTiles * Hopper::kTileBytes;
  static constexpr int64_t kStaging = kSmall + Hopper::kGroups * int64_t{sizeof(Small)};
  static constexpr int64_t kSharedBytes = kStaging + Hopper::kStaging;
};

// The shared memory of a group.
class QueryStages {
  using Shape = HopperKeyGradientsShape;

 public:
  __device__ __forceinline__ QueryStages(unsigned char* shared, int group)
      : tiles_(reinterpret_cast<uint16_t*>(shared) + group * Shape::kTiles * Hopper::kTileElements),
        small_(reinterpret_cast<Shape::Small*>(shared + Shape::kSmall)[group]) {}
  __device__ __forceinline__ void Init() const {
    small_.rings.stages.Init(Hopper::kGroupWarps);
    small_.rings.items.Init(Hopper::kGroupWarps);
  }

  __device__ __forceinline__ HopperRings& rings() const { return small_.rings; }
  __device__ __forceinline__ uint16_t* query_rows(StagePlace at) const { return Tile(at.buffer() * 2); }
  __device__ __forceinline__ uint16_t* grad_rows(StagePlace at) const { return Tile(at.buffer() * 2 + 1); }
  __device__ __forceinline__ Shape::Step& step(StagePlace at) const { return small_.steps[at.buffer()]; }
  __device__ __forceinline__ uint16_t* key_rows(int turn) const { return Tile((Hopper::kStages + turn % 2) * 2); }
  __device__ __forceinline__ uint16_t* value_rows(int turn) const { return Tile((Hopper::kStages + turn % 2) * 2 + 1); }
  __device__ __forceinline__ int32_t* rows(int turn) const { return small_.rows[turn % 2]; }

 private:
  __device__ __forceinline__ uint16_t* Tile(int tile) const { return tiles_ + tile * Hopper::kTileElements; }

  uint16_t* tiles_;
  Shape::Small& small_;
};

// Items i of key tile i / kv_heads and kv head i % kv_heads: those of a group are every kGroups x gridDim.x-th.
struct HopperKeyItem {
  int key_tile, kv_head;
};
__device__ __forceinline__ HopperKeyItem KeyItemOf(const CudaAttentionArguments& a, int item) {
  return {item / a.kv_heads, item % a.kv_heads};
}
__device__ __forceinline__ int FirstItem(int group) { return static_cast<int>(blockIdx.x) * Hopper::kGroups + group; }
__device__ __forceinline__ int ItemsApart() { return static_cast<int>(gridDim.x) * Hopper::kGroups; }

// The row of slot r of a key tile, -1 where there is none.
__device__ __forceinline__ int RowOfSlot(const GradientProblem& p, int key_tile, int r) {
  const int64_t at = static_cast<int64_t>(key_tile) * kTile + r;
  return at < p.forward.arguments.num_keys ? p.transposed.row_order[at] : -1;
}

// The steps that one warp brings: every kStages-th of all items' one after the other. What leads to the copies of one
// is read while those of the one before are waited for.
class QueryCursor {
 public:
  __device__ __forceinline__ QueryCursor(const GradientProblem& p, int items, int group, int first)
      : p_(p),
        items_(items),
        heads_(p.forward.arguments.heads / p.forward.arguments.kv_heads),
        item_(FirstItem(group)),
        index_(first),
        place_(first) {
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
  __device__ __forceinline__ int key_tile() const { return of_.key_tile; }
  __device__ __forceinline__ uint32_t flags() const {
    using Shape = HopperKeyGradientsShape;
    if (begin_ == end_) return Shape::kNone | Shape::kLast;
    const bool last = index_ + 1 == before_ + steps_;
    return last ? Shape::kLastOfSegment | (at_ + 1 == end_ ? Shape::kLast : 0U) : 0U;
  }
  __device__ __forceinline__ const CudaSegment& segment() const { return segment_; }
  __device__ __forceinline__ const CudaQueryTile& tile() const { return tile_; }
  // The first query of the part of the tile, and the query head.
  __device__ __forceinline__ int first() const {
    return kTile * (segment_.parts == 3 ? (index_ - before_) / heads_ : segment_.parts - 1);
  }
  __device__ __forceinline__ int head() const { return of_.kv_head * heads_ + (index_ - before_) % heads_; }
  // Entries lane and lane + 32 of the segment, where it has so many.
  __device__ __forceinline__ const CudaTransposedEntry& entry(int i) const { return entries_[i]; }
  __device__ __forceinline__ int EntryOf(int i) const {
    return segment_.begin + i * kWarp + static_cast<int>(threadIdx.x) % kWarp;
  }

 private:
  __device__ __forceinline__ void ReadItem() {
    if (AtEnd()) return;
    of_ = KeyItemOf(p_.forward.arguments, item_);
    begin_ = at_ = p_.transposed.segment_offsets[of_.key_tile];
    end_ = p_.transposed.segment_offsets[of_.key_tile + 1];
    ReadSegment();
  }
  __device__ __forceinline__ void ReadSegment() {
    steps_ = 1;  // keys that nobody sees get a step as well: their gradients are zeros
    if (begin_ == end_) return;
    segment_ = p_.transposed.segments[at_];
    steps_ = __popc(segment_.parts) * heads_;
  }
  __device__ __forceinline__ void Seek() {
    while (!AtEnd() && index_ >= before_ + steps_) {
      before_ += steps_;
      if (at_ + 1 < end_) {
        ++at_;
        ReadSegment();
      } else {
        item_ += ItemsApart();
        ReadItem();
      }
    }
    if (AtEnd() || begin_ == end_) return;
    tile_ = p_.forward.arguments.lists.tiles[segment_.tile];
    EARSHOT_UNROLL
    for (int i = 0; i < 2; ++i) {
      const auto* from = p_.transposed.entries + Min(EntryOf(i), segment_.end - 1);
      static_assert(sizeof(CudaTransposedEntry) == sizeof(Octet16));
      // In one piece, which is not taken apart before it is used: that would be waiting for it.
      *reinterpret_cast<Octet16*>(entries_ + i) = *reinterpret_cast<const Octet16*>(from);
    }
  }

  const GradientProblem& p_;
  const int items_, heads_;  // query heads of a kv head
  int item_, index_;
  StagePlace place_;
  HopperKeyItem of_ = {};
  int begin_ = 0, end_ = 0, at_ = 0;  // segments of the item, and the one that we are in
  int steps_ = 0, before_ = 0;        // steps of the segment, and of those before
  CudaSegment segment_;
  CudaQueryTile tile_;
  alignas(16) CudaTransposedEntry entries_[2];
};

// What a warp that brings does for a group.
class QueryBringer {
  using Shape = HopperKeyGradientsShape;

 public:
  __device__ __forceinline__ QueryBringer(const GradientProblem& p, const QueryStages& stages)
      : p_(p), stages_(stages) {}

  __device__ __forceinline__ void BringItems(int items, int group) {
    int turn = 0;
    for (int item = FirstItem(group); item < items; item += ItemsApart(), ++turn)
      BringItem(KeyItemOf(p_.forward.arguments, item), turn);
  }

  __device__ __forceinline__ void BringSteps(int items, int group, int first) {
    HopperRing<Hopper::kStages>& ring = stages_.rings().stages;
    for (QueryCursor cursor(p_, items, group, first); !cursor.AtEnd();) {
      const StagePlace at = cursor.place();
      ring.WaitUntilFree(at);
      const uint32_t flags = cursor.flags();
      if ((flags & Shape::kNone) == 0) BringStep(cursor);
      CommitCopies();
      if (threadIdx.x % kWarp == 0) SharedStore(&stages_.step(at).flags, flags);
      cursor.Advance();
      ring.SayFull(at);
    }
  }

 private:
  __device__ __forceinline__ void BringItem(const HopperKeyItem& of, int turn) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    const int lane = threadIdx.x % kWarp;
    const int low = RowOfSlot(p_, of.key_tile, lane), high = RowOfSlot(p_, of.key_tile, lane + kWarp);
    // Keys that are not there are copies of another one: what nobody reads has to be a number all the same.
    const int any = RowOfSlot(p_, of.key_tile, 0);
    int rows[kLaneRows];
    LaneRows(low < 0 ? any : low, high < 0 ? any : high, rows);
    stages_.rings().items.WaitUntilFree(turn);
    SharedStore(stages_.rows(turn) + lane, low);
    SharedStore(stages_.rows(turn) + lane + kWarp, high);
    BringTile(stages_.key_rows(turn), HeadOf(a.k, of.kv_head, a.head_dim, true), rows);
    BringTile(stages_.value_rows(turn), HeadOf(a.v, of.kv_head, a.head_dim, true), rows);
    CommitCopies();
    stages_.rings().items.SayFull(turn);
  }

  __device__ __forceinline__ void BringStep(const QueryCursor& cursor) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    const StagePlace at = cursor.place();
    const int lane = threadIdx.x % kWarp, head = cursor.head();
    Shape::Step& step = stages_.step(at);
    const int first = cursor.tile().first_query + cursor.first();
    const int last = cursor.tile().first_query + cursor.tile().num_queries - 1;
    BringRows(stages_.query_rows(at), HeadOf(a.q, head, a.head_dim, true), first, last);
    BringRows(stages_.grad_rows(at), HeadOf(p_.grad_out, head, a.head_dim, true), first, last);
    const Pair32* statistics = p_.statistics + static_cast<int64_t>(head) * a.num_queries;
    EARSHOT_UNROLL
    for (int r = lane; r < kTile; r += kWarp)
      CopyAsync<8>(step.statistics + r, statistics + Min(first + r, last), true);
    // What the queries have to do with the keys.
    EARSHOT_UNROLL
    for (int slot = lane; slot < kTile; slot += kWarp) {
      SharedStore(step.ranges + slot, kEmptyRange);
      if (p_.forward.biased) SharedStore(step.biases + slot, 0.F);
      if (p_.entry_gradients) SharedStore(step.entries + slot, -1);
    }
    __syncwarp();
    EARSHOT_UNROLL
    for (int i = 0; i < 2; ++i)
      if (cursor.EntryOf(i) < cursor.segment().end) BringEntry(cursor, cursor.EntryOf(i), cursor.entry(i), step);
    for (int i = cursor.EntryOf(2); i < cursor.segment().end; i += kWarp)
      BringEntry(cursor, i, p_.transposed.entries[i], step);
  }

  __device__ __forceinline__ void BringEntry(const QueryCursor& cursor, int index, const CudaTransposedEntry& entry,
                                             Shape::Step& step) {
    if (entry.layer != cursor.segment().layer) return;
    const int count = Min(cursor.tile().num_queries - cursor.first(), kTile);
    const int begin = Max(entry.first - cursor.first(), 0), end = Min(entry.end - cursor.first(), count);
    if (begin < end) SharedStore(step.ranges + entry.slot, RangeOf(begin, end));
    if (p_.forward.biased) {
      SharedStore(step.biases + entry.slot,
                  EntryBias(p_.forward.arguments, RowOfSlot(p_, cursor.key_tile(), entry.slot), entry.score));
    }
    if (p_.entry_gradients && entry.score >= 0) SharedStore(step.entries + entry.slot, index);
  }

  const GradientProblem& p_;
  const QueryStages& stages_;
};

// What a warp that computes does, for 16 of the keys.
template <class T>
class KeyGradients {
  using Shape = HopperKeyGradientsShape;

 public:
  __device__ __forceinline__ KeyGradients(const GradientProblem& p, const QueryStages& stages)
      : p_(p), stages_(stages), scale_(p.forward.biased ? 1.F : p.forward.log2_scale) {}

  __device__ __forceinline__ void Run(unsigned char* staging, int items, int group) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    const int lane = threadIdx.x % kWarp, warp = Hopper::Warp();
    const int slot = warp % Hopper::kGroupWarps * kGroupRows + lane / 4;  // and slot + 8
    HopperRings& rings = stages_.rings();
    staging += warp * Hopper::kStagingBytes;
    StagePlace at = 0;
    int turn = 0;
    for (int item = FirstItem(group); item < items; item += ItemsApart(), ++turn) {
      const int kv_head = KeyItemOf(a, item).kv_head;
      Sums<1, Hopper::kDim> grad_k = {}, grad_v = {};
      float bias_sums[2] = {}, segment_sums[2] = {};
      rings.items.WaitUntilFull(turn);
      HeldStage held;
      for (bool last = false; !last; at.Advance()) {
        rings.stages.WaitUntilFull(at);
        const Shape::Step& step = stages_.step(at);
        const uint32_t flags = SharedLoad(&step.flags);
        last = (flags & Shape::kLast) != 0;
        if ((flags & Shape::kNone) == 0) Add(step, at, turn, slot, held, grad_k, grad_v, segment_sums);
        if ((flags & Shape::kLastOfSegment) != 0 && (p_.grad_bias || p_.entry_gradients)) {
          EARSHOT_UNROLL
          for (int half = 0; half < 2; ++half) {
            const float sum = RowSum(segment_sums[half]);
            bias_sums[half] += sum;
            segment_sums[half] = 0;
            if (!p_.entry_gradients) continue;
            const int entry = SharedLoad(step.entries + slot + 8 * half);
            if (lane % 4 == 0 && entry >= 0) p_.entry_gradients[kv_head * a.lists.capacity + entry] = sum;
          }
        }
        held.Hold(at);
      }
      EndStep(grad_k, grad_v);
      held.Free(rings.stages);
      const int row_of_lane =
          SharedLoad(stages_.rows(turn) + warp % Hopper::kGroupWarps * kGroupRows + lane % kGroupRows);
      rings.items.SayFree(turn);
      // By all lanes, for the row that each asks for.
      const auto row_of = [&](int r) { return __shfl_sync(kAllLanes, row_of_lane, r); };
      if (p_.grad_bias) {
        EARSHOT_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int row = row_of(lane / 4 + 8 * half);
          if (lane % 4 == 0 && row >= 0) (p_.grad_bias + kv_head * p_.bias_stride)[row] = bias_sums[half];
        }
      }
      WriteRounded<T, Hopper::kDim>(grad_v[0], 1.F, 1.F, staging, p_.grad_v, kv_head, a.head_dim, row_of);
      WriteRounded<T, Hopper::kDim>(grad_k[0], a.scale, a.scale, staging, p_.grad_k, kv_head, a.head_dim, row_of);
    }
  }

 private:
  // Adds what the 64 queries of a step give.
  __device__ __forceinline__ void Add(const Shape::Step& step, StagePlace at, int turn, int slot, HeldStage& held,
                                      Sums<1, Hopper::kDim>& grad_k, Sums<1, Hopper::kDim>& grad_v, float (&sums)[2]) {
    const auto* statistics = step.statistics + threadIdx.x % 4 * 2;
    const auto of_two = [&](int n) { return SharedLoad(reinterpret_cast<const Quad32*>(statistics + 8 * n)); };
    const auto to_logits = [&](Sums<1, kTile>& weights) {
      uint32_t ranges[2];
      bool all[2] = {true, true};  // of the queries 0 to 31, and 32 to 63, are seen by both keys
      EARSHOT_UNROLL
      for (int half = 0; half < 2; ++half) {
        ranges[half] = SharedLoad(step.ranges + slot + 8 * half);
        const float first = FirstOf(ranges[half]), last = LastOf(ranges[half]);
        all[0] = all[0] && first <= 0 && last >= kTile / 2 - 1;
        all[1] = all[1] && first <= kTile / 2 && last >= kTile - 1;
      }
      const bool all_low = __all_sync(kAllLanes, all[0]) != 0, all_high = __all_sync(kAllLanes, all[1]) != 0;
      if (p_.forward.biased) {
        AddRowBiases(weights, p_.forward.log2_scale,
                     {SharedLoad(step.biases + slot), SharedLoad(step.biases + slot + 8)});
      }
      EARSHOT_UNROLL
      for (int half = 0; half < 2; ++half) {
        if (!all_low) MaskRow<0, kTile / 2>(weights, half, ranges[half]);
        if (!all_high) MaskRow<kTile / 2, kTile>(weights, half, ranges[half]);
      }
    };
    AddStep<T>(
        {stages_.key_rows(turn), stages_.value_rows(turn), stages_.query_rows(at), stages_.grad_rows(at)}, scale_,
        grad_k, grad_v, [&] { held.Free(stages_.rings().stages); }, to_logits,
        [&](int n) {
          const Quad32 both = of_two(n);
          return Pair32{both.x, both.z};
        },
        [&](int n) {
          const Quad32 both = of_two(n);
          return Pair32{both.y, both.w};
        },
        [&](const Sums<1, kTile>& grads, const Packed<1, kTile>&) {
          if (p_.grad_bias || p_.entry_gradients) AddRows(grads, sums);
        });
  }

  const GradientProblem& p_;
  const QueryStages& stages_;
  const float scale_;
};

template <class T>
__global__ void __launch_bounds__(HopperKeyGradientsShape::kThreads, 1)
    HopperKeyGradientsKernel(const __grid_constant__ GradientProblem p, int items) {
  using Shape = HopperKeyGradientsShape;
  unsigned char* shared = DynamicShared<unsigned char>();
  if (threadIdx.x == 0) {
    for (int group = 0; group < Hopper::kGroups; ++group) QueryStages(shared, group).Init();
  }
  __syncthreads();
  if (Hopper::Brings()) {
    GiveUpRegisters<Shape::kBringing>();
    const int warp = Hopper::BringingWarp(), group = warp / Shape::kBringingWarps, role = warp % Shape::kBringingWarps;
    const QueryStages stages(shared, group);
    QueryBringer bringer(p, stages);
    if (role < Hopper::kStages) {
      bringer.BringSteps(items, group, role);
    } else {
      bringer.BringItems(items, group);
    }
  } else {
    TakeRegisters<Shape::kComputing>();
    const int group = Hopper::Warp() / Hopper::kGroupWarps;
    const QueryStages stages(shared, group);
    KeyGradients<T>(p, stages).Run(shared + Shape::kStaging, items, group);
  }
}

}  // namespace earshot::cuda
