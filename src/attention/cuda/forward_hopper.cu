#include "src/attention/cuda/forward_hopper.cuh"
#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/launch.cuh"

namespace earshot::cuda {

bool HopperTakes(const Problem& problem) {
  const CudaAttentionArguments& a = problem.arguments;
  return problem.fast && problem.fast_out && a.head_dim > Hopper::kDim / 2 && a.head_dim <= Hopper::kDim &&
         a.head_dim % 8 == 0 && !a.rotary.cosines && int64_t{a.lists.num_tiles} * a.heads < INT32_MAX &&
         CurrentDevice().hopper;
}

int RunHopperForward(const Problem& problem, void* stream) {
  const CudaAttentionArguments& a = problem.arguments;
  const int items = a.lists.num_tiles * a.heads;
  const Grid grid = {Min(items, 2 * CurrentDevice().multiprocessors)};
  const auto run = [&](auto kernel) {
    return Launch(kernel, grid, HopperForwardShape::Stages::kThreads, HopperForwardShape::kSharedBytes, stream, problem,
                  items);
  };
  return a.element == CudaElement::kBFloat16 ? run(HopperForwardKernel<BFloat16>) : run(HopperForwardKernel<Float16>);
}

}  // namespace earshot::cuda
