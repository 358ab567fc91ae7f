// The gradients of keys, values, biases and scores on compute capability 9.0 (hopper.cuh). An item is a tile of 64 keys
// for two kv heads, one of them for each group. It goes through the segments of the transposed lists, in each through
// the parts of 64 queries that see any of its keys, and for each of them through the query heads of the kv heads. All
// products are transposed: rows are keys, columns are queries.
#pragma once

#include "src/attention/cuda/gradients.cuh"
#include "src/attention/cuda/hopper.cuh"

namespace earshot::cuda {

struct HopperKeyGradientsShape {
  static constexpr int kComputing = 224, kBringing = 56;
  static_assert(Hopper::kRegistersFit<1, kComputing, kBringing>);

  // 64 queries of a stage, and what the 64 keys have to do with them.
  struct alignas(16) Step {
    Pair32 statistics[Hopper::kGroups][kTile];  // of the query head of each group
    uint32_t bounds[kTile];                     // of each key: first query of the part | how many << 16
    float biases[kTile];                        // added to logits, to base 2
    int32_t entries[kTile];                     // the transposed entry, where its score wants a gradient; -1
    uint32_t flags;                             // as below
  };
  // Nobody sees the keys; the last step of an item; of a segment.
  static constexpr uint32_t kNone = 1, kLast = 2, kLastOfSegment = 4;

  // Tiles: queries and gradients of each group by stage; keys and values of each group, of one item and of the next.
  static constexpr int64_t kSteps = int64_t{2 * Hopper::kStages + 4} * Hopper::kGroups * Hopper::kTileBytes;
  static constexpr int64_t kStaging = kSteps + Hopper::kStages * int64_t{sizeof(Step)};
  static constexpr int64_t kSharedBytes = kStaging + Hopper::kStaging + Hopper::kAlignment;
};

class QueryStages {
  using Shape = HopperKeyGradientsShape;

 public:
  __device__ __forceinline__ explicit QueryStages(unsigned char* shared)
      : tiles_(reinterpret_cast<uint16_t*>(shared)), steps_(reinterpret_cast<Shape::Step*>(shared + Shape::kSteps)) {}

  __device__ __forceinline__ uint16_t* query_rows(int index, int group) const {
    return Tile(index % Hopper::kStages * 2 * Hopper::kGroups + group);
  }
  __device__ __forceinline__ uint16_t* grad_rows(int index, int group) const {
    return Tile((index % Hopper::kStages * 2 + 1) * Hopper::kGroups + group);
  }
  __device__ __forceinline__ uint16_t* key_rows(int turn, int group) const {
    return Tile((Hopper::kStages + turn % 2) * 2 * Hopper::kGroups + group);
  }
  __device__ __forceinline__ uint16_t* value_rows(int turn, int group) const {
    return Tile(((Hopper::kStages + turn % 2) * 2 + 1) * Hopper::kGroups + group);
  }
  __device__ __forceinline__ Shape::Step& step(int index) const { return steps_[index % Hopper::kStages]; }

 private:
  __device__ __forceinline__ uint16_t* Tile(int tile) const { return tiles_ + tile * Hopper::kTileElements; }

  uint16_t* tiles_;
  Shape::Step* steps_;
};

// Key tile i / pairs and pair i % pairs of kv heads.
struct HopperKeyItem {
  int key_tile, first_head;
};
__device__ __forceinline__ HopperKeyItem KeyItemOf(const CudaAttentionArguments& a, int item) {
  const int pairs = (a.kv_heads + Hopper::kGroups - 1) / Hopper::kGroups;
  return {item / pairs, item % pairs * Hopper::kGroups};
}

// The row of slot r of a key tile, -1 where there is none.
__device__ __forceinline__ int RowOfSlot(const GradientProblem& p, int key_tile, int r) {
  const int64_t at = static_cast<int64_t>(key_tile) * kTile + r;
  return at < p.forward.arguments.num_keys ? p.transposed.row_order[at] : -1;
}

// What the warps that bring do, each of the first ones every kStages-th stage.
class QueryBringer {
  using Shape = HopperKeyGradientsShape;

 public:
  __device__ __forceinline__ QueryBringer(const GradientProblem& p, const QueryStages& stages)
      : p_(p), stages_(stages), heads_(p.forward.arguments.heads / p.forward.arguments.kv_heads) {}

