// The operator: attention over the keys that a pattern allows, weighed by a gate.
//
//   o_i = sum over j in R(i) of softmax_j(q_i.k_j / sqrt(d) + b_j) v_j         (DESIGN, "Hybrid attention, exactly")
//
//   AttentionPlan plan = MakeAttentionPlan(pattern, {.num_queries = T, .num_keys = T});
//   torch::Tensor out = HybridAttention({.q = q, .k = k, .v = v, .bias = log_gate, .lens = lens}, plan);
//
// Keys stand in rows: the frames, behind them the cells of a hierarchy and the memory of each chunk (KeyLayout). The
// bias b is log g of a frame, the log of the summed g of a cell, 0 of memory.
//
// Four forms of one thing. The reference asks for every query and row (slow, the oracle of all tests); the gathered
// form copies the keys of each block of queries together and is made of ATen alone, so it has any type and device; on
// the CPU, float and bfloat16 go to the kernels of attention_kernel.h, and on a GPU bfloat16 and half to those of
// cuda/attention_cuda.h, forward and backward. Differentiable in q, k, v, bias and selection_score. Stateless,
// thread-safe.
#pragma once

#include <torch/types.h>

#include <limits>
#include <memory>
#include <vector>

#include "src/attention/key_list.h"
#include "src/attention/pattern.h"

namespace earshot {

struct AttentionInputs {
  // (N, H, Tq, d), (N, Hk, R, d), (N, Hk, R, d); q and k carry their positions already (rotary). Hk divides H: query
  // head h reads key head h / (H / Hk). R: the rows of the plan. Any strides; fastest where the last axis is dense.
  torch::Tensor q, k, v;
  // (N, R) float, at most 0 for frames. Undefined: all 0.
  torch::Tensor bias;
  // (N) int64 on the CPU, valid frames of each utterance. Undefined: all. Queries behind them get zeros.
  torch::Tensor lens;
  // Learned selection: (N, B, n) int64, the blocks chosen for each of the B blocks of queries, the first of which holds
  // the first query, -1: none; and (N, B, n) float, added to the logits of their keys. Nothing waits for it where it is
  // on the device and the CUDA kernels compute.
  torch::Tensor selection, selection_score;
};

struct PlanOptions {
  // Queries are the frames first_query ... first_query + num_queries - 1, or those at query_positions, ascending.
  int64_t first_query = 0;
  int64_t num_queries = 0;
  std::vector<int64_t> query_positions;
  // Frames among the keys, and the absolute position of each, ascending; empty: 0, 1, ..., num_keys - 1.
  int64_t num_keys = 0;
  std::vector<int64_t> key_positions;
  // Cells that are there of each level of a hierarchy: the first and how many. Empty: all that the frames fill, the
  // last one perhaps in part.
  std::vector<KeyRange> cells;
  // Chunks whose memory is there; first > last: those that the queries are in.
  KeyRange memory_chunks;
  // log tau: rows with less bias are not read at all, and frames with less are no queries, they get zeros. Minus
  // infinity: nothing is dropped. Not differentiable there.
  double drop_below = -std::numeric_limits<double>::infinity();
};

struct PlanLists;
std::shared_ptr<PlanLists> NewPlanLists();

struct AttentionPlan {
  Pattern pattern;
  // PlanOptions::drop_below.
  double drop_below = 0;
  QueryLayout queries;
  KeyLayout keys;
  // R, rows of k and v.
  int64_t num_rows = 0;
  // What a GPU has made of the plan, for calls with the same lengths; copies of a plan share it.
  std::shared_ptr<PlanLists> lists = NewPlanLists();

  // What utterance n sees of it, by its length.
  KeyLayout KeysOf(const AttentionInputs& in, int64_t n) const;
  BlockSelection SelectionOf(const AttentionInputs& in, int64_t n) const;
  // Queries of utterance n that are there; the others get zeros.
  int64_t ValidQueries(const AttentionInputs& in, int64_t n) const;
  // Whether drop_below drops anything, and the queries that it does: (N, Tq) bool, where the bias is.
  bool Drops(const AttentionInputs& in) const;
  torch::Tensor DroppedQueries(const AttentionInputs& in) const;
};

AttentionPlan MakeAttentionPlan(const Pattern& pattern, const PlanOptions& options);

// Returns (N, H, Tq, d), of q's type; zeros where a query sees nothing. Scores and softmax in float.
torch::Tensor HybridAttention(const AttentionInputs& in, const AttentionPlan& plan);

// Each form by itself. Gathered: any device and type; in double its scores are double. block: queries at a time, 0:
// chosen. Cpu: float or bfloat16 on the CPU. Cuda: where HasCudaKernels. All but Cuda want the selection on the CPU.
torch::Tensor HybridAttentionReference(const AttentionInputs& in, const AttentionPlan& plan);
torch::Tensor HybridAttentionGathered(const AttentionInputs& in, const AttentionPlan& plan, int64_t block = 0);
torch::Tensor HybridAttentionCpu(const AttentionInputs& in, const AttentionPlan& plan);
torch::Tensor HybridAttentionCuda(const AttentionInputs& in, const AttentionPlan& plan);
// Whether the GPU's kernels are there and take these inputs.
bool HasCudaKernels(const AttentionInputs& in);

// The weights that the reference gives each row: (N, H, Tq, R). For plots.
torch::Tensor AttentionWeights(const AttentionInputs& in, const AttentionPlan& plan);

}  // namespace earshot
