// The gradients of queries on compute capability 9.0 (hopper.cuh), and the statistics that those of keys need.
#pragma once

#include "src/attention/cuda/gradients.cuh"
#include "src/attention/cuda/hopper.cuh"

namespace earshot::cuda {

struct HopperQueryGradientsShape {
  using Stages = KeyStages<3>;
  enum Left { kQueries, kGrads, kOutputs };
  static constexpr int64_t kLse = Stages::kSharedBytes;  // of the 128 queries of one item, and of the next
  static constexpr int64_t kStaging = kLse + int64_t{2} * kCudaTileQueries * 4;
  static constexpr int64_t kSharedBytes = kStaging + Hopper::kStaging;
};

// The dot product of row r of two swizzled tiles, for the four lanes that ask for the row.
template <class T>
__device__ __forceinline__ float RowProduct(const uint16_t* a, const uint16_t* b, int r) {
  float sum = 0;
  EARSHOT_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int at = SwizzledChunk(r, static_cast<int>(threadIdx.x) % 4 + 4 * i);
    const Octet16 x = SharedLoad(reinterpret_cast<const Octet16*>(a + at));
    const Octet16 y = SharedLoad(reinterpret_cast<const Octet16*>(b + at));
    EARSHOT_UNROLL
    for (int j = 0; j < 4; ++j) {
      sum += LowOf<T>(x.pairs[j]) * LowOf<T>(y.pairs[j]);
      sum += HighOf<T>(x.pairs[j]) * HighOf<T>(y.pairs[j]);
    }
  }
  return RowSum(sum);
}

template <class T>
__device__ __forceinline__ void ComputeQueryGradients(const GradientProblem& p,
                                                      const HopperQueryGradientsShape::Stages& stages,
                                                      unsigned char* shared, int items) {
  using Shape = HopperQueryGradientsShape;
  const CudaAttentionArguments& a = p.forward.arguments;
  const int lane = threadIdx.x % kWarp, warp = Hopper::Warp(), group = warp / Hopper::kGroupWarps;
  HopperRings& rings = stages.rings();
  const int first = warp * kGroupRows;  // of the tile
  // Where there are biases, the logits are made with them.
  const float scale = p.forward.biased ? 1.F : p.forward.log2_scale;
  StagePlace at = 0;
  int turn = 0;
  for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x), ++turn) {
    Sums<1, Hopper::kDim> sums = {};
    float lse[2], minus_d[2];
    rings.items.WaitUntilFull(turn);
    const HopperItemInfo of = SharedLoad(&stages.item(turn));
    EARSHOT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int r = first + lane / 4 + 8 * half;
      minus_d[half] = -RowProduct<T>(stages.left_rows(turn, Shape::kGrads, group),
                                     stages.left_rows(turn, Shape::kOutputs, group), r % kTile);
      const auto* of_turn = reinterpret_cast<const float*>(shared + Shape::kLse) + turn % 2 * kCudaTileQueries;
      lse[half] = r < of.queries.count ? StatisticOf(SharedLoad(of_turn + r)) : INFINITY;
      if (lane % 4 == 0 && r < of.queries.count) {
        (p.statistics + static_cast<int64_t>(of.head) * a.num_queries)[of.queries.first + r] =
            Pair32{lse[half], minus_d[half]};
      }
    }
    HeldStage held;
    for (bool last = false; !last; at.Advance()) {
      rings.stages.WaitUntilFull(at);
      const HopperEntries& entries = stages.entries(at);
      const PairBits flags = SharedLoad(&entries.flags);
      last = (flags.x >> HopperEntries::kLast & 1) != 0;
      const bool any = ((flags.x | flags.y) >> (HopperEntries::kAny + group) & 1) != 0;
      if (any) {
        Sums<1, kTile> weights, grads;
        BeginProducts();
        BeginMultiply<T, kTile>(weights, stages.left_rows(turn, Shape::kQueries, group), stages.key_rows(at));
        CommitProducts();
        WaitProducts<0>(weights[0]);
        WaitProducts<0>(sums[0]);
        held.Free(rings.stages);
        BeginProducts();
        BeginMultiply<T, kTile>(grads, stages.left_rows(turn, Shape::kGrads, group), stages.value_rows(at));
        CommitProducts();
        if (p.forward.biased) AddBiases<kTile>(weights, p.forward.log2_scale, entries.biases);
        if ((flags.x >> warp & 1) == 0) MaskLogits<kTile, 0, kTile / 2>(weights, entries.ranges, first + lane / 4);
        if ((flags.y >> warp & 1) == 0) MaskLogits<kTile, kTile / 2, kTile>(weights, entries.ranges, first + lane / 4);
        EARSHOT_UNROLL
        for (int n = 0; n < kTile / 8; ++n) {
          EARSHOT_UNROLL
          for (int i = 0; i < 4; ++i) weights[0][n][i] = Exp2(weights[0][n][i] * scale - lse[i / 2]);
        }
        WaitProducts<0>(grads[0]);
        EARSHOT_UNROLL
        for (int n = 0; n < kTile / 8; ++n) {
          EARSHOT_UNROLL
          for (int i = 0; i < 4; ++i) weights[0][n][i] *= grads[0][n][i] + minus_d[i / 2];
        }
        Packed<1, kTile> packed;
        Pack<T, kTile>(weights, packed);
        BeginProducts();
        BeginAddWeighted<T, kTile>(sums, packed, stages.key_rows(at));
        CommitProducts();
        held.Hold(at);
      } else {
        WaitProducts<0>(sums[0]);
        held.Free(rings.stages);
        rings.stages.SayFree(at);
      }
    }
    WaitProducts<0>(sums[0]);
    held.Free(rings.stages);
    rings.items.SayFree(turn);
    WriteRounded<T, Hopper::kDim>(
        sums[0], a.scale, a.scale, shared + Shape::kStaging + warp * Hopper::kStagingBytes, p.grad_q, of.head,
        a.head_dim, [&](int r) { return first + r < of.queries.count ? of.queries.first + first + r : -1; });
  }
}

