#include "src/attention/cuda/query_gradients_hopper.cuh"

#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/launch.cuh"

namespace earshot::cuda {

int RunHopperQueryGradients(const GradientProblem& problem, void* stream) {
  const CudaAttentionArguments& a = problem.forward.arguments;
  const int items = a.lists.num_tiles * a.heads;
  const auto run = [&](auto kernel) {
    return Launch(kernel, {Min(items, CurrentDevice().multiprocessors)}, HopperQueryGradientsShape::Stages::kThreads,
                  HopperQueryGradientsShape::kSharedBytes, stream, problem, items);
  };
  return a.element == CudaElement::kBFloat16 ? run(HopperQueryGradientsKernel<BFloat16>)
                                             : run(HopperQueryGradientsKernel<Float16>);
}

}  // namespace earshot::cuda
