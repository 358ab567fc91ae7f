// The operator: attention over the keys that a pattern allows, weighed by a gate.
//
//   o_i = sum over j in R(i) of softmax_j(q_i.k_j / sqrt(d) + log g_j) v_j         (DESIGN, "Hybrid attention,
//   exactly")
//
//   AttentionPlan plan = MakeAttentionPlan(pattern, {.num_queries = T, .num_keys = T});
//   torch::Tensor out = HybridAttention({.q = q, .k = k, .v = v, .lens = lens}, plan);
//
// Two forms of one thing: the reference builds the whole mask by asking Pattern::MaySee (slow, the
// oracle of all tests), the blocked one gathers, for each block of queries, only the keys it may see.
// A plan holds the key lists; it depends on pattern and lengths alone, so all layers share one.
// Differentiable in q, k, v, log_gate and memory. Stateless, thread-safe.
#pragma once

#include <torch/types.h>

#include <vector>

#include "src/attention/pattern.h"

namespace earshot {

struct AttentionInputs {
  // (N, H, Tq, d), (N, H, Tk, d), (N, H, Tk, d); q and k carry their positions already (rotary).
  torch::Tensor q, k, v;
  // (N, Tk) float, log g of each key, at most 0. Undefined: no gate.
  torch::Tensor log_gate;
  // (N) int64 on the CPU, valid keys of each utterance. Undefined: all.
  torch::Tensor lens;
  // External memory: what the queries of memory chunk b may see. (N, H, B, M, d) each, and the
  // queries without positions (N, H, Tq, d). Undefined: none.
  torch::Tensor memory_q, memory_k, memory_v;
};

struct PlanOptions {
  // Queries are the frames first_query ... first_query + num_queries - 1.
  int64_t first_query = 0;
  int64_t num_queries = 0;
  int64_t num_keys = 0;
  // Absolute position of each key, ascending; empty: 0, 1, ..., num_keys - 1.
  std::vector<int64_t> key_positions;
  // Queries computed at a time. 0: chosen by pattern.
  int64_t block = 0;
};

struct AttentionPlan {
  PlanOptions options;
  Pattern pattern;
  // One dense block: every key is listed for every query, as in short utterances.
  bool dense = false;
  // Queries in a block, blocks, and keys listed for each block (padded to the longest list).
  int64_t block = 0, num_blocks = 0, width = 0;
  // (num_blocks * width) int64: indices into the keys. Undefined when dense.
  torch::Tensor index;
  // (num_blocks, block, width) bool: may see.
  torch::Tensor visible;
  // (Tq) int64: the memory chunk of each query, counted from the first query's. Undefined: no memory.
  torch::Tensor memory_chunk;
};

AttentionPlan MakeAttentionPlan(const Pattern& pattern, const PlanOptions& options);

// Returns (N, H, Tq, d), of q's type; zeros where a query sees nothing. Scores and softmax in float.
torch::Tensor HybridAttention(const AttentionInputs& in, const AttentionPlan& plan);

// The same by the definition, with the whole (Tq, Tk) mask.
torch::Tensor HybridAttentionReference(const AttentionInputs& in, const AttentionPlan& plan);

// The weights that the reference gives each key: (N, H, Tq, Tk), memory left out. For plots.
torch::Tensor AttentionWeights(const AttentionInputs& in, const AttentionPlan& plan);

}  // namespace earshot
