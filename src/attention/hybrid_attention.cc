#include "src/attention/hybrid_attention.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"

namespace earshot {

using torch::Tensor;

AttentionPlan MakeAttentionPlan(const Pattern& pattern, const PlanOptions& options) {
  const PlanOptions& o = options;
  EARSHOT_CHECK(o.key_positions.empty() || static_cast<int64_t>(o.key_positions.size()) == o.num_keys,
                "{} key positions for {} keys", o.key_positions.size(), o.num_keys);
  EARSHOT_CHECK(o.query_positions.empty() || static_cast<int64_t>(o.query_positions.size()) == o.num_queries,
                "{} query positions for {} queries", o.query_positions.size(), o.num_queries);
  AttentionPlan plan{.pattern = pattern, .drop_below = o.drop_below};
  plan.queries = {.num_queries = o.num_queries, .first = o.first_query, .positions = o.query_positions};
  plan.keys = {.num_frames = o.num_keys, .valid_frames = o.num_keys, .positions = o.key_positions};
  int64_t rows = o.num_keys;
  if (const PatternTerm* t = pattern.hierarchical()) {
    EARSHOT_CHECK(o.cells.empty() || static_cast<int64_t>(o.cells.size()) == t->levels, "cells of {} levels, not of {}",
                  o.cells.size(), t->levels);
    const int64_t frames = o.num_keys == 0 ? 0 : plan.keys.Position(o.num_keys - 1) + 1;
    for (int64_t level = 1; level <= t->levels; ++level) {
      const int64_t size = t->CellFrames(level);
      const KeyRange cells =
          o.cells.empty() ? KeyRange{0, (frames + size - 1) / size - 1} : o.cells[static_cast<size_t>(level - 1)];
      plan.keys.levels.push_back(
          {.first_row = rows, .first_cell = cells.first, .num_cells = cells.last - cells.first + 1});
      rows += plan.keys.levels.back().num_cells;
    }
  }
  if (const PatternTerm* t = pattern.memory(); t && o.num_queries > 0) {
    plan.keys.memory_row = rows;
    KeyRange chunks = o.memory_chunks;
    if (chunks.first > chunks.last)
      chunks = {plan.queries.Position(0) / t->chunk, plan.queries.Position(o.num_queries - 1) / t->chunk};
    plan.keys.first_chunk = chunks.first;
    plan.keys.num_chunks = chunks.last - chunks.first + 1;
    rows += plan.keys.num_chunks * t->slots;
  }
  plan.num_rows = rows;
  return plan;
}

KeyLayout AttentionPlan::KeysOf(const AttentionInputs& in, int64_t n) const {
  KeyLayout layout = keys;
  if (in.lens.defined())
    layout.valid_frames = std::clamp<int64_t>(in.lens.data_ptr<int64_t>()[n], 0, layout.num_frames);
  return layout;
}

BlockSelection AttentionPlan::SelectionOf(const AttentionInputs& in, int64_t n) const {
  if (!in.selection.defined()) return {};
  return {.blocks = in.selection.data_ptr<int64_t>() + n * in.selection.stride(0), .num_blocks = in.selection.size(1)};
}

int64_t AttentionPlan::ValidQueries(const AttentionInputs& in, int64_t n) const {
  if (!in.lens.defined()) return queries.num_queries;
  const int64_t valid = std::clamp<int64_t>(in.lens.data_ptr<int64_t>()[n], 0, keys.num_frames);
  if (valid == keys.num_frames) return queries.num_queries;
  const int64_t end = valid == 0 ? 0 : keys.Position(valid - 1) + 1;
  if (queries.positions.empty()) return std::clamp<int64_t>(end - queries.first, 0, queries.num_queries);
  return std::lower_bound(queries.positions.begin(), queries.positions.end(), end) - queries.positions.begin();
}

bool AttentionPlan::Drops(const AttentionInputs& in) const { return in.bias.defined() && std::isfinite(drop_below); }

Tensor AttentionPlan::DroppedQueries(const AttentionInputs& in) const {
  const Tensor below = in.bias.detach() < drop_below;  // (N, R)
  if (queries.num_queries == keys.num_frames && keys.positions.empty() && queries.positions.empty() &&
      queries.first == 0)
    return below.narrow(1, 0, keys.num_frames);
  std::vector<int64_t> row(static_cast<size_t>(queries.num_queries));
  for (int64_t q = 0; q < queries.num_queries; ++q) {
    const int64_t position = queries.Position(q), frame = keys.FrameAt(position);
    const bool there = frame < keys.num_frames && keys.Position(frame) == position;
    row[static_cast<size_t>(q)] = there ? frame : -1;
  }
  const Tensor index = torch::tensor(row, torch::kInt64).to(below.device());
  return below.index_select(1, index.clamp_min(0)) & (index >= 0).unsqueeze(0);
}

namespace {

void CheckShapes(const AttentionInputs& in, const AttentionPlan& plan) {
  EARSHOT_CHECK(in.q.dim() == 4 && in.k.dim() == 4 && in.v.dim() == 4 && in.q.size(2) == plan.queries.num_queries &&
                    in.k.size(2) == plan.num_rows && in.v.size(2) == plan.num_rows,
                "{} queries, {} keys and {} values, the plan is for {} and {}", in.q.size(2), in.k.size(2),
                in.v.size(2), plan.queries.num_queries, plan.num_rows);
  const int64_t n = in.q.size(0), d = in.q.size(3);
  EARSHOT_CHECK(in.k.size(0) == n && in.v.size(0) == n && in.k.size(3) == d && in.v.size(3) == d,
                "queries of {} utterances and {} channels, keys of {} and {}, values of {} and {}", n, d, in.k.size(0),
                in.k.size(3), in.v.size(0), in.v.size(3));
  EARSHOT_CHECK(in.q.size(1) % in.k.size(1) == 0 && in.k.size(1) == in.v.size(1), "{} query heads for {} key heads",
                in.q.size(1), in.k.size(1));
  EARSHOT_CHECK(!in.bias.defined() || (in.bias.dim() == 2 && in.bias.size(0) == n && in.bias.size(1) == plan.num_rows),
                "a bias that is not of {} utterances and {} rows", n, plan.num_rows);
  EARSHOT_CHECK(!in.lens.defined() || (in.lens.is_contiguous() && in.lens.device().is_cpu() && in.lens.numel() == n),
                "lengths off the CPU, or not of {} utterances", n);
  if (const PatternTerm* t = plan.pattern.learned(); t && in.selection.defined() && plan.queries.num_queries > 0) {
    const int64_t blocks =
        plan.queries.Position(plan.queries.num_queries - 1) / t->chunk - plan.queries.Position(0) / t->chunk + 1;
    const std::vector<int64_t> shape = {n, blocks, t->blocks};
    EARSHOT_CHECK(in.selection.is_contiguous() && in.selection.sizes() == shape,
                  "a selection that is not of {} utterances, {} blocks of queries and {} chosen", n, blocks, t->blocks);
    EARSHOT_CHECK(!in.selection_score.defined() || in.selection_score.sizes() == shape,
                  "scores of another shape than the selection's");
  }
}

bool HasCpuKernels(const AttentionInputs& in) {
  const auto type = in.q.scalar_type();
  return in.q.device().is_cpu() && (type == torch::kFloat || type == torch::kBFloat16) && in.q.size(3) <= 256;
}

}  // namespace

Tensor HybridAttention(const AttentionInputs& in, const AttentionPlan& plan) {
  CheckShapes(in, plan);
  if (in.q.numel() == 0 || plan.num_rows == 0) return torch::zeros_like(in.q);
  if (HasCpuKernels(in)) return HybridAttentionCpu(in, plan);
  if (HasCudaKernels(in)) return HybridAttentionCuda(in, plan);
  AttentionInputs on_host = in;
  if (in.selection.defined()) on_host.selection = in.selection.to(torch::kCPU);
  return HybridAttentionGathered(on_host, plan);
}

}  // namespace earshot
