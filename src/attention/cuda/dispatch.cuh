// From the element and head_dim of a problem to the kernel compiled for them.
//
//   return Dispatch(problem.arguments, [&]<class T, int kPad>() { return Launch(Kernel<T, kPad>, ...); });
#pragma once

#include "src/attention/cuda/attention_cuda.h"
#include "src/attention/cuda/primitives.cuh"

namespace earshot::cuda {

template <class T, class Run>
int DispatchPad(int head_dim, const Run& run) {
  if (head_dim <= 32) return run.template operator()<T, 32>();
  if (head_dim <= 64) return run.template operator()<T, 64>();
  if (head_dim <= 96) return run.template operator()<T, 96>();
  return run.template operator()<T, 128>();
}

template <class Run>
int Dispatch(const CudaAttentionArguments& arguments, const Run& run) {
  return arguments.element == CudaElement::kBFloat16 ? DispatchPad<BFloat16>(arguments.head_dim, run)
                                                     : DispatchPad<Float16>(arguments.head_dim, run);
}

}  // namespace earshot::cuda
