// What the kernels of the backward pass share.
//
//   P_ie = exp(logit_ie - lse_i),   dP_ie = dO_i.v_e,   D_i = dO_i.O_i,   dS_ie = P_ie (dP_ie - D_i)
//   dq_i = scale sum_e dS_ie k_e,   dk_e = scale sum_i dS_ie q_i,   dv_e = sum_i P_ie dO_i,   dbias_e = sum_i dS_ie
//
// One kernel goes by tiles of queries and writes dq, the other by tiles of keys and writes the rest; each recomputes P,
// and nobody adds to what another block wrote. Windows have a kernel of their own.
#pragma once

#include "src/attention/cuda/key_stream.cuh"

namespace earshot::cuda {

// Pairs [first_pair, end_pair) of tiles of 64 keys of an utterance, counted from its beginning.
struct alignas(16) WindowRun {
  int32_t start, length;  // of the utterance
  int32_t first_pair, end_pair;
};

struct GradientProblem {
  Problem forward;
  CudaTransposedLists transposed;
  CudaConstHeads grad_out;
  CudaHeads grad_q, grad_k, grad_v;
  float* grad_bias;
  int64_t bias_stride;
  float* grad_scores;
  int64_t scores_stride;
  int32_t num_scores;
  bool fast_grad_out, fast_grad_q, fast_grad_k, fast_grad_v;
  // (heads, num_queries): lse to base 2, +infinity for queries that see nothing, so that P is 0; and -D.
  Pair32* statistics;
  // (kv_heads, lists.capacity): the gradient of each score by transposed entry. Null: not wanted.
  float* entry_gradients;
  // Of the kernel for windows (window_gradients_hopper.cuh), which needs neither the lists nor the statistics.
  CudaWindow window;
  WindowRun* window_runs;
};

// The lse of the forward pass, a natural logarithm, as the statistics have it.
__device__ __forceinline__ float StatisticOf(float lse) { return lse == -INFINITY ? INFINITY : lse * kLog2e; }

// A logit becomes P, and dP becomes dS; lse to base 2 and -D are the query's.
__device__ __forceinline__ void WeightAndGradient(float& logit, float& grad, float lse, float minus_d) {
  logit = Exp2(logit - lse);
  grad = logit * (grad + minus_d);
}

}  // namespace earshot::cuda