  __device__ __forceinline__ void Run(int items) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    int item = static_cast<int>(blockIdx.x);
    if (Hopper::BringingWarp() == Hopper::kStages) {
      for (int turn = 0; item < items; item += static_cast<int>(gridDim.x), ++turn) BringItem(KeyItemOf(a, item), turn);
      return;
    }
    int at = 0;  // steps of the segments before this one
    for (int index = Hopper::BringingWarp(); item < items; item += static_cast<int>(gridDim.x)) {
      const HopperKeyItem of = KeyItemOf(a, item);
      const int begin = p_.transposed.segment_offsets[of.key_tile],
                end = p_.transposed.segment_offsets[of.key_tile + 1];
      for (int s = begin; s < end; ++s) {
        const CudaSegment segment = p_.transposed.segments[s];
        const int steps = __popc(segment.parts) * heads_;
        for (; index < at + steps; index += Hopper::kStages) {
          const bool last = index + 1 == at + steps;
          Barriers::Free::Wait(index);
          BringStep(of, segment, index, index - at);
          SayStep(index, last ? Shape::kLastOfSegment | (s + 1 == end ? Shape::kLast : 0U) : 0U);
        }
        at += steps;
      }
      if (begin < end) continue;
      if (index == at) {
        Barriers::Free::Wait(index);
        SayStep(index, Shape::kNone | Shape::kLast);
        index += Hopper::kStages;
      }
      ++at;
    }
  }

 private:
  using Barriers = HopperBarriers;

  __device__ __forceinline__ void BringItem(const HopperKeyItem& of, int turn) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    const int lane = threadIdx.x % kWarp;
    int rows[kLaneRows];
    LaneRows(RowOfSlot(p_, of.key_tile, lane), RowOfSlot(p_, of.key_tile, lane + kWarp), rows);
    Barriers::ItemFree::Wait(turn);
    for (int group = 0; group < Hopper::kGroups && of.first_head + group < a.kv_heads; ++group) {
      BringTile(stages_.key_rows(turn, group), HeadOf(a.k, of.first_head + group, a.head_dim, true), rows);
      BringTile(stages_.value_rows(turn, group), HeadOf(a.v, of.first_head + group, a.head_dim, true), rows);
    }
    SayFull<Barriers::ItemFull>(turn);
  }

  // Step `number` of a segment.
  __device__ __forceinline__ void BringStep(const HopperKeyItem& of, const CudaSegment& segment, int index,
                                            int number) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    const int lane = threadIdx.x % kWarp, head = number % heads_;
    const int part = segment.parts == 3 ? number / heads_ : segment.parts - 1;
    const CudaQueryTile tile = a.lists.tiles[segment.tile];
    const int first = tile.first_query + part * kTile, count = tile.num_queries - part * kTile;
    Shape::Step& step = stages_.step(index);
    for (int group = 0; group < Hopper::kGroups && of.first_head + group < a.kv_heads; ++group) {
      const int query_head = (of.first_head + group) * heads_ + head;
      BringRows(stages_.query_rows(index, group), HeadOf(a.q, query_head, a.head_dim, true), first, count);
      BringRows(stages_.grad_rows(index, group), HeadOf(p_.grad_out, query_head, a.head_dim, true), first, count);
      const Pair32* statistics = p_.statistics + static_cast<int64_t>(query_head) * a.num_queries + first;
      EARSHOT_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int r = lane + i * kWarp;
        CopyAsync<8>(step.statistics[group] + r, statistics + r, r < count);
      }
    }
    BringEntries(of.key_tile, segment, part * kTile, step);
  }

  // What the queries from `first` on of the tile have to do with the keys.
  __device__ __forceinline__ void BringEntries(int key_tile, const CudaSegment& segment, int first, Shape::Step& step) {
    const int lane = threadIdx.x % kWarp;
    for (int slot = lane; slot < kTile; slot += kWarp) {
      SharedStore(step.bounds + slot, 0U);
      SharedStore(step.biases + slot, 0.F);
      SharedStore(step.entries + slot, -1);
    }
    __syncwarp();
    for (int i = segment.begin + lane; i < segment.end; i += kWarp) {
      const CudaTransposedEntry entry = p_.transposed.entries[i];
      if (entry.layer != segment.layer) continue;
      const int begin = Max(entry.first - first, 0), end = Min(entry.end - first, kTile);
      if (begin < end) SharedStore(step.bounds + entry.slot, begin | static_cast<uint32_t>(end - begin) << 16);
      if (p_.forward.biased) {
        SharedStore(step.biases + entry.slot,
                    EntryBias(p_.forward.arguments, RowOfSlot(p_, key_tile, entry.slot), entry.score));
      }
      if (p_.entry_gradients && entry.score >= 0) SharedStore(step.entries + entry.slot, i);
    }
  }

  __device__ __forceinline__ void SayStep(int index, uint32_t flags) {
    if (threadIdx.x % kWarp == 0) SharedStore(&stages_.step(index).flags, flags);
    SayFull<Barriers::Full>(index);
  }

  const GradientProblem& p_;
  const QueryStages& stages_;
  const int heads_;  // of a kv head
};

