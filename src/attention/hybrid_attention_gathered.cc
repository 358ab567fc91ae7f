#include <algorithm>

#include "src/attention/differentiable.h"
#include "src/attention/hybrid_attention.h"
#include "src/attention/masked_softmax.h"
#include "src/base/error.h"

namespace earshot {

using torch::Tensor;

namespace {

// Rows of each block of queries, padded to the longest list: W of them.
struct Gather {
  Tensor index;    // (N, B * W) int64
  Tensor visible;  // (N, B, block, W) bool
  Tensor score;    // (N, B * W) int64: 1 + index of the score that is added, 0: none
  int64_t blocks = 0, block = 0, width = 0;
};

// Where the pattern has chunks, blocks of whole ones need no entries that only some of them see.
int64_t DefaultBlock(const Pattern& pattern) {
  int64_t block = 64;
  for (const PatternTerm& t : pattern.terms()) {
    if (t.kind != PatternKind::kLocal && t.kind != PatternKind::kBlockwise) continue;
    block = std::min<int64_t>((block + t.chunk - 1) / t.chunk * t.chunk, kUnitQueries);
  }
  return block;
}

Gather MakeGather(const AttentionInputs& in, const AttentionPlan& plan, int64_t block) {
  Gather g;
  const int64_t n = in.q.size(0);
  g.block = block > 0 ? block : DefaultBlock(plan.pattern);
  g.blocks = (plan.queries.num_queries + g.block - 1) / g.block;
  const Tensor bias = plan.Drops(in) ? in.bias.detach().to(torch::kCPU, torch::kFloat).contiguous() : Tensor();
  std::vector<KeyUnit> units(static_cast<size_t>(n * g.blocks));
  for (int64_t u = 0; u < n; ++u) {
    const KeyLayout keys = plan.KeysOf(in, u);
    const int64_t valid = plan.ValidQueries(in, u);
    KeyDrop drop;
    if (bias.defined()) {
      drop = {.bias = bias.data_ptr<float>() + u * bias.size(1), .below = static_cast<float>(plan.drop_below)};
    }
    for (int64_t b = 0; b * g.block < valid; ++b) {
      KeyUnit& unit = units[static_cast<size_t>(u * g.blocks + b)];
      BuildKeyUnit(plan.pattern, plan.queries, keys, plan.SelectionOf(in, u), drop,
                   {.first = b * g.block, .count = std::min(g.block, valid - b * g.block)}, &unit);
      g.width = std::max(g.width, static_cast<int64_t>(unit.keys.size()));
    }
  }
  g.index = torch::zeros({n, g.blocks * g.width}, torch::kInt64);
  g.score = torch::zeros({n, g.blocks * g.width}, torch::kInt64);
  g.visible = torch::zeros({n, g.blocks, g.block, g.width}, torch::kBool);
  if (g.width == 0) return g;
  auto index = g.index.accessor<int64_t, 2>(), score = g.score.accessor<int64_t, 2>();
  bool* visible = g.visible.data_ptr<bool>();
  for (int64_t u = 0; u < n; ++u) {
    for (int64_t b = 0; b < g.blocks; ++b) {
      const std::vector<KeyEntry>& entries = units[static_cast<size_t>(u * g.blocks + b)].keys;
      for (size_t w = 0; w < entries.size(); ++w) {
        const int64_t at = b * g.width + static_cast<int64_t>(w);
        index[u][at] = entries[w].row;
        score[u][at] = 1 + entries[w].score;
        for (int64_t q = entries[w].first; q < entries[w].end; ++q)
          visible[((u * g.blocks + b) * g.block + q) * g.width + static_cast<int64_t>(w)] = true;
      }
    }
  }
  const auto device = in.q.device();
  g.index = g.index.to(device);
  g.score = g.score.to(device);
  g.visible = g.visible.to(device);
  return g;
}

}  // namespace

Tensor HybridAttentionGathered(const AttentionInputs& in, const AttentionPlan& plan, int64_t block) {
  const Gather g = MakeGather(in, plan, block);
  const int64_t n = in.q.size(0), heads = in.q.size(1), kv_heads = in.k.size(1), d = in.q.size(3);
  const int64_t num_queries = in.q.size(2), group = heads / kv_heads, padded = g.blocks * g.block;
  if (g.width == 0) return torch::zeros_like(in.q);
  const auto type = ScoreType(in.q);
  const double scale = AttentionScale(in.q);
  const Tensor q =
      torch::constant_pad_nd(in.q, {0, 0, 0, padded - num_queries}).view({n, kv_heads, group, g.blocks, g.block, d});
  const Tensor rows = g.index.view({n, 1, -1, 1}).expand({n, kv_heads, -1, d});
  const Tensor k = in.k.to(in.q.scalar_type()).gather(2, rows).view({n, kv_heads, 1, g.blocks, g.width, d});
  const Tensor v = in.v.to(in.q.scalar_type()).gather(2, rows).view({n, kv_heads, 1, g.blocks, g.width, d});
  Tensor logits = torch::matmul(q, k.transpose(4, 5)).to(type) * scale;  // (N, Hk, group, B, block, W)
  if (in.bias.defined()) logits = logits + in.bias.to(type).gather(1, g.index).view({n, 1, 1, g.blocks, 1, g.width});
  if (in.selection_score.defined() && in.selection_score.numel() > 0) {
    const Tensor scores = in.selection_score.to(type).flatten(1).gather(1, (g.score - 1).clamp_min(0));
    logits = logits + (scores * (g.score > 0).to(type)).view({n, 1, 1, g.blocks, 1, g.width});
  }
  logits = logits.masked_fill(~g.visible.view({n, 1, 1, g.blocks, g.block, g.width}), kNever);
  const Tensor out =
      torch::matmul(MaskedSoftmax(logits).to(v.scalar_type()), v).view({n, heads, padded, d}).narrow(2, 0, num_queries);
  if (!plan.Drops(in)) return out;
  return out.masked_fill(plan.DroppedQueries(in).to(out.device()).view({n, 1, num_queries, 1}), 0);
}

}  // namespace earshot
