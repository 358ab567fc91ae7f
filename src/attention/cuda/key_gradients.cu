#include "src/attention/cuda/dispatch.cuh"
#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/key_gradients_kernel.cuh"
#include "src/attention/cuda/launch.cuh"

namespace earshot::cuda {

int RunKeyGradients(const GradientProblem& problem, void* stream) {
  const CudaAttentionArguments& a = problem.forward.arguments;
  return Dispatch(a, [&]<class T, int kPad>() {
    return Launch(KeyGradientsKernel<T, kPad>, {problem.transposed.num_key_tiles, a.kv_heads}, kThreads,
                  KeyGradientsShape<kPad>::kSharedBytes, stream, problem);
  });
}

int RunScoreGradients(const GradientProblem& problem, void* stream) {
  const CudaAttentionArguments& a = problem.forward.arguments;
  if (!problem.grad_scores) return 0;
  return Launch(ScoreGradientsKernel<kThreads>, {(problem.num_scores + kThreads - 1) / kThreads, a.kv_heads}, kThreads,
                0, stream, problem);
}

}  // namespace earshot::cuda