// -infinity where keys slot and slot + 8 and query do not meet, of columns kFirst to kEnd - 1.
template <int kFirst, int kEnd>
__device__ __forceinline__ void MaskTransposed(Sums<1, kTile>& logits, const uint32_t (&bounds)[2]) {
  const auto column = static_cast<uint32_t>(threadIdx.x % 4 * 2);
  EARSHOT_UNROLL
  for (int half = 0; half < 2; ++half) {
    // One comparison for both ends: below the first, the difference wraps round.
    const uint32_t offset = column - (bounds[half] & 0xFFFF), count = bounds[half] >> 16;
    EARSHOT_UNROLL
    for (int n = kFirst / 8; n < kEnd / 8; ++n) {
      if (offset + 8 * n >= count) logits[0][n][2 * half] = -INFINITY;
      if (offset + 8 * n + 1 >= count) logits[0][n][2 * half + 1] = -INFINITY;
    }
  }
}

// What a warp that computes does, for 16 of the keys.
template <class T>
class KeyGradients {
  using Shape = HopperKeyGradientsShape;

 public:
  __device__ __forceinline__ KeyGradients(const GradientProblem& p, const QueryStages& stages)
      : p_(p), stages_(stages), scale_(p.forward.biased ? 1.F : p.forward.log2_scale) {}

