// The forward pass on compute capability 9.0 (hopper.cuh): two blocks share a multiprocessor.
#pragma once

#include "src/attention/cuda/forward_kernel.cuh"
#include "src/attention/cuda/hopper.cuh"

namespace earshot::cuda {

struct HopperForwardShape {
  using Stages = KeyStages<1>;  // the left matrix: queries
  static constexpr int kComputing = 104, kBringing = 32;
  static_assert(Hopper::kRegistersFit<2, Stages::kThreads, kComputing, kBringing>);
  static constexpr int64_t kSharedBytes = Stages::kSharedBytes + Hopper::kStaging;
};

// What a warp that computes does.
template <class T>
__device__ __forceinline__ void ComputeOutputs(const Problem& p, const HopperForwardShape::Stages& stages,
                                               unsigned char* staging, int items) {
  const CudaAttentionArguments& a = p.arguments;
  const int lane = threadIdx.x % kWarp, warp = Hopper::Warp(), group = warp / Hopper::kGroupWarps;
  const int first = warp * kGroupRows;  // of the tile
  HopperRings& rings = stages.rings();
  OnlineSoftmax<T, Hopper::kDim, 1> softmax(p.biased ? 1.F : p.log2_scale);
  StagePlace at = 0;
  int turn = 0;
  for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x), ++turn) {
    Sums<1, Hopper::kDim> out = {};
    softmax.Reset();
    bool zeros = true;
    rings.items.WaitUntilFull(turn);
    HeldStage held;
    for (bool last = false; !last; at.Advance()) {
      rings.stages.WaitUntilFull(at);
      const HopperEntries& entries = stages.entries(at);
      const PairBits flags = SharedLoad(&entries.flags);
      last = (flags.x >> HopperEntries::kLast & 1) != 0;
      if (((flags.x | flags.y) >> (HopperEntries::kAny + group) & 1) != 0) {
        // Half of the keys at a time: there are not the registers for more, and what one half needs of the matrix unit
        // goes on beside what the other one needs of the others.
        Sums<1, kUnit> logits[2];
        const auto begin_logits = [&](int half) {
          BeginProducts();
          BeginMultiply<T, kUnit>(logits[half], stages.left_rows(turn, 0, group),
                                  stages.key_rows(at) + half * kUnit * Hopper::kDim);
          CommitProducts();
        };
        begin_logits(0);
        WaitProducts<0>(logits[0][0]);
        WaitProducts<0>(out[0]);
        held.Free(rings.stages);
        begin_logits(1);
        EARSHOT_UNROLL
        for (int half = 0; half < 2; ++half) {
          if (half > 0) WaitProducts<1>(logits[half][0]);
          if (p.biased) AddBiases<kUnit>(logits[half], p.log2_scale, entries.biases + half * kUnit);
          if (((half == 0 ? flags.x : flags.y) >> warp & 1) == 0)
            MaskLogits<kUnit>(logits[half], entries.ranges + half * kUnit, first + lane / 4);
          softmax.template Weigh<kUnit>(logits[half], zeros, out, [&] {
            if (half > 0) WaitProducts<0>(out[0]);
          });
          zeros = false;
          Packed<1, kUnit> weights;
          Pack<T, kUnit>(logits[half], weights);
          BeginProducts();
          BeginAddWeighted<T, kUnit>(out, weights, stages.value_rows(at) + half * kUnit * Hopper::kDim);
          CommitProducts();
          softmax.template AddTotals<kUnit>(weights);
        }
        held.Hold(at);
      } else {
        WaitProducts<0>(out[0]);
        held.Free(rings.stages);
        rings.stages.SayFree(at);
      }
    }
    WaitProducts<0>(out[0]);
    held.Free(rings.stages);
    const HopperItemInfo of = SharedLoad(&stages.item(turn));
    rings.items.SayFree(turn);
    const auto row_of = [&](int r) { return first + r < of.queries.count ? of.queries.first + first + r : -1; };
    float scales[2];
    softmax.Finish(a, of.head, 0, row_of, scales);
    WriteRounded<T, Hopper::kDim>(out[0], scales[0], scales[1], staging + warp * Hopper::kStagingBytes, a.out, of.head,
                                  a.head_dim, row_of);
  }
}

// Tile and head i / heads and i % heads of items, for blockIdx.x and every gridDim.x-th after it; gridDim.x <= items.
template <class T>
__global__ void __launch_bounds__(HopperForwardShape::Stages::kThreads, 2)
    HopperForwardKernel(const __grid_constant__ Problem p, int items) {
  using Shape = HopperForwardShape;
  unsigned char* shared = DynamicShared<unsigned char>();
  const Shape::Stages stages(shared);
  stages.Init();
  if (Hopper::Brings()) {
    GiveUpRegisters<Shape::kBringing>();
    BringKeys(p, stages, items, [&](int turn, HopperItem of, Span queries) {
      const Rows rows = HeadOf(p.arguments.q, of.head, p.arguments.head_dim, true);
      for (int group = 0; group < Hopper::kGroups; ++group) {
        BringRows(stages.left_rows(turn, 0, group), rows, queries.first + group * kTile,
                  queries.first + queries.count - 1);
      }
    });
  } else {
    TakeRegisters<Shape::kComputing>();
    ComputeOutputs<T>(p, stages, shared + Shape::Stages::kSharedBytes, items);
  }
}

}  // namespace earshot::cuda
