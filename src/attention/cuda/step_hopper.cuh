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

// -infinity where a key, slot or slot + 8 of the warp's, and queries do not meet, of columns kFirst to kEnd - 1.
// offset: column 0 of the lane less the first query that sees the key, which wraps round below it, so that one
// comparison with `count` is enough for both ends.
template <int kFirst, int kEnd>
__device__ __forceinline__ void MaskRow(Sums<1, kTile>& logits, int half, uint32_t offset, uint32_t count) {
  EARSHOT_UNROLL
  for (int n = kFirst / 8; n < kEnd / 8; ++n) {
    if (offset + 8 * n >= count) logits[0][n][2 * half] = -INFINITY;
    if (offset + 8 * n + 1 >= count) logits[0][n][2 * half + 1] = -INFINITY;
  }
}

// Adds to the gradients. to_logits(weights) waits for their products, and for no others; lse_of(n) and products_of(n)
// are the statistics of columns 8 n + 2 (lane % 4) and the next; use(grads, packed) gets the gradients of logits,
// rounded as well, while what they give is still being computed.
template <class T, class ToLogits, class LseOf, class ProductsOf, class Use>
__device__ __forceinline__ void AddStep(const StepTiles& tiles, float scale, Sums<1, Hopper::kDim>& grad_k,
                                        Sums<1, Hopper::kDim>& grad_v, ToLogits to_logits, LseOf lse_of,
                                        ProductsOf products_of, Use use) {
  Sums<1, kTile> weights, grads;
  BeginProducts();
  BeginMultiply<T, kTile>(weights, tiles.keys, tiles.queries);
  CommitProducts();
  BeginMultiply<T, kTile>(grads, tiles.values, tiles.grads);
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
    const Pair32 products = products_of(n);
    EARSHOT_UNROLL
    for (int i = 0; i < 4; ++i)
      grads[0][n][i] = weights[0][n][i] * (grads[0][n][i] - (i % 2 == 0 ? products.x : products.y));
  }
  Packed<1, kTile> packed_grads;
  Pack<T, kTile>(grads, packed_grads);
  BeginProducts();
  BeginAddWeighted<T, kTile>(grad_k, packed_grads, tiles.queries);
  CommitProducts();
  use(grads, packed_grads);
  WaitProducts<0>(grad_v[0]);
  WaitProducts<0>(grad_k[0]);
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
