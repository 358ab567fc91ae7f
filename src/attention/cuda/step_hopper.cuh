// What 64 queries give to the gradients of 64 keys and values, for the kernels on compute capability 9.0 that go by
// keys. All products are transposed: rows are keys, columns are queries.
#pragma once

#include "src/attention/cuda/gradients.cuh"
#include "src/attention/cuda/hopper.cuh"

namespace earshot::cuda {

// Four tiles of shared memory.
struct StepTiles {
  const uint16_t *keys, *values, *queries, *grads;
};

// -infinity where a key, slot or slot + 8 of the warp's, and queries do not meet, of columns kFirst to kEnd - 1. range:
// RangeOf the queries that see it.
template <int kFirst, int kEnd>
__device__ __forceinline__ void MaskRow(Sums<1, kTile>& logits, int half, uint32_t range) {
  const auto column = static_cast<float>(threadIdx.x % 4 * 2);
  const uint32_t columns = PackPair<Float16>(column, column + 1);
  EARSHOT_UNROLL
  for (int n = kFirst / 8; n < kEnd / 8; ++n)
    MaskPair(logits[0][n][2 * half], logits[0][n][2 * half + 1], AddPairs(columns, PairOf(8 * n)), range);
}

__device__ __forceinline__ void EndStep(Sums<1, Hopper::kDim>& grad_k, Sums<1, Hopper::kDim>& grad_v) {
  WaitProducts<0>(grad_v[0]);
  WaitProducts<0>(grad_k[0]);
}

// Adds to the gradients, in the background: they and the tiles are not to be touched before EndStep. ended() is called
// when what the step before has begun is there; to_logits(products) turns these into logits; lse_of(n) and
// minus_d_of(n) are the statistics of columns 8 n + 2 (lane % 4) and the next; use(grads, packed) gets the gradients of
// logits, rounded as well.
template <class T, class Ended, class ToLogits, class LseOf, class MinusDOf, class Use>
__device__ __forceinline__ void AddStep(const StepTiles& tiles, float scale, Sums<1, Hopper::kDim>& grad_k,
                                        Sums<1, Hopper::kDim>& grad_v, Ended ended, ToLogits to_logits, LseOf lse_of,
                                        MinusDOf minus_d_of, Use use) {
  Sums<1, kTile> weights, grads;
  BeginProducts();
  BeginMultiply<T, kTile>(weights, tiles.keys, tiles.queries);
  CommitProducts();
  WaitProducts<0>(weights[0]);
  EndStep(grad_k, grad_v);
  ended();
  EARSHOT_UNROLL
  for (int n = 0; n < kTile / 8; ++n) {
    const Pair32 minus_d = minus_d_of(n);
    EARSHOT_UNROLL
    for (int i = 0; i < 4; ++i) grads[0][n][i] = i % 2 == 0 ? minus_d.x : minus_d.y;
  }
  BeginProducts();
  BeginMultiply<T, kTile>(grads, tiles.values, tiles.grads, true);
  CommitProducts();
  to_logits(weights);
  EARSHOT_UNROLL
  for (int n = 0; n < kTile / 8; ++n) {
    const Pair32 lse = lse_of(n);
    EARSHOT_UNROLL
    for (int i = 0; i < 4; ++i) weights[0][n][i] = Exp2(weights[0][n][i] * scale - (i % 2 == 0 ? lse.x : lse.y));
  }
  Packed<1, kTile> packed;
  Pack<T, kTile>(weights, packed);
  BeginProducts();
  BeginAddWeighted<T, kTile>(grad_v, packed, tiles.grads);
  CommitProducts();
  WaitProducts<1>(grads[0]);
  EARSHOT_UNROLL
  for (int n = 0; n < kTile / 8; ++n) {
    EARSHOT_UNROLL
    for (int i = 0; i < 4; ++i) grads[0][n][i] *= weights[0][n][i];
  }
  Packed<1, kTile> packed_grads;
  Pack<T, kTile>(grads, packed_grads);
  BeginProducts();
  BeginAddWeighted<T, kTile>(grad_k, packed_grads, tiles.queries);
  CommitProducts();
  use(grads, packed_grads);
}

// sums[half] += the lane's part of the row of key slot + 8 half.
__device__ __forceinline__ void AddRows(const Sums<1, kTile>& grads, float (&sums)[2]) {
  EARSHOT_UNROLL
  for (int n = 0; n < kTile / 8; ++n) {
    EARSHOT_UNROLL
    for (int i = 0; i < 4; ++i) sums[i / 2] += grads[0][n][i];
  }
}

// logits = products log2_scale + the bias of each row.
__device__ __forceinline__ void AddRowBiases(Sums<1, kTile>& logits, float log2_scale, const float (&biases)[2]) {
  EARSHOT_UNROLL
  for (int n = 0; n < kTile / 8; ++n) {
    EARSHOT_UNROLL
    for (int i = 0; i < 4; ++i) logits[0][n][i] = logits[0][n][i] * log2_scale + biases[i / 2];
  }
}

}  // namespace earshot::cuda
