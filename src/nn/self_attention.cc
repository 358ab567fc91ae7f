#include "src/nn/self_attention.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/nn/dropout.h"

namespace earshot {

using torch::Tensor;

namespace {

Tensor Append(const Tensor& past, const Tensor& fresh, int64_t axis) {
  return past.defined() ? torch::cat({past, fresh}, axis) : fresh;
}

// How much each frame counts in a summary: its gate, 0 where it is padding. (N, T) float.
Tensor SummaryWeight(const Tensor& x, const Tensor& gate, const Tensor& mask) {
  Tensor weight = gate.defined() ? gate : torch::ones({x.size(0), x.size(1)}, x.options().dtype(torch::kFloat));
  return mask.defined() ? weight * mask.squeeze(2) : weight;
}

}  // namespace

SelfAttention::SelfAttention(const Pattern& pattern, int64_t dim, int64_t heads, double dropout, bool bias)
    : pattern_(pattern), heads_(heads), dropout_(dropout) {
  norm_ = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim})));
  qkv_ = register_module("qkv", torch::nn::Linear(torch::nn::LinearOptions(dim, 3 * dim).bias(bias)));
  output_ = register_module("output", torch::nn::Linear(torch::nn::LinearOptions(dim, dim).bias(bias)));
  if (const PatternTerm* term = pattern_.memory())
    memory_ = register_module("memory", std::make_shared<MemoryBank>(*term, dim));
  if (const PatternTerm* term = pattern_.learned())
    selector_ = register_module("selector", std::make_shared<BlockSelector>(*term, dim));
}

SelfAttention::Projected SelfAttention::Project(const Tensor& x) {
  Projected p;
  p.normed = norm_(x);
  const auto parts =
      qkv_(p.normed).view({x.size(0), x.size(1), 3, heads_, x.size(2) / heads_}).permute({2, 0, 3, 1, 4}).unbind(0);
  p.q = parts[0];
  p.k = parts[1];
  p.v = parts[2];
  return p;
}

Tensor SelfAttention::Output(const Tensor& heads) {
  return Dropout(output_(heads.transpose(1, 2).flatten(2)), dropout_, is_training());
}

// --- Rows --------------------------------------------------------------------------------------------------------

void SelfAttention::Rows::Join(AttentionInputs& in) const {
  in.k = k.size() == 1 ? k[0] : torch::cat(k, 2);
  in.v = v.size() == 1 ? v[0] : torch::cat(v, 2);
  if (!bias.empty()) in.bias = bias.size() == 1 ? bias[0] : torch::cat(bias, 1);
}

SelfAttention::Rows SelfAttention::FrameRows(const Tensor& k, const Tensor& v, const Tensor& log_gate) const {
  Rows rows{.k = {k}, .v = {v}};
  if (log_gate.defined()) {
    rows.bias = {log_gate};
  } else if (pattern_.hierarchical()) {  // whose cells have a bias of their own
    rows.bias = {torch::zeros({k.size(0), k.size(2)}, k.options().dtype(torch::kFloat))};
  }
  return rows;
}

void SelfAttention::AddCells(const std::vector<Cells>& levels, Rows& rows) const {
  const auto type = rows.k[0].scalar_type();
  const PatternTerm& t = *pattern_.hierarchical();
  for (size_t i = 0; i < levels.size(); ++i) {
    const Cells& cells = levels[i];
    if (cells.size() == 0) continue;
    const auto frames = static_cast<double>(t.CellFrames(static_cast<int64_t>(i) + 1));
    const Tensor middle = (torch::arange(cells.first, cells.end(), torch::kDouble) + 0.5) * frames - 0.5;
    const RotaryTable table = MakeRotaryTable(middle, cells.k.size(3), cells.k.device());
    rows.k.push_back(ApplyRotary(cells.k, table).to(type));
    rows.v.push_back(cells.v.to(type));
    rows.bias.push_back(CellBias(cells.weight));
  }
}

void SelfAttention::AddMemory(const Tensor& memory, int64_t first_chunk, Rows& rows) {
  const int64_t n = memory.size(0), chunks = memory.size(1), slots = memory.size(2), dim = memory.size(3);
  const auto type = rows.k[0].scalar_type();
  const Tensor kv = torch::linear(memory.flatten(1, 2), qkv_->weight.narrow(0, dim, 2 * dim),
                                  qkv_->bias.defined() ? qkv_->bias.narrow(0, dim, 2 * dim) : Tensor());
  const auto parts = kv.view({n, chunks * slots, 2, heads_, dim / heads_}).permute({2, 0, 3, 1, 4}).unbind(0);
  // What is remembered stands just where the chunk begins that sees it.
  const Tensor starts = torch::arange(first_chunk, first_chunk + chunks, torch::kDouble)
                            .mul(static_cast<double>(memory_->chunk()))
                            .repeat_interleave(slots);
  rows.k.push_back(ApplyRotary(parts[0], MakeRotaryTable(starts, dim / heads_, memory.device())).to(type));
  rows.v.push_back(parts[1].to(type));
  if (!rows.bias.empty()) rows.bias.push_back(torch::zeros({n, chunks * slots}, rows.bias[0].options()));
}

