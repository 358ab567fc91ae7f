// The forward pass: a block computes a tile of queries, or a part of it, for one head, a warp kGroups x 16 of its
// queries. Online softmax to base 2; a warp passes over units of 32 keys that none of its queries see, and masks only
// those that some of them do not.
#pragma once

#include "src/attention/cuda/key_stream.cuh"

namespace earshot::cuda {

// The softmax of the warp's rows, as far as it has come. Weights are relative to a reference of their row: the largest
// logit at some time, which is kept until one is more than 2^kSlack times as heavy, so that sums are seldom brought
// down. The quotient of sums is the same with any reference.
template <class T, int kPad, int kGroups>
class OnlineSoftmax {
 public:
  // Logits are `scale` times what Weigh is given; scale is positive.
  __device__ __forceinline__ explicit OnlineSoftmax(float scale) : scale_(scale), slack_(kSlack / scale) { Reset(); }
  // Nothing has been seen.
  __device__ __forceinline__ void Reset() {
    EARSHOT_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      EARSHOT_UNROLL
      for (int half = 0; half < 2; ++half) {
        offsets_[g][half] = 0;
        limits_[g][half] = -INFINITY;
        totals_[g][2 * half] = totals_[g][2 * half + 1] = 0;
      }
    }
  }

  // Turns logits into weights, and brings `out` down to their reference; `first`: it is nothing but zeros. Before `out`
  // is looked at, out_is_there() waits for it, in all warps: they may not wait for their products by themselves.
  template <int kColumns, class OutIsThere>
  __device__ __forceinline__ void Weigh(Sums<kGroups, kColumns>& logits, bool first, Sums<kGroups, kPad>& out,
                                        OutIsThere out_is_there) {
    float maxima[kGroups][2];
    bool above = false;
    EARSHOT_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      EARSHOT_UNROLL
      for (int half = 0; half < 2; ++half) {
        float maximum = Greater(logits[g][0][2 * half], logits[g][0][2 * half + 1]);
        EARSHOT_UNROLL
        for (int n = 1; n < kColumns / 8; ++n)
          maximum = Greater(maximum, Greater(logits[g][n][2 * half], logits[g][n][2 * half + 1]));
        maxima[g][half] = maximum;
        above = above || maximum > limits_[g][half];
      }
    }
    out_is_there();
    if (__any_sync(kAllLanes, above)) Raise(maxima, first, out);
    EARSHOT_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      EARSHOT_UNROLL
      for (int n = 0; n < kColumns / 8; ++n) {
        EARSHOT_UNROLL
        for (int i = 0; i < 4; ++i) logits[g][n][i] = Exp2(logits[g][n][i] * scale_ + offsets_[g][i / 2]);
      }
    }
  }

  template <int kColumns>
  __device__ __forceinline__ void AddTotals(const Packed<kGroups, kColumns>& weights) {
    AddRowSums<T, kColumns>(totals_, weights);
  }

  // The end: what the sums of rows row_of(lane / 4) and row_of(lane / 4 + 8) of the group are to be multiplied by, 0
  // where no key had any weight or the query is dropped; their lse is written. A negative row is none.
  template <class RowOf>
  __device__ __forceinline__ void Finish(const CudaAttentionArguments& a, int head, int group, RowOf row_of,
                                         float (&scales)[2]) const {
    const int lane = threadIdx.x % kWarp;
    EARSHOT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = row_of(lane / 4 + 8 * half);
      const float total = row >= 0 && KeepsQuery(a, row) ? totals_[group][2 * half] : 0.F;
      scales[half] = total > 0 ? Reciprocal(total) : 0.F;
      if (a.lse && lane % 4 == 0 && row >= 0)
        (a.lse + head * a.lse_stride)[row] = total > 0 ? (Log2(total) - offsets_[group][half]) * kLn2 : -INFINITY;
    }
  }

 private:
  static constexpr float kSlack = 8;

  __device__ __forceinline__ void Raise(const float (&maxima)[kGroups][2], bool first, Sums<kGroups, kPad>& out) {
    EARSHOT_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      EARSHOT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float maximum = RowMax(maxima[g][half]), limit = limits_[g][half];
        float correction = 1;
        if (maximum > limit) {
          const float offset = -maximum * scale_;
          correction = limit == -INFINITY ? 0.F : Exp2(offset - offsets_[g][half]);
          offsets_[g][half] = offset;
          limits_[g][half] = maximum + slack_;
        }
        if (first) continue;
        EARSHOT_UNROLL
        for (int n = 0; n < kPad / 8; ++n) {
          out[g][n][2 * half] *= correction;
          out[g][n][2 * half + 1] *= correction;
        }
        totals_[g][2 * half] *= correction;
        totals_[g][2 * half + 1] *= correction;
      }
    }
  }

  const float scale_, slack_;
  float offsets_[kGroups][2];  // - reference x scale
  float limits_[kGroups][2];
  float totals_[kGroups][4];
};

