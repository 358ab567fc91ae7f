// The forward pass: a block computes a tile of queries for one head, a warp 16 of its queries. Online softmax to base
// 2; a warp passes over key tiles that none of its queries see, and masks only those that some of them do not.
#pragma once

#include "src/attention/cuda/key_stream.cuh"

namespace earshot::cuda {

// Turns logits into weights relative to the largest so far, and brings the earlier sums of this lane's two rows down to
// it. totals: of the columns of this lane alone.
template <int kChannels>
__device__ __forceinline__ void OnlineSoftmax(float (&logits)[kTile / 8][4], float (&out)[kChannels / 8][4],
                                              float (&maxima)[2], float (&totals)[2]) {
  EARSHOT_UNROLL
  for (int half = 0; half < 2; ++half) {
    float maximum = maxima[half];
    EARSHOT_UNROLL
    for (int n = 0; n < kTile / 8; ++n) maximum = Max(maximum, Max(logits[n][2 * half], logits[n][2 * half + 1]));
    maximum = RowMax(maximum);
    // Nothing seen so far: any finite reference gives weights of zero.
    const float reference = maximum == -INFINITY ? 0.F : maximum;
    const float correction = Exp2(maxima[half] - reference);
    maxima[half] = maximum;
    float total = 0;
    EARSHOT_UNROLL
    for (int n = 0; n < kTile / 8; ++n) {
      EARSHOT_UNROLL
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        logits[n][i] = Exp2(logits[n][i] - reference);
        total += logits[n][i];
      }
    }
    totals[half] = totals[half] * correction + total;
    EARSHOT_UNROLL
    for (int n = 0; n < kChannels / 8; ++n) {
      out[n][2 * half] *= correction;
      out[n][2 * half + 1] *= correction;
    }
  }
}

template <class T, int kPad>
__global__ void __launch_bounds__(kThreads, TileShape<kPad>::kBlocks) ForwardKernel(const __grid_constant__ Problem p) {
  unsigned char* shared = DynamicShared<unsigned char>();
  const CudaAttentionArguments& a = p.arguments;
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (a.heads / a.kv_heads);
  const CudaQueryTile tile = a.lists.tiles[blockIdx.x];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int first = warp * kWarpRows, end = Min(first + kWarpRows, tile.num_queries);
  const int query = first + lane / 4;  // and query + 8

  KeyStream<T, kPad> keys(p, static_cast<int>(blockIdx.x), kv_head, shared);
  float out[kPad / 8][4] = {};
  float maxima[2] = {-INFINITY, -INFINITY}, totals[2] = {0, 0};
  const auto row_of = [&](int r) { return r < tile.num_queries ? tile.first_query + r : -1; };
  if (keys.num_steps() > 0) {
    LeftRows<kPad, true> left;
    {
      // The queries pass through the stage of step 1, which is not needed before they are in registers.
      const Rows queries = HeadOf(a.q, head, a.head_dim, p.fast);
      CopyTile<T, kPad>(keys.key_rows(1), queries, QueryRotation(p), row_of);
      CommitCopies();
      TileRotation<T, kPad> rotation(queries, QueryRotation(p), row_of);
      keys.Start();
      WaitCopies<1>();
      rotation.Apply(keys.key_rows(1));
      __syncthreads();
      left.Load(keys.key_rows(1));
    }
    for (int step = 0; step < keys.num_steps(); ++step) {
      keys.Arrive(step);
      keys.Prefetch(step + 1);
      keys.PrepareEntries();
      const Sight sight = SightOf(keys.bounds(step), first, end);
      if (sight.any) {
        float logits[kTile / 8][4];
        MultiplyByRows<T, kPad, kTile>(logits, left, keys.key_rows(step), 0);
        FinishLogits<kTile>(logits, p.log2_scale, keys.biases(step), keys.bounds(step), !sight.all, query);
        OnlineSoftmax<kPad>(logits, out, maxima, totals);
        AddWeightedRows<T, kPad, kTile>(out, logits, keys.value_rows(step), 0);
      }
      keys.StoreEntries(step + 2);
    }
    WaitCopies<0>();
  }

  float scales[2];
  EARSHOT_UNROLL
  for (int half = 0; half < 2; ++half) {
    const float total = RowSum(totals[half]);
    scales[half] = total > 0 ? 1.F / total : 0.F;
    const int row = row_of(query + 8 * half);
    if (a.lse && lane % 4 == 0 && row >= 0)
      a.lse[head * a.lse_stride + row] = total > 0 ? (maxima[half] + Log2(total)) * kLn2 : -INFINITY;
  }
  __syncthreads();
  float* staging = reinterpret_cast<float*>(shared) + warp * TileShape<kPad>::kStagingFloats;
  WriteRows<T, kPad>(out, scales[0], scales[1], staging, a.out, head, a.head_dim, p.fast_out,
                     Rotation{nullptr, nullptr, nullptr}, [&](int r) { return row_of(first + r); });
}

}  // namespace earshot::cuda