// --- A whole batch -----------------------------------------------------------------------------------------------

AttentionInputs SelfAttention::Inputs(const Tensor& x, const FrameContext& context) {
  const Projected p = Project(x);
  AttentionInputs in{.q = ApplyRotary(p.q, context.rotary), .lens = context.lens};
  Rows rows = FrameRows(ApplyRotary(p.k, context.rotary), p.v, context.log_gate);
  const Tensor gate = context.gate.defined() ? context.gate.squeeze(2) : Tensor();
  if (const PatternTerm* t = pattern_.hierarchical())
    AddCells(AllCells(*t, {.k = p.k, .v = p.v, .weight = SummaryWeight(x, gate, context.mask)}), rows);
  if (memory_ && x.size(1) > 0) AddMemory(memory_->forward(p.normed, context.log_gate), 0, rows);
  rows.Join(in);
  if (selector_) {
    const BlockMeans means = selector_->Means(p.normed, SummaryWeight(x, gate, context.mask), 0);
    const int64_t size = selector_->block();
    const SelectedBlocks selected = selector_->Select(
        means, means, context.lens.defined() ? (context.lens + (size - 1)).div(size, "floor") : Tensor());
    in.selection = selected.blocks;
    in.selection_score = selected.score;
  }
  return in;
}

Tensor SelfAttention::forward(const Tensor& x, const FrameContext& context) {
  return Output(HybridAttention(Inputs(x, context), context.plan));
}

Tensor SelfAttention::Weights(const Tensor& x, const FrameContext& context) {
  const Tensor rows = AttentionWeights(Inputs(x, context), context.plan);  // (N, H, T', R)
  const int64_t frames = x.size(1);
  Tensor weights = rows.narrow(3, 0, frames);
  const auto& levels = context.plan.keys.levels;
  for (size_t i = 0; i < levels.size(); ++i) {
    // A cell's weight is shared by its frames.
    const int64_t size = pattern_.hierarchical()->CellFrames(static_cast<int64_t>(i) + 1);
    const Tensor cells = rows.narrow(3, levels[i].first_row, levels[i].num_cells) / static_cast<double>(size);
    weights = weights + cells.repeat_interleave(size, 3).narrow(3, 0, frames);
  }
  return weights;
}

// --- A stream ----------------------------------------------------------------------------------------------------

void SelfAttention::AcceptSummaries(const Projected& p, const Tensor& log_gate, bool final, SelfAttentionState& state) {
  const Tensor weight = SummaryWeight(p.normed, log_gate.defined() ? log_gate.exp() : Tensor(), {});
  if (const PatternTerm* t = pattern_.hierarchical())
    AcceptFrames(*t, {.k = p.k, .v = p.v, .weight = weight, .first = state.received}, final, state.cells);
  if (selector_) {
    const int64_t size = selector_->block();
    state.open_x = Append(state.open_x, p.normed, 1);
    state.open_weight = Append(state.open_weight, weight, 1);
    const int64_t open = state.open_x.size(1), used = final ? open : open / size * size;
    if (used > 0) {
      const int64_t first = (state.received + p.normed.size(1) - open) / size;
      const BlockMeans fresh =
          selector_->Means(state.open_x.narrow(1, 0, used), state.open_weight.narrow(1, 0, used), first);
      if (!state.means.mean.defined()) state.means.first = first;
      state.means.mean = Append(state.means.mean, fresh.mean, 1);
      state.open_x = state.open_x.narrow(1, used, open - used);
      state.open_weight = state.open_weight.narrow(1, used, open - used);
    }
  }
  if (memory_) {
    state.pending_x = Append(state.pending_x, p.normed, 1);
    if (log_gate.defined()) state.pending_log_gate = Append(state.pending_log_gate, log_gate, 1);
  }
}

SelectedBlocks SelfAttention::SelectInStream(int64_t first_query, int64_t num_queries,
                                             const SelfAttentionState& state) const {
  const int64_t size = selector_->block();
  const int64_t first = first_query / size, last = (first_query + num_queries - 1) / size;
  const BlockMeans queries{.mean = state.means.mean.slice(1, first - state.means.first, last + 1 - state.means.first),
                           .first = first};
  return selector_->Select(queries, state.means, {});
}

