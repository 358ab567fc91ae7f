#include "src/attention/cuda/key_gradients_hopper.cuh"

#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/launch.cuh"

namespace earshot::cuda {

bool HopperTakes(const GradientProblem& problem) {
  const CudaAttentionArguments& a = problem.forward.arguments;
  return HopperTakes(problem.forward) && problem.fast_grad_out && problem.fast_grad_q && problem.fast_grad_k &&
         problem.fast_grad_v && int64_t{problem.transposed.num_key_tiles} * a.kv_heads < INT32_MAX;
}

int RunHopperKeyGradients(const GradientProblem& problem, void* stream) {
  using Shape = HopperKeyGradientsShape;
  const CudaAttentionArguments& a = problem.forward.arguments;
  const int items = problem.transposed.num_key_tiles * a.kv_heads;
  const auto run = [&](auto kernel) {
    const int blocks = Min((items + Hopper::kGroups - 1) / Hopper::kGroups, CurrentDevice().multiprocessors);
    return Launch(kernel, {blocks}, Shape::kThreads, Shape::kSharedBytes, stream, problem, items);
  };
  return a.element == CudaElement::kBFloat16 ? run(HopperKeyGradientsKernel<BFloat16>)
                                             : run(HopperKeyGradientsKernel<Float16>);
}

}  // namespace earshot::cuda
