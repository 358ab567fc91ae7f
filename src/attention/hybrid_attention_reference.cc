#include "src/attention/differentiable.h"
#include "src/attention/hybrid_attention.h"
#include "src/attention/masked_softmax.h"

namespace earshot {

using torch::Tensor;

namespace {

// For each query and row the logit that is added, kNever where the row is not seen: (N, 1, Tq, R), of the scores' type.
Tensor LogitBias(const AttentionInputs& in, const AttentionPlan& plan, torch::ScalarType type) {
  const int64_t n = in.q.size(0), queries = plan.queries.num_queries, rows = plan.num_rows;
  // 0: not seen; 1: seen; 2 + i: seen, with score i added.
  Tensor seen = torch::zeros({n, queries, rows}, torch::kInt64);
  auto s = seen.accessor<int64_t, 3>();
  for (int64_t u = 0; u < n; ++u) {
    const KeyLayout keys = plan.KeysOf(in, u);
    const BlockSelection selection = plan.SelectionOf(in, u);
    for (int64_t q = 0; q < plan.ValidQueries(in, u); ++q) {
      for (int64_t r = 0; r < rows; ++r) s[u][q][r] = 1 + SeesRow(plan.pattern, plan.queries, keys, selection, q, r);
    }
  }
  seen = seen.to(in.q.device());
  Tensor bias = torch::zeros({n, 1, rows}, in.q.options().dtype(type));
  if (in.bias.defined()) bias = in.bias.to(type).unsqueeze(1);
  Tensor visible = seen > 0;
  if (plan.Drops(in)) {
    visible = visible & (in.bias >= plan.drop_below).unsqueeze(1) &
              ~plan.DroppedQueries(in).to(visible.device()).unsqueeze(2);
  }
  Tensor logits = bias.expand({n, queries, rows});
  if (in.selection_score.defined() && in.selection_score.numel() > 0) {
    const Tensor index = (seen - 2).clamp_min(0).flatten(1);
    const Tensor score = in.selection_score.to(type).flatten(1).gather(1, index).view({n, queries, rows});
    logits = logits + score * (seen > 1).to(type);
  }
  return torch::where(visible, logits, torch::full({}, kNever, logits.options())).unsqueeze(1);
}

// The weights (N, H, Tq, R) of the rows, in float or double.
Tensor Weights(const AttentionInputs& in, const AttentionPlan& plan) {
  const auto type = ScoreType(in.q);
  const double scale = AttentionScale(in.q);
  const int64_t group = in.q.size(1) / in.k.size(1);
  const Tensor k = in.k.to(type).repeat_interleave(group, 1);
  const Tensor scores = torch::matmul(in.q.to(type), k.transpose(2, 3)) * scale;
  return MaskedSoftmax(scores + LogitBias(in, plan, type));
}

}  // namespace

Tensor HybridAttentionReference(const AttentionInputs& in, const AttentionPlan& plan) {
  const int64_t group = in.q.size(1) / in.k.size(1);
  const Tensor weights = Weights(in, plan);
  return torch::matmul(weights, in.v.to(weights.scalar_type()).repeat_interleave(group, 1)).to(in.q.scalar_type());
}

Tensor AttentionWeights(const AttentionInputs& in, const AttentionPlan& plan) { return Weights(in, plan); }

}  // namespace earshot