// Items as of HopperForwardKernel.
template <class T>
__global__ void __launch_bounds__(HopperQueryGradientsShape::Stages::kThreads, 1)
    HopperQueryGradientsKernel(const __grid_constant__ GradientProblem p, int items) {
  using Shape = HopperQueryGradientsShape;
  unsigned char* shared = DynamicShared<unsigned char>();
  const Shape::Stages stages(shared);
  stages.Init();
  if (!Hopper::Brings()) {
    ComputeQueryGradients<T>(p, stages, shared, items);
    return;
  }
  const CudaAttentionArguments& a = p.forward.arguments;
  BringKeys(p.forward, stages, items, [&](int turn, HopperItem of, Span queries) {
    const CudaConstHeads outputs = {a.out.data, a.out.frame_stride, a.out.head_stride};
    const int last = queries.first + queries.count - 1;
    for (int group = 0; group < Hopper::kGroups; ++group) {
      const int first = queries.first + group * kTile;
      BringRows(stages.left_rows(turn, Shape::kQueries, group), HeadOf(a.q, of.head, a.head_dim, true), first, last);
      BringRows(stages.left_rows(turn, Shape::kGrads, group), HeadOf(p.grad_out, of.head, a.head_dim, true), first,
                last);
      BringRows(stages.left_rows(turn, Shape::kOutputs, group), HeadOf(outputs, of.head, a.head_dim, true), first,
                last);
    }
    auto* lse = reinterpret_cast<float*>(shared + Shape::kLse) + turn % 2 * kCudaTileQueries;
    const float* from = a.lse + of.head * a.lse_stride + queries.first;
    for (int r = static_cast<int>(threadIdx.x) % kWarp; r < kCudaTileQueries; r += kWarp)
      CopyAsync<4>(lse + r, from + r, r < queries.count);
  });
}

}  // namespace earshot::cuda
