#include "src/nn/self_attention.h"

#include <algorithm>
#include <numeric>

#include "src/base/error.h"
#include "src/nn/dropout.h"
#include "src/nn/frame_queue.h"
#include "src/nn/side_by_side.h"

namespace earshot {

using torch::Tensor;

namespace {

// The gate of a frame that was left out, in a memory's softmax.
constexpr double kLeastGate = 1e-30;

// Keys that are forgotten at a time, at the least, where others before them stay: what is seen no more costs little
// beside a copy of all that is.
constexpr size_t kForgottenTogether = 32;

// Frames (N, t, ...) of a stream on the grid of all positions from first on: zeros for those that were left out.
Tensor OnGrid(const Tensor& x, const FramePositions& positions, int64_t first, int64_t axis) {
  const int64_t size = positions.received - first;
  if (positions.size() == size) return x;
  std::vector<int64_t> index;
  for (const int64_t p : positions.at) index.push_back(p - first);
  std::vector<int64_t> shape = x.sizes().vec();
  shape[static_cast<size_t>(axis)] = size;
  return torch::zeros(shape, x.options()).index_copy(axis, torch::tensor(index, torch::kInt64).to(x.device()), x);
}

RotaryTable RotaryOf(const FramePositions& positions, int64_t head_dim, torch::Device device) {
  return positions.rotary.cos.defined() ? positions.rotary : MakeRotaryTable(positions.at, head_dim, device);
}

// How much each frame counts in a summary: its gate, 0 where it is padding. (N, T) float.
Tensor SummaryWeight(const Tensor& x, const Tensor& gate, const Tensor& mask) {
  Tensor weight = gate.defined() ? gate : torch::ones({x.size(0), x.size(1)}, x.options().dtype(torch::kFloat));
  return mask.defined() ? weight * mask.squeeze(2) : weight;
}

}  // namespace

SelfAttention::SelfAttention(const Pattern& pattern, int64_t dim, int64_t heads, int64_t kv_heads, double dropout,
                             bool bias)
    : pattern_(pattern), heads_(heads), kv_heads_(kv_heads), head_dim_(dim / heads), dropout_(dropout) {
  norm_ = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim})));
  qkv_ = register_module("qkv", std::make_shared<Linear>(dim, dim + 2 * kv_heads * head_dim_, bias));
  output_ = register_module("output", std::make_shared<Linear>(dim, dim, bias));
  if (const PatternTerm* term = pattern_.memory())
    memory_ = register_module("memory", std::make_shared<MemoryBank>(*term, dim));
  if (const PatternTerm* term = pattern_.learned())
    selector_ = register_module("selector", std::make_shared<BlockSelector>(*term, dim));
}

SelfAttention::Projected SelfAttention::Project(const Tensor& x, const RotaryTable& rotary) {
  const bool inference = ForInference(*this, x);
  const bool summaries = memory_ || selector_, cells = pattern_.hierarchical() != nullptr;
  Projected p;
  if (!inference || summaries) p.normed = norm_(x);
  Tensor qkv;
  if (inference) {
    const Product product = qkv_->Multiply(Normalize(x.contiguous(), *norm_, qkv_->input_type()));
    qkv = cells ? product.Value() : Rotate(product, heads_ + kv_heads_, rotary.cos, rotary.sin);
  } else {
    qkv = qkv_->forward(p.normed);
  }
  const auto parts = qkv.view({x.size(0), x.size(1), heads_ + 2 * kv_heads_, head_dim_})
                         .transpose(1, 2)
                         .split_with_sizes({heads_, kv_heads_, kv_heads_}, 1);
  p.v = parts[2];
  if (inference && !cells) {
    p.q = parts[0];
    p.k = parts[1];
    return p;
  }
  p.q = ApplyRotary(parts[0], rotary);
  p.k = ApplyRotary(parts[1], rotary);
  if (cells) p.plain_k = parts[1];
  return p;
}