  __device__ __forceinline__ void Run(unsigned char* staging, int items) {
    const CudaAttentionArguments& a = p_.forward.arguments;
    const int lane = threadIdx.x % kWarp, warp = Hopper::Warp(), group = warp / 4;
    const int slot = warp % 4 * kGroupRows + lane / 4;  // and slot + 8
    staging += warp * Hopper::kStagingBytes;
    int index = 0, turn = 0;
    for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x), ++turn) {
      const HopperKeyItem of = KeyItemOf(a, item);
      const int kv_head = of.first_head + group;
      const bool present = kv_head < a.kv_heads;
      Sums<1, Hopper::kDim> grad_k = {}, grad_v = {};
      float bias_sums[2] = {}, segment_sums[2] = {};
      HopperBarriers::ItemFull::Wait(turn, group);
      for (bool last = false; !last; ++index) {
        HopperBarriers::Full::Wait(index, group);
        const Shape::Step& step = stages_.step(index);
        const uint32_t flags = SharedLoad(&step.flags);
        last = (flags & Shape::kLast) != 0;
        if (present && (flags & Shape::kNone) == 0) {
          Add(step, index, turn, group, slot, grad_k, grad_v, segment_sums);
          if ((flags & Shape::kLastOfSegment) != 0 && (p_.grad_bias || p_.entry_gradients)) {
            EARSHOT_UNROLL
            for (int half = 0; half < 2; ++half) {
              const float sum = RowSum(segment_sums[half]);
              bias_sums[half] += sum;
              segment_sums[half] = 0;
              const int entry = SharedLoad(step.entries + slot + 8 * half);
              if (lane % 4 == 0 && entry >= 0) p_.entry_gradients[kv_head * a.lists.capacity + entry] = sum;
            }
          }
        }
        if (last) HopperBarriers::ItemFree::Say(turn);
        HopperBarriers::Free::Say(index);
      }
      if (!present) continue;
      const auto row_of = [&](int r) { return RowOfSlot(p_, of.key_tile, warp % 4 * kGroupRows + r); };
      EARSHOT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = row_of(lane / 4 + 8 * half);
        if (p_.grad_bias && lane % 4 == 0 && row >= 0) p_.grad_bias[kv_head * p_.bias_stride + row] = bias_sums[half];
      }
      WriteRounded<T, Hopper::kDim>(grad_v[0], 1.F, 1.F, staging, p_.grad_v, kv_head, a.head_dim, row_of);
      WriteRounded<T, Hopper::kDim>(grad_k[0], a.scale, a.scale, staging, p_.grad_k, kv_head, a.head_dim, row_of);
    }
  }

 private:
  // Adds what the 64 queries of a step give.
  __device__ __forceinline__ void Add(const Shape::Step& step, int index, int turn, int group, int slot,
                                      Sums<1, Hopper::kDim>& grad_k, Sums<1, Hopper::kDim>& grad_v, float (&sums)[2]) {
    const int column = threadIdx.x % 4 * 2;
    Sums<1, kTile> weights, grads;
    BeginProducts();
    BeginMultiply<T, kTile>(weights, stages_.key_rows(turn, group), stages_.query_rows(index, group));
    CommitProducts();
    BeginMultiply<T, kTile>(grads, stages_.value_rows(turn, group), stages_.grad_rows(index, group));
    CommitProducts();
    uint32_t bounds[2];
    bool all[2] = {true, true};  // of the queries 0 to 31, and 32 to 63, are seen by both keys
    EARSHOT_UNROLL
    for (int half = 0; half < 2; ++half) {
      bounds[half] = SharedLoad(step.bounds + slot + 8 * half);
      const uint32_t first = bounds[half] & 0xFFFF, end = first + (bounds[half] >> 16);
      all[0] = all[0] && first == 0 && end >= kTile / 2;
      all[1] = all[1] && first <= kTile / 2 && end >= kTile;
    }
    const bool all_low = __all_sync(kAllLanes, all[0]) != 0, all_high = __all_sync(kAllLanes, all[1]) != 0;
    const auto* statistics = step.statistics[group] + column;
    WaitProducts<1>(weights[0]);
    if (p_.forward.biased) {
      EARSHOT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float bias = SharedLoad(step.biases + slot + 8 * half);
        EARSHOT_UNROLL
        for (int n = 0; n < kTile / 8; ++n) {
          EARSHOT_UNROLL
          for (int i = 2 * half; i < 2 * half + 2; ++i)
            weights[0][n][i] = weights[0][n][i] * p_.forward.log2_scale + bias;
        }
      }
    }
    if (!all_low) MaskTransposed<0, kTile / 2>(weights, bounds);
    if (!all_high) MaskTransposed<kTile / 2, kTile>(weights, bounds);
    EARSHOT_UNROLL
    for (int n = 0; n < kTile / 8; ++n) {
      const Quad32 of_two = SharedLoad(reinterpret_cast<const Quad32*>(statistics + 8 * n));
      EARSHOT_UNROLL
      for (int i = 0; i < 4; ++i)
        weights[0][n][i] = Exp2(weights[0][n][i] * scale_ - (i % 2 == 0 ? of_two.x : of_two.z));
    }
    Packed<1, kTile> packed;
    Pack<T, kTile>(weights, packed);
    BeginProducts();
    BeginAddWeighted<T, kTile>(grad_v, packed, stages_.grad_rows(index, group));
    CommitProducts();
    WaitProducts<1>(grads[0]);
    EARSHOT_UNROLL
    for (int n = 0; n < kTile / 8; ++n) {
      const Quad32 of_two = SharedLoad(reinterpret_cast<const Quad32*>(statistics + 8 * n));
      EARSHOT_UNROLL
      for (int i = 0; i < 4; ++i)
        grads[0][n][i] = weights[0][n][i] * (grads[0][n][i] - (i % 2 == 0 ? of_two.y : of_two.w));
    }
    if (p_.grad_bias || p_.entry_gradients) {
      EARSHOT_UNROLL
      for (int n = 0; n < kTile / 8; ++n) {
        EARSHOT_UNROLL
        for (int i = 0; i < 4; ++i) sums[i / 2] += grads[0][n][i];
      }
    }
    Packed<1, kTile> packed_grads;
    Pack<T, kTile>(grads, packed_grads);
    BeginProducts();
    BeginAddWeighted<T, kTile>(grad_k, packed_grads, stages_.query_rows(index, group));
    CommitProducts();
    WaitProducts<0>(grad_v[0]);
    WaitProducts<0>(grad_k[0]);
  }

  const GradientProblem& p_;
  const QueryStages& stages_;
  const float scale_;
};

// Items blockIdx.x and every gridDim.x-th after it; gridDim.x <= items.
template <class T>
__global__ void __launch_bounds__(Hopper::kThreads, 1)
    HopperKeyGradientsKernel(const __grid_constant__ GradientProblem p, int items) {
  using Shape = HopperKeyGradientsShape;
  unsigned char* shared = Hopper::Shared();
  const QueryStages stages(shared);
  if (Hopper::Brings()) {
    GiveUpRegisters<Shape::kBringing>();
    QueryBringer(p, stages).Run(items);
  } else {
    TakeRegisters<Shape::kComputing>();
    KeyGradients<T>(p, stages).Run(shared + Shape::kStaging, items);
  }
}

}  // namespace earshot::cuda
