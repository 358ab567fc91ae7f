#include "src/attention/cuda/dispatch.cuh"
#include "src/attention/cuda/gradients.cuh"
#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/launch.cuh"

namespace earshot::cuda {
namespace {

// A warp computes the statistics of a query and head.
template <class T>
__global__ void PreprocessKernel(const __grid_constant__ GradientProblem p) {
  const CudaAttentionArguments& a = p.forward.arguments;
  const int lane = threadIdx.x % kWarp, head = static_cast<int>(blockIdx.y);
  const int query = static_cast<int>(blockIdx.x) * (kThreads / kWarp) + static_cast<int>(threadIdx.x) / kWarp;
  if (query >= a.num_queries) return;  // the whole warp
  const auto* out = static_cast<const uint16_t*>(a.out.data) + query * a.out.frame_stride + head * a.out.head_stride;
  const auto* grad =
      static_cast<const uint16_t*>(p.grad_out.data) + query * p.grad_out.frame_stride + head * p.grad_out.head_stride;
  float sum = 0;
  for (int channel = lane; channel < a.head_dim; channel += kWarp)
    sum += T::ToFloat(out[channel]) * T::ToFloat(grad[channel]);
  for (int distance = kWarp / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
  const float lse = a.lse[head * a.lse_stride + query];
  if (lane == 0) {
    p.statistics[static_cast<int64_t>(head) * a.num_queries + query] = {lse == -INFINITY ? INFINITY : lse * kLog2e,
                                                                        sum};
  }
}

// As the forward pass: a block computes a tile of queries for one head, a warp 16 of its queries.
template <class T, int kPad>
__global__ void __launch_bounds__(kThreads, TileShape<kPad>::kBlocks)
    QueryGradientsKernel(const __grid_constant__ GradientProblem p) {
  unsigned char* shared = DynamicShared<unsigned char>();
  const CudaAttentionArguments& a = p.forward.arguments;
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (a.heads / a.kv_heads);
  const CudaQueryTile tile = a.lists.tiles[blockIdx.x];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int first = warp * kWarpRows, end = Min(first + kWarpRows, tile.num_queries);
  const int query = first + lane / 4;  // and query + 8

  KeyStream<T, kPad> keys(p.forward, static_cast<int>(blockIdx.x), kv_head, shared);
  float sums[kPad / 8][4] = {};
  const auto row_of = [&](int r) { return r < tile.num_queries ? tile.first_query + r : -1; };
  if (keys.num_steps() > 0) {
    LeftRows<kPad, true> queries, grads;
    {
      // Both pass through the stage of step 1, which is not needed before they are in registers.
      const Rows query_rows = HeadOf(a.q, head, a.head_dim, p.forward.fast);
      const Rows grad_rows = HeadOf(p.grad_out, head, a.head_dim, p.fast_grad_out);
      CopyTile<T, kPad>(keys.key_rows(1), query_rows, QueryRotation(p.forward), row_of);
      CopyTile<T, kPad>(keys.value_rows(1), grad_rows, Rotation{nullptr, nullptr, nullptr}, row_of);
      CommitCopies();
      TileRotation<T, kPad> rotation(query_rows, QueryRotation(p.forward), row_of);
      keys.Start();
      WaitCopies<1>();
      rotation.Apply(keys.key_rows(1));
      __syncthreads();
      queries.Load(keys.key_rows(1));
      grads.Load(keys.value_rows(1));
    }
    Pair32 statistics[2];
    EARSHOT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = row_of(query + 8 * half);
      statistics[half] = Pair32{INFINITY, 0};
      if (row >= 0) statistics[half] = p.statistics[static_cast<int64_t>(head) * a.num_queries + row];
    }
    for (int step = 0; step < keys.num_steps(); ++step) {
      keys.Arrive(step);
      keys.Prefetch(step + 1);
      keys.PrepareEntries();
      const Sight sight = SightOf(keys.bounds(step), first, end);
      if (sight.any) {
        EARSHOT_NO_UNROLL
        for (int column = 0; column < kTile; column += kHalfTile) {
          float weights[kHalfTile / 8][4], weight_grads[kHalfTile / 8][4];
          MultiplyByRows<T, kPad, kHalfTile>(weights, queries, keys.key_rows(step), column);
          FinishLogits<kHalfTile>(weights, p.forward.log2_scale, keys.biases(step) + column, keys.bounds(step) + column,
                                  !sight.all, query);
          MultiplyByRows<T, kPad, kHalfTile>(weight_grads, grads, keys.value_rows(step), column);
          EARSHOT_UNROLL
          for (int n = 0; n < kHalfTile / 8; ++n) {
            EARSHOT_UNROLL
            for (int i = 0; i < 4; ++i) {
              WeightAndGradient(weights[n][i], weight_grads[n][i], statistics[i / 2].x, statistics[i / 2].y);
            }
          }
          AddWeightedRows<T, kPad, kHalfTile>(sums, weight_grads, keys.key_rows(step), column);
        }
      }
      keys.StoreEntries(step + 2);
    }
    WaitCopies<0>();
  }

  __syncthreads();
  float* staging = reinterpret_cast<float*>(shared) + warp * TileShape<kPad>::kStagingFloats;
  WriteRows<T, kPad>(sums, a.scale, a.scale, staging, p.grad_q, head, a.head_dim, p.fast_grad_q,
                     QueryRotation(p.forward), [&](int r) { return row_of(first + r); });
}

}  // namespace

int RunPreprocess(const GradientProblem& problem, void* stream) {
  const CudaAttentionArguments& a = problem.forward.arguments;
  const Grid grid = {(a.num_queries + kThreads / kWarp - 1) / (kThreads / kWarp), a.heads};
  return a.element == CudaElement::kBFloat16 ? Launch(PreprocessKernel<BFloat16>, grid, kThreads, 0, stream, problem)
                                             : Launch(PreprocessKernel<Float16>, grid, kThreads, 0, stream, problem);
}

int RunQueryGradients(const GradientProblem& problem, void* stream) {
  const CudaAttentionArguments& a = problem.forward.arguments;
  return Dispatch(a, [&]<class T, int kPad>() {
    return Launch(QueryGradientsKernel<T, kPad>, {a.lists.num_tiles, a.heads}, kThreads,
                  KeyStream<T, kPad>::kSharedBytes, stream, problem);
  });
}

}  // namespace earshot::cuda
