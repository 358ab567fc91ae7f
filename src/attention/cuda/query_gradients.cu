#include "src/attention/cuda/dispatch.cuh"
#include "src/attention/cuda/gradients.cuh"
#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/launch.cuh"

namespace earshot::cuda {
namespace {

// Eight lanes compute the statistics of a query and head.
inline constexpr int kStatisticsLanes = 8;
template <class T>
__global__ void PreprocessKernel(const __grid_constant__ GradientProblem p) {
  const CudaAttentionArguments& a = p.forward.arguments;
  const int64_t item = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kStatisticsLanes;
  const int lane = threadIdx.x % kStatisticsLanes, head = static_cast<int>(item % a.heads);
  const auto query = static_cast<int>(item / a.heads);
  float sum = 0;
  if (query < a.num_queries) {
    const auto* out = static_cast<const uint16_t*>(a.out.data) + query * a.out.frame_stride + head * a.out.head_stride;
    const auto* grad =
        static_cast<const uint16_t*>(p.grad_out.data) + query * p.grad_out.frame_stride + head * p.grad_out.head_stride;
    if (p.fast_grad_out && p.forward.fast_out) {
      for (int channel = lane * 8; channel < a.head_dim; channel += kStatisticsLanes * 8) {
        const Octet16 x = *reinterpret_cast<const Octet16*>(out + channel);
        const Octet16 y = *reinterpret_cast<const Octet16*>(grad + channel);
        EARSHOT_UNROLL
        for (int i = 0; i < 4; ++i) {
          sum += LowOf<T>(x.pairs[i]) * LowOf<T>(y.pairs[i]);
          sum += HighOf<T>(x.pairs[i]) * HighOf<T>(y.pairs[i]);
        }
      }
    } else {
      for (int channel = lane; channel < a.head_dim; channel += kStatisticsLanes)
        sum += T::ToFloat(out[channel]) * T::ToFloat(grad[channel]);
    }
  }
  for (int distance = kStatisticsLanes / 2; distance > 0; distance /= 2)
    sum += __shfl_xor_sync(kAllLanes, sum, distance);
  if (query >= a.num_queries || lane != 0) return;
  p.statistics[static_cast<int64_t>(head) * a.num_queries + query] = {StatisticOf(a.lse[head * a.lse_stride + query]),
                                                                      -sum};
}

// As the forward pass: a block computes a tile of queries, or a part of it, for one head.
template <class T, int kPad>
__global__ void __launch_bounds__(kThreads, 2) QueryGradientsKernel(const __grid_constant__ GradientProblem p) {
  using Shape = TileShape<kPad>;
  constexpr int kGroups = Shape::kGroups;
  unsigned char* shared = DynamicShared<unsigned char>();
  const CudaAttentionArguments& a = p.forward.arguments;
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (a.heads / a.kv_heads);
  const int list = static_cast<int>(blockIdx.x) / Shape::kParts;
  const CudaQueryTile tile = a.lists.tiles[list];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int block_first = static_cast<int>(blockIdx.x) % Shape::kParts * Shape::kQueries;
  const int first = block_first + warp * kGroups * kGroupRows;  // of the tile
  const int end = Min(first + kGroups * kGroupRows, tile.num_queries);
  if (block_first >= tile.num_queries) return;  // the whole block

  KeyStream<T, kPad> keys(p.forward, list, kv_head, shared);
  Sums<kGroups, kPad> sums = {};
  const auto row_of = [&](int r) { return r < tile.num_queries ? tile.first_query + r : -1; };
  if (keys.num_steps() > 0) {
    LeftRows<kPad, true, kGroups> queries, grads;
    const auto row_of_block = [&](int r) { return row_of(block_first + r); };
    keys.LoadLeft(grads, HeadOf(p.grad_out, head, a.head_dim, p.fast_grad_out), Rotation{nullptr, nullptr, nullptr},
                  row_of_block, [] { CommitCopies(); });
    __syncthreads();
    keys.LoadLeft(queries, HeadOf(a.q, head, a.head_dim, p.forward.fast), QueryRotation(p.forward), row_of_block,
                  [&] { keys.Start(); });
    Pair32 statistics[kGroups][2];
    EARSHOT_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      EARSHOT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = row_of(first + g * kGroupRows + lane / 4 + 8 * half);
        statistics[g][half] = Pair32{INFINITY, 0};
        if (row >= 0) statistics[g][half] = p.statistics[static_cast<int64_t>(head) * a.num_queries + row];
      }
    }
    for (int step = 0; step < keys.num_steps(); ++step) {
      keys.Arrive(step);
      keys.Prefetch(step + 1);
      keys.PrepareEntries();
      EARSHOT_NO_UNROLL
      for (int column = 0; column < kTile; column += kUnit) {
        const Sight sight = SightOf(keys.ranges(step) + column, first, end);
        if (!sight.any) continue;
        Sums<kGroups, kUnit> weights, weight_grads;
        MultiplyByRows<T, kPad, kUnit>(weights, queries, keys.key_rows(step), column);
        AddBiases<kUnit>(weights, p.forward.log2_scale, keys.biases(step) + column);
        if (!sight.all) MaskLogits<kUnit>(weights, keys.ranges(step) + column, first + lane / 4);
        MultiplyByRows<T, kPad, kUnit>(weight_grads, grads, keys.value_rows(step), column);
        EARSHOT_UNROLL
        for (int g = 0; g < kGroups; ++g) {
          EARSHOT_UNROLL
          for (int n = 0; n < kUnit / 8; ++n) {
            EARSHOT_UNROLL
            for (int i = 0; i < 4; ++i)
              WeightAndGradient(weights[g][n][i], weight_grads[g][n][i], statistics[g][i / 2].x,
                                statistics[g][i / 2].y);
          }
        }
        Packed<kGroups, kUnit> packed;
        Pack<T, kUnit>(weight_grads, packed);
        AddWeightedRows<T, kPad, kUnit>(sums, packed, keys.key_rows(step), column);
      }
      keys.StoreEntries(step + 2);
    }
    WaitCopies<0>();
  }

  __syncthreads();
  float* staging = reinterpret_cast<float*>(shared) + warp * Shape::kStagingFloats;
  EARSHOT_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    WriteRows<T, kPad>(sums[g], a.scale, a.scale, staging, p.grad_q, head, a.head_dim, p.fast_grad_q,
                       QueryRotation(p.forward), [&](int r) { return row_of(first + g * kGroupRows + r); });
  }
}

}  // namespace

int RunPreprocess(const GradientProblem& problem, void* stream) {
  const CudaAttentionArguments& a = problem.forward.arguments;
  constexpr int kItems = kThreads / kStatisticsLanes;
  const Grid grid = {(static_cast<int64_t>(a.num_queries) * a.heads + kItems - 1) / kItems};
  return a.element == CudaElement::kBFloat16 ? Launch(PreprocessKernel<BFloat16>, grid, kThreads, 0, stream, problem)
                                             : Launch(PreprocessKernel<Float16>, grid, kThreads, 0, stream, problem);
}

int RunQueryGradients(const GradientProblem& problem, void* stream) {
  const CudaAttentionArguments& a = problem.forward.arguments;
  return Dispatch(a, [&]<class T, int kPad>() {
    return Launch(QueryGradientsKernel<T, kPad>, {a.lists.num_tiles * TileShape<kPad>::kParts, a.heads}, kThreads,
                  KeyStream<T, kPad>::kSharedBytes, stream, problem);
  });
}

}  // namespace earshot::cuda
