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

}  // namespace

SelfAttention::SelfAttention(const Pattern& pattern, int64_t dim, int64_t heads, double dropout, bool bias)
    : pattern_(pattern), heads_(heads), dropout_(dropout) {
  norm_ = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim})));
  qkv_ = register_module("qkv", torch::nn::Linear(torch::nn::LinearOptions(dim, 3 * dim).bias(bias)));
  output_ = register_module("output", torch::nn::Linear(torch::nn::LinearOptions(dim, dim).bias(bias)));
  if (const PatternTerm* term = pattern_.memory())
    memory_ = register_module("memory", std::make_shared<MemoryBank>(*term, dim));
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

void SelfAttention::ProjectMemory(const Tensor& memory, AttentionInputs& in) {
  const int64_t n = memory.size(0), chunks = memory.size(1), slots = memory.size(2), dim = memory.size(3);
  const Tensor kv = torch::linear(memory, qkv_->weight.narrow(0, dim, 2 * dim),
                                  qkv_->bias.defined() ? qkv_->bias.narrow(0, dim, 2 * dim) : Tensor());
  const auto parts = kv.view({n, chunks, slots, 2, heads_, dim / heads_}).permute({3, 0, 4, 1, 2, 5}).unbind(0);
  in.memory_k = parts[0];  // (N, H, B, M, d)
  in.memory_v = parts[1];
}

AttentionInputs SelfAttention::Inputs(const Tensor& x, const FrameContext& context) {
  const Projected p = Project(x);
  AttentionInputs in{.q = ApplyRotary(p.q, context.rotary),
                     .k = ApplyRotary(p.k, context.rotary),
                     .v = p.v,
                     .log_gate = context.log_gate,
                     .lens = context.lens};
  if (memory_) {
    in.memory_q = p.q;
    ProjectMemory(memory_->forward(p.normed, context.log_gate), in);
  }
  return in;
}

Tensor SelfAttention::Output(const Tensor& heads) {
  return Dropout(output_(heads.transpose(1, 2).flatten(2)), dropout_, is_training());
}

Tensor SelfAttention::forward(const Tensor& x, const FrameContext& context) {
  return Output(HybridAttention(Inputs(x, context), context.plan));
}

Tensor SelfAttention::Weights(const Tensor& x, const FrameContext& context) {
  return AttentionWeights(Inputs(x, context), context.plan);
}

Tensor SelfAttention::Stream(const Tensor& x, const Tensor& log_gate, bool final, SelfAttentionState& state) {
  const Projected p = Project(x);
  const RotaryTable rotary = MakeRotaryTable(state.received, x.size(1), p.q.size(3), x.device());
  state.pending_q = Append(state.pending_q, ApplyRotary(p.q, rotary), 2);
  state.k = Append(state.k, ApplyRotary(p.k, rotary), 2);
  state.v = Append(state.v, p.v, 2);
  if (log_gate.defined()) state.log_gate = Append(state.log_gate, log_gate, 1);
  for (int64_t i = 0; i < x.size(1); ++i) state.key_positions.push_back(state.received + i);
  if (memory_) {
    state.pending_memory_q = Append(state.pending_memory_q, p.q, 2);
    state.pending_x = Append(state.pending_x, p.normed, 1);
    if (log_gate.defined()) state.pending_log_gate = Append(state.pending_log_gate, log_gate, 1);
  }
  state.received += x.size(1);

  const int64_t ready = final ? state.received : std::max(pattern_.ReadyQueries(state.received), state.next_query);
  const int64_t count = ready - state.next_query;
  if (count == 0) return x.narrow(1, 0, 0);
  AttentionInputs in{.q = state.pending_q.narrow(2, 0, count), .k = state.k, .v = state.v, .log_gate = state.log_gate};
  state.pending_q = state.pending_q.narrow(2, count, state.received - ready);
  if (memory_) {
    const int64_t chunk = memory_->chunk();
    // Only the chunks that the ready queries are in, or have left behind, are read.
    const int64_t used = ready - state.first_pending_x;
    const Tensor gate = state.pending_log_gate.defined() ? state.pending_log_gate.narrow(1, 0, used) : Tensor();
    Tensor next;
    ProjectMemory(memory_->forward(state.pending_x.narrow(1, 0, used), gate, state.memory, &next), in);
    in.memory_q = state.pending_memory_q.narrow(2, 0, count);
    state.pending_memory_q = state.pending_memory_q.narrow(2, count, state.received - ready);
    const int64_t done = used / chunk * chunk;
    state.memory = next;
    state.pending_x = state.pending_x.narrow(1, done, state.pending_x.size(1) - done);
    if (gate.defined())
      state.pending_log_gate = state.pending_log_gate.narrow(1, done, state.pending_log_gate.size(1) - done);
    state.first_pending_x += done;
  }
  const AttentionPlan plan = MakeAttentionPlan(pattern_, {.first_query = state.next_query,
                                                          .num_queries = count,
                                                          .num_keys = state.k.size(2),
                                                          .key_positions = state.key_positions});
  const Tensor out = Output(HybridAttention(in, plan));
  state.next_query = ready;

  std::vector<int64_t> kept, kept_positions;
  for (size_t i = 0; i < state.key_positions.size(); ++i) {
    if (pattern_.Forgettable(state.key_positions[i], ready)) continue;
    kept.push_back(static_cast<int64_t>(i));
    kept_positions.push_back(state.key_positions[i]);
  }
  if (kept.size() < state.key_positions.size()) {
    const Tensor index = torch::tensor(kept, torch::kInt64).to(x.device());
    state.k = state.k.index_select(2, index);
    state.v = state.v.index_select(2, index);
    if (state.log_gate.defined()) state.log_gate = state.log_gate.index_select(1, index);
    state.key_positions = std::move(kept_positions);
  }
  return out;
}

}  // namespace earshot