Tensor SelfAttention::Output(const Tensor& heads, bool inference) {
  const Tensor frames = heads.transpose(1, 2).flatten(2);
  if (!inference) return Dropout(output_->forward(frames), dropout_, is_training());
  return output_->Multiply(Convert(frames, output_->input_type())).Value();
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
  const int64_t n = memory.size(0), chunks = memory.size(1), slots = memory.size(2);
  const auto type = rows.k[0].scalar_type();
  const auto of_keys = [&](const Tensor& x) { return x.narrow(0, heads_ * head_dim_, 2 * kv_heads_ * head_dim_); };
  const Tensor kv =
      torch::linear(memory.flatten(1, 2), of_keys(qkv_->weight), qkv_->bias.defined() ? of_keys(qkv_->bias) : Tensor());
  const auto parts = kv.view({n, chunks * slots, 2, kv_heads_, head_dim_}).permute({2, 0, 3, 1, 4}).unbind(0);
  // What is remembered stands just where the chunk begins that sees it.
  const Tensor starts = torch::arange(first_chunk, first_chunk + chunks, torch::kDouble)
                            .mul(static_cast<double>(memory_->chunk()))
                            .repeat_interleave(slots);
  rows.k.push_back(ApplyRotary(parts[0], MakeRotaryTable(starts, head_dim_, memory.device())).to(type));
  rows.v.push_back(parts[1].to(type));
  if (!rows.bias.empty()) rows.bias.push_back(torch::zeros({n, chunks * slots}, rows.bias[0].options()));
}

// --- A whole batch -----------------------------------------------------------------------------------------------

