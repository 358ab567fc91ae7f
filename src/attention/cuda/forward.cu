#include "src/attention/cuda/dispatch.cuh"
#include "src/attention/cuda/forward_kernel.cuh"
#include "src/attention/cuda/kernels.h"
#include "src/attention/cuda/launch.cuh"

namespace earshot::cuda {

int RunForward(const Problem& problem, void* stream) {
  if (HopperTakes(problem)) return RunHopperForward(problem, stream);
  const CudaAttentionArguments& a = problem.arguments;
  return Dispatch(a, [&]<class T, int kPad>() {
    return Launch(ForwardKernel<T, kPad>, {a.lists.num_tiles * TileShape<kPad>::kParts, a.heads}, kThreads,
                  KeyStream<T, kPad>::kSharedBytes, stream, problem);
  });
}

}  // namespace earshot::cuda
