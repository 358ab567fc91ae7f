#include "src/nn/key_cells.h"

#include <algorithm>

#include "src/attention/masked_softmax.h"
#include "src/base/error.h"

namespace earshot {

using torch::Tensor;

namespace {

// An empty cell's weight in divisions: its keys and values are zeros, and its bias hides it.
constexpr double kLeastWeight = 1e-20;

Cells Slice(const Cells& cells, int64_t begin, int64_t end) {
  return {.k = cells.k.slice(2, begin, end),
          .v = cells.v.slice(2, begin, end),
          .weight = cells.weight.slice(1, begin, end),
          .first = cells.first + begin};
}

Cells Append(const Cells& past, const Cells& fresh) {
  if (past.size() == 0) return fresh;
  if (fresh.size() == 0) return past;
  EARSHOT_CHECK(past.end() == fresh.first, "cells {} follow on {}", fresh.first, past.end());
  return {.k = torch::cat({past.k, fresh.k}, 2),
          .v = torch::cat({past.v, fresh.v}, 2),
          .weight = torch::cat({past.weight, fresh.weight}, 1),
          .first = past.first};
}

}  // namespace

Cells PoolCells(const Cells& fine, int64_t pool) {
  EARSHOT_CHECK(fine.first % pool == 0, "cells from {} pooled by {}", fine.first, pool);
  const int64_t n = fine.k.size(0), heads = fine.k.size(1), d = fine.k.size(3);
  const int64_t cells = (fine.size() + pool - 1) / pool, missing = cells * pool - fine.size();
  const Tensor weight = torch::constant_pad_nd(fine.weight, {0, missing}).view({n, cells, pool});
  const Tensor sum = weight.sum(2);  // (N, c)
  const Tensor share = (weight / sum.clamp_min(kLeastWeight).unsqueeze(2)).view({n, 1, cells, pool, 1});
  const auto mean = [&](const Tensor& x) {
    const Tensor padded = torch::constant_pad_nd(x.to(torch::kFloat), {0, 0, 0, missing});
    return (padded.view({n, heads, cells, pool, d}) * share).sum(3);
  };
  return {.k = mean(fine.k), .v = mean(fine.v), .weight = sum, .first = fine.first / pool};
}

Tensor CellBias(const Tensor& weight) {
  return torch::where(weight > kLeastWeight, weight.clamp_min(kLeastWeight).log(),
                      torch::full({}, kNever, weight.options()));
}

std::vector<Cells> AllCells(const PatternTerm& t, const Cells& frames) {
  std::vector<Cells> levels;
  for (int64_t level = 1; level <= t.levels; ++level)
    levels.push_back(PoolCells(level == 1 ? frames : levels.back(), t.pool));
  return levels;
}

void AcceptFrames(const PatternTerm& t, const Cells& frames, bool final, CellState& state) {
  if (state.levels.empty()) state.levels.resize(static_cast<size_t>(t.levels) + 1);
  state.levels[0] = Append(state.levels[0], frames);
  for (size_t level = 1; level < state.levels.size(); ++level) {
    const Cells& fine = state.levels[level - 1];
    Cells& coarse = state.levels[level];
    if (fine.size() == 0) continue;
    const int64_t begin = std::max(coarse.end() * t.pool, fine.first);
    const int64_t end = final ? fine.end() : fine.end() / t.pool * t.pool;
    if (end > begin) coarse = Append(coarse, PoolCells(Slice(fine, begin - fine.first, end - fine.first), t.pool));
    // Whole cells: forgotten ones keep their place, so that what follows is numbered on.
    if (level == 1) state.levels[0] = Slice(fine, std::min(end - fine.first, fine.size()), fine.size());
  }
}

void ForgetCells(const PatternTerm& t, int64_t next_query, CellState& state) {
  for (int64_t level = 1; level < static_cast<int64_t>(state.levels.size()); ++level) {
    Cells& cells = state.levels[static_cast<size_t>(level)];
    if (cells.size() == 0) continue;
    int64_t first = t.PastCells(next_query, level).first;
    // The next coarser cell still needs its parts.
    if (level < t.levels) first = std::min(first, cells.end() / t.pool * t.pool);
    // The last one stays, to say where the next begins.
    first = std::clamp(first, cells.first, cells.end() - 1);
    cells = Slice(cells, first - cells.first, cells.size());
  }
}

}  // namespace earshot