AttentionInputs SelfAttention::Inputs(const Tensor& x, const FrameContext& context) {
  const Projected p = Project(x, context.rotary);
  AttentionInputs in{.q = p.q, .lens = context.lens};
  Rows rows = FrameRows(p.k, p.v, context.log_gate);
  const Tensor gate = context.gate.defined() ? context.gate.squeeze(2) : Tensor();
  if (const PatternTerm* t = pattern_.hierarchical())
    AddCells(AllCells(*t, {.k = p.plain_k, .v = p.v, .weight = SummaryWeight(x, gate, context.mask)}), rows);
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

Tensor SelfAttention::AttendInChunks(const Projected& p, const FrameContext& context) const {
  const ChunkLayout& layout = *context.layout;
  std::vector<Tensor> heads;
  for (const auto& [keys, plan] : layout.attention) {
    const auto chunk = static_cast<int64_t>(heads.size());
    AttentionInputs in{.q = p.q.narrow(2, chunk * layout.rows_per_chunk, layout.rows_per_chunk),
                       .k = p.k.index_select(2, keys),
                       .v = p.v.index_select(2, keys)};
    if (context.log_gate.defined()) in.bias = context.log_gate.index_select(1, keys);
    heads.push_back(HybridAttention(in, plan));
  }
  return torch::cat(heads, 2);
}

Tensor SelfAttention::forward(const Tensor& x, const FrameContext& context) {
  if (context.layout) return Output(AttendInChunks(Project(x, context.rotary), context), ForInference(*this, x));
  return Output(HybridAttention(Inputs(x, context), context.plan), ForInference(*this, x));
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

void SelfAttention::AcceptSummaries(const Projected& p, const Tensor& log_gate, const FramePositions& positions,
                                    bool final, SelfAttentionState& state) {
  if (!pattern_.hierarchical() && !selector_ && !memory_) return;
  const int64_t first = state.received;
  const Tensor& like = p.normed.defined() ? p.normed : p.v.select(1, 0);  // (N, t, ...)
  const Tensor weight =
      OnGrid(SummaryWeight(like, log_gate.defined() ? log_gate.exp() : Tensor(), {}), positions, first, 1);
  if (const PatternTerm* t = pattern_.hierarchical()) {
    AcceptFrames(*t,
                 {.k = OnGrid(p.plain_k, positions, first, 2),
                  .v = OnGrid(p.v, positions, first, 2),
                  .weight = weight,
                  .first = first},
                 final, state.cells);
  }
  if (selector_) {
    const int64_t size = selector_->block();
    state.open_x = Append(state.open_x, OnGrid(p.normed, positions, first, 1), 1);
    state.open_weight = Append(state.open_weight, weight, 1);
    const int64_t open = state.open_x.size(1), used = final ? open : open / size * size;
    if (used > 0) {
      const int64_t block = (positions.received - open) / size;
      const BlockMeans fresh =
          selector_->Means(state.open_x.narrow(1, 0, used), state.open_weight.narrow(1, 0, used), block);
      if (!state.means.mean.defined()) state.means.first = block;
      state.means.mean = Append(state.means.mean, fresh.mean, 1);
      state.open_x = state.open_x.narrow(1, used, open - used);
      state.open_weight = state.open_weight.narrow(1, used, open - used);
    }
  }
  if (memory_) {
    state.pending_x = Append(state.pending_x, OnGrid(p.normed, positions, first, 1), 1);
    // What was left out counts for nothing.
    if (log_gate.defined())
      state.pending_log_gate = Append(state.pending_log_gate, weight.clamp_min(kLeastGate).log(), 1);
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
    const int64_t position = state.key_positions[i];
    // What no frame sees says of the query that waits there whether the gate turns it down.
    if (position < state.next_query && PatternOf(state).Forgettable(position, state.next_query)) continue;
    kept.push_back(static_cast<int64_t>(i));
    kept_positions.push_back(position);
  }
  const size_t gone = state.key_positions.size() - kept.size();
  const bool oldest = kept.empty() || kept.front() == static_cast<int64_t>(gone);
  if (gone > 0 && (oldest || gone >= kForgottenTogether)) {
    const Tensor index = oldest ? Tensor() : torch::tensor(kept, torch::kInt64).to(state.k.Frames().device());
    for (FrameBuffer* buffer : {&state.k, &state.v, &state.log_gate}) {
      if (!buffer->defined()) continue;
      oldest ? buffer->DropFront(static_cast<int64_t>(gone)) : buffer->Select(index);
    }
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

void SelfAttention::GiveBack(int64_t frames, SelfAttentionState& state) {
  const auto kept = static_cast<size_t>(state.k.size() - frames);
  state.received = state.next_query = state.key_positions[kept];
  for (FrameBuffer* buffer : {&state.k, &state.v, &state.log_gate}) {
    if (buffer->defined()) buffer->DropBack(frames);
  }
  state.key_positions.resize(kept);
}

FramePositions FramePositions::Range(int64_t first, int64_t num) {
  FramePositions positions{.at = std::vector<int64_t>(static_cast<size_t>(num)), .received = first + num};
  std::iota(positions.at.begin(), positions.at.end(), first);
  return positions;
}

Tensor SelfAttention::Attend(const Projected& p, const SelfAttentionStep& step) {
  SelfAttentionState& state = *step.state;
  const FramePositions& positions = *step.positions;
  EARSHOT_CHECK(positions.size() == p.q.size(2), "{} positions for {} frames", positions.size(), p.q.size(2));
  Tensor q = Append(state.pending_q, p.q, 2);
  state.k.Append(p.k.transpose(1, 2));
  state.v.Append(p.v.transpose(1, 2));
  if (step.log_gate.defined()) state.log_gate.Append(step.log_gate);
  state.key_positions.insert(state.key_positions.end(), positions.at.begin(), positions.at.end());
  state.pending_positions.insert(state.pending_positions.end(), positions.at.begin(), positions.at.end());
  AcceptSummaries(p, step.log_gate, positions, step.final, state);
  state.received = positions.received;

  const Pattern& pattern = PatternOf(state);
  const bool all_out = step.final || step.ahead > 0;
  const int64_t ready = all_out ? state.received : std::max(pattern.ReadyQueries(state.received), state.next_query);
  if (ready == state.next_query) {
    state.pending_q = q;
    return {};
  }
  const auto pending_end = std::lower_bound(state.pending_positions.begin(), state.pending_positions.end(), ready);
  const int64_t count = pending_end - state.pending_positions.begin();
  PlanOptions options{.num_queries = count,
                      .query_positions = {state.pending_positions.begin(), pending_end},
                      .num_keys = state.k.size(),
                      .key_positions = state.key_positions,
                      .drop_below = state.drop_below};
  Tensor memory;
  if (memory_) {
    options.memory_chunks.first = state.first_pending_x / memory_->chunk();
    memory = MemoryInStream(ready, state);
    options.memory_chunks.last = options.memory_chunks.first + memory.size(1) - 1;
  }
  Tensor heads;
  if (count > 0) {
    AttentionInputs in{.q = q.narrow(2, 0, count)};
    Rows rows = FrameRows(state.k.Frames().transpose(1, 2), state.v.Frames().transpose(1, 2), state.log_gate.Frames());
    if (pattern.hierarchical()) {
      const std::vector<Cells> levels(state.cells.levels.begin() + 1, state.cells.levels.end());
      for (const Cells& cells : levels) options.cells.push_back({cells.first, cells.end() - 1});
      AddCells(levels, rows);
    }
    if (memory_) AddMemory(memory, options.memory_chunks.first, rows);
    rows.Join(in);
    if (selector_) {
      const int64_t first = options.query_positions.front();
      const SelectedBlocks selected = SelectInStream(first, options.query_positions.back() - first + 1, state);
      in.selection = selected.blocks;
      in.selection_score = selected.score;
    }
    heads = HybridAttention(in, MakeAttentionPlan(pattern, options));
    q = q.narrow(2, count, q.size(2) - count);
    state.pending_positions.erase(state.pending_positions.begin(), pending_end);
  }
  state.pending_q = q.size(2) > 0 ? q : Tensor();
  state.next_query = ready;
  if (step.ahead > 0) GiveBack(step.ahead, state);
  Forget(state);
  return heads;
}

Tensor SelfAttention::Stream(const SelfAttentionStep& step) {
  const Tensor& x = step.x;
  const Tensor heads = Attend(Project(x, RotaryOf(*step.positions, head_dim_, x.device())), step);
  return heads.defined() ? Output(heads, ForInference(*this, x)) : x.narrow(1, 0, 0);
}

std::vector<Tensor> SelfAttention::StreamBatch(const std::vector<SelfAttentionStep>& steps) {
  if (steps.size() == 1) return {Stream(steps.front())};
  std::vector<Tensor> x, cos, sin;
  std::vector<int64_t> counts;
  for (const SelfAttentionStep& step : steps) {
    const RotaryTable table = RotaryOf(*step.positions, head_dim_, step.x.device());
    x.push_back(step.x);
    cos.push_back(table.cos);
    sin.push_back(table.sin);
    counts.push_back(step.x.size(1));
  }
  const Projected all = Project(torch::cat(x, 1), {.cos = torch::cat(cos), .sin = torch::cat(sin)});
  const auto normed = Split(all.normed, counts), q = Split(all.q, counts, 2), k = Split(all.k, counts, 2),
             v = Split(all.v, counts, 2), plain_k = Split(all.plain_k, counts, 2);
  std::vector<Tensor> attended(steps.size()), heads;
  ForEachStream(steps, [&](size_t i) {
    attended[i] = Attend({.normed = normed[i], .q = q[i], .k = k[i], .v = v[i], .plain_k = plain_k[i]}, steps[i]);
  });
  std::vector<int64_t> ready;
  for (const Tensor& one : attended) {
    ready.push_back(one.defined() ? one.size(2) : 0);
    if (one.defined()) heads.push_back(one);
  }
  if (heads.empty()) return std::vector<Tensor>(steps.size(), x.front().narrow(1, 0, 0));
  return Split(Output(torch::cat(heads, 2), ForInference(*this, x.front())), ready);
}

}  // namespace earshot