template <int kPad>
inline constexpr int kForwardBlocks = kPad <= 32 ? 4 : 2;

template <class T, int kPad>
__global__ void __launch_bounds__(kThreads, kForwardBlocks<kPad>) ForwardKernel(const __grid_constant__ Problem p) {
  using Shape = TileShape<kPad>;
  constexpr int kGroups = Shape::kGroups;
  unsigned char* shared = DynamicShared<unsigned char>();
  const CudaAttentionArguments& a = p.arguments;
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (a.heads / a.kv_heads);
  const int list = static_cast<int>(blockIdx.x) / Shape::kParts;
  const CudaQueryTile tile = a.lists.tiles[list];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int block_first = static_cast<int>(blockIdx.x) % Shape::kParts * Shape::kQueries;
  const int first = block_first + warp * kGroups * kGroupRows;  // of the tile
  const int end = Min(first + kGroups * kGroupRows, tile.num_queries);
  if (block_first >= tile.num_queries) return;  // the whole block

  KeyStream<T, kPad> keys(p, list, kv_head, shared);
  Sums<kGroups, kPad> out = {};
  OnlineSoftmax<T, kPad, kGroups> softmax(p.biased ? 1.F : p.log2_scale);
  const auto row_of = [&](int r) { return r < tile.num_queries ? tile.first_query + r : -1; };
  if (keys.num_steps() > 0) {
    LeftRows<kPad, true, kGroups> queries;
    keys.LoadLeft(
        queries, HeadOf(a.q, head, a.head_dim, p.fast), QueryRotation(p),
        [&](int r) { return row_of(block_first + r); }, [&] { keys.Start(); });
    bool zeros = true;
    for (int step = 0; step < keys.num_steps(); ++step) {
      keys.Arrive(step);
      keys.Prefetch(step + 1);
      keys.PrepareEntries();
      EARSHOT_NO_UNROLL
      for (int column = 0; column < kTile; column += kUnit) {
        const Sight sight = SightOf(keys.ranges(step) + column, first, end);
        if (!sight.any) continue;
        Sums<kGroups, kUnit> logits;
        MultiplyByRows<T, kPad, kUnit>(logits, queries, keys.key_rows(step), column);
        if (p.biased) AddBiases<kUnit>(logits, p.log2_scale, keys.biases(step) + column);
        if (!sight.all) MaskLogits<kUnit>(logits, keys.ranges(step) + column, first + lane / 4);
        softmax.template Weigh<kUnit>(logits, zeros, out, [] {});
        zeros = false;
        Packed<kGroups, kUnit> weights;
        Pack<T, kUnit>(logits, weights);
        softmax.template AddTotals<kUnit>(weights);
        AddWeightedRows<T, kPad, kUnit>(out, weights, keys.value_rows(step), column);
      }
      keys.StoreEntries(step + 2);
    }
    WaitCopies<0>();
  }

  __syncthreads();
  float* staging = reinterpret_cast<float*>(shared) + warp * Shape::kStagingFloats;
  EARSHOT_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    const auto row_of_group = [&](int r) { return row_of(first + g * kGroupRows + r); };
    float scales[2];
    softmax.Finish(a, head, g, row_of_group, scales);
    WriteRows<T, kPad>(out[g], scales[0], scales[1], staging, a.out, head, a.head_dim, p.fast_out,
                       Rotation{nullptr, nullptr, nullptr}, row_of_group);
  }
}

}  // namespace earshot::cuda