// (N, B, M, D): what the chunks of the queries up to `ready` see. Chunks that they leave behind are read into memory.
Tensor SelfAttention::MemoryInStream(int64_t ready, SelfAttentionState& state) {
  const int64_t chunk = memory_->chunk();
  const int64_t used = ready - state.first_pending_x;
  const Tensor gate = state.pending_log_gate.defined() ? state.pending_log_gate.narrow(1, 0, used) : Tensor();
  Tensor next;
  const Tensor seen = memory_->forward(state.pending_x.narrow(1, 0, used), gate, state.memory, &next);
  const int64_t done = used / chunk * chunk;
  state.memory = next;
  state.pending_x = state.pending_x.narrow(1, done, state.pending_x.size(1) - done);
  if (gate.defined())
    state.pending_log_gate = state.pending_log_gate.narrow(1, done, state.pending_log_gate.size(1) - done);
  state.first_pending_x += done;
  return seen;
}

void SelfAttention::Forget(SelfAttentionState& state) const {
  std::vector<int64_t> kept, kept_positions;
  for (size_t i = 0; i < state.key_positions.size(); ++i) {
    if (pattern_.Forgettable(state.key_positions[i], state.next_query)) continue;
    kept.push_back(static_cast<int64_t>(i));
    kept_positions.push_back(state.key_positions[i]);
  }
  if (kept.size() < state.key_positions.size()) {
    const Tensor index = torch::tensor(kept, torch::kInt64).to(state.k.device());
    state.k = state.k.index_select(2, index);
    state.v = state.v.index_select(2, index);
    if (state.log_gate.defined()) state.log_gate = state.log_gate.index_select(1, index);
    state.key_positions = std::move(kept_positions);
  }
  if (const PatternTerm* t = pattern_.hierarchical()) ForgetCells(*t, state.next_query, state.cells);
  if (selector_ && state.means.mean.defined()) {
    const PatternTerm& t = *pattern_.learned();
    const int64_t blocks = state.means.mean.size(1);
    const int64_t gone =
        std::clamp<int64_t>(t.Candidates(state.next_query / t.chunk).first - state.means.first, 0, blocks);
    state.means.mean = state.means.mean.slice(1, gone, blocks);
    state.means.first += gone;
  }
}

Tensor SelfAttention::Stream(const Tensor& x, const Tensor& log_gate, bool final, SelfAttentionState& state) {
  const Projected p = Project(x);
  const RotaryTable rotary = MakeRotaryTable(state.received, x.size(1), p.q.size(3), x.device());
  state.pending_q = Append(state.pending_q, ApplyRotary(p.q, rotary), 2);
  state.k = Append(state.k, ApplyRotary(p.k, rotary), 2);
  state.v = Append(state.v, p.v, 2);
  if (log_gate.defined()) state.log_gate = Append(state.log_gate, log_gate, 1);
  for (int64_t i = 0; i < x.size(1); ++i) state.key_positions.push_back(state.received + i);
  AcceptSummaries(p, log_gate, final, state);
  state.received += x.size(1);

  const int64_t ready = final ? state.received : std::max(pattern_.ReadyQueries(state.received), state.next_query);
  const int64_t count = ready - state.next_query;
  if (count == 0) return x.narrow(1, 0, 0);
  PlanOptions options{.first_query = state.next_query,
                      .num_queries = count,
                      .num_keys = state.k.size(2),
                      .key_positions = state.key_positions};
  AttentionInputs in{.q = state.pending_q.narrow(2, 0, count)};
  state.pending_q = state.pending_q.narrow(2, count, state.received - ready);
  Rows rows = FrameRows(state.k, state.v, state.log_gate);
  if (pattern_.hierarchical()) {
    const std::vector<Cells> levels(state.cells.levels.begin() + 1, state.cells.levels.end());
    for (const Cells& cells : levels) options.cells.push_back({cells.first, cells.end() - 1});
    AddCells(levels, rows);
  }
  if (memory_) AddMemory(MemoryInStream(ready, state), state.next_query / memory_->chunk(), rows);
  rows.Join(in);
  if (selector_) {
    const SelectedBlocks selected = SelectInStream(state.next_query, count, state);
    in.selection = selected.blocks;
    in.selection_score = selected.score;
  }
  const Tensor out = Output(HybridAttention(in, MakeAttentionPlan(pattern_, options)));
  state.next_query = ready;
  Forget(state);
  return out;
}

}  // namespace earshot
