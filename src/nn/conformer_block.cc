#include "src/nn/conformer_block.h"

#include "src/nn/frame_queue.h"

namespace earshot {

using torch::Tensor;

namespace {

Tensor Gated(const Tensor& x, const Tensor& gate) { return gate.defined() ? x * gate.to(x.scalar_type()) : x; }

// Notes the positions of frames that come in, before anything else is done with them.
void AcceptPositions(const FramePositions& fresh, BlockState& state) {
  state.positions.insert(state.positions.end(), fresh.at.begin(), fresh.at.end());
}

// Those of the next `count` frames that go out. All frames before what still waits have gone.
FramePositions TakePositions(int64_t count, const FramePositions& fresh, BlockState& state) {
  const auto end = state.positions.begin() + count;
  FramePositions out{.at = {state.positions.begin(), end}, .received = fresh.received};
  if (out.at == fresh.at) out.rotary = fresh.rotary;
  state.positions.erase(state.positions.begin(), end);
  if (!state.positions.empty()) out.received = state.positions.front();
  return out;
}

}  // namespace

ConformerBlock::ConformerBlock(const BlockOptions& o) {
  first_ =
      register_module("feed_forward_1", std::make_shared<FeedForward>(o.dim, o.feed_forward_dim, o.dropout, o.bias));
  attention_ =
      register_module("attention", std::make_shared<SelfAttention>(o.pattern, o.dim, o.heads, o.dropout, o.bias));
  convolution_ = register_module("convolution", std::make_shared<Convolution>(o.convolution, o.dim, o.dropout, o.bias));
  second_ =
      register_module("feed_forward_2", std::make_shared<FeedForward>(o.dim, o.feed_forward_dim, o.dropout, o.bias));
  norm_ = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({o.dim})));
}

Tensor ConformerBlock::forward(const Tensor& x, const FrameContext& context) {
  if (ForInference(*this, x)) return Infer(x, context);
  Tensor y = x + 0.5 * first_->forward(x);
  y = y + Gated(attention_->forward(y, context), context.gate);
  y = y + Gated(convolution_->forward(y, context.mask, context.convolution_chunk), context.gate);
  return norm_(y + 0.5 * second_->forward(y));
}

Tensor ConformerBlock::AttentionMap(const Tensor& x, const FrameContext& context) {
  return attention_->Weights(x + 0.5 * first_->forward(x), context);
}

Tensor ConformerBlock::Infer(const Tensor& x, const FrameContext& context) {
  Activation h = Normalize(x, first_->norm(), first_->input_type());
  const Tensor y = Sum({.x = x.contiguous(), .y = first_->Infer(h), .alpha = 0.5});
  const Tensor attended = attention_->forward(y, context).contiguous();
  // From here on y becomes each sum in turn.
  h = SumNorm({.x = y, .y = {.values = attended}, .gate = context.gate}, convolution_->norm(),
              convolution_->input_type());
  h = SumNorm({.x = y, .y = convolution_->Infer(h, context.mask, context.convolution_chunk), .gate = context.gate},
              second_->norm(), second_->input_type());
  return NormalizedSum({.x = y, .y = second_->Infer(h), .alpha = 0.5}, *norm_);
}

std::vector<GatedFrames> ConformerBlock::StreamInfer(const std::vector<BlockStep>& steps) {
  std::vector<Tensor> parts;
  std::vector<int64_t> counts;
  for (const BlockStep& step : steps) {
    AcceptPositions(step.in.positions, *step.state);
    parts.push_back(step.in.x);
    counts.push_back(step.in.x.size(1));
  }
  const Tensor x = Join(parts).contiguous();
  Activation h = Normalize(x, first_->norm(), first_->input_type());
  const auto fresh = Split(Sum({.x = x, .y = first_->Infer(h), .alpha = 0.5}), counts);
  std::vector<SelfAttentionStep> attention;
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto& [in, final, state] = steps[i];
    state->before_attention = Append(state->before_attention, fresh[i]);
    if (in.gate.defined()) state->gate = Append(state->gate, in.gate);
    attention.push_back({.x = fresh[i],
                         .log_gate = in.gate.defined() ? in.gate.squeeze(-1).log() : Tensor(),
                         .positions = &in.positions,
                         .final = final,
                         .state = &state->attention});
  }
  const std::vector<Tensor> attended = attention_->StreamBatch(attention);

  const bool gated = steps.front().in.gate.defined();
  std::vector<Tensor> waiting, gates;
  std::vector<ConvolutionStep> convolution;
  for (size_t i = 0; i < steps.size(); ++i) {
    BlockState& state = *steps[i].state;
    const int64_t count = attended[i].size(1);
    // The gates of the frames between the two modules stand in front of those that wait for attention.
    const int64_t between = state.before_convolution.defined() ? state.before_convolution.size(1) : 0;
    if (gated) gates.push_back(state.gate.narrow(1, between, count));
    waiting.push_back(Take(state.before_attention, count));
    convolution.push_back({.received = count, .final = steps[i].final, .state = &state.convolution});
  }
  // Made in this call and shared with no state, so that the sum may take its place.
  const Tensor mixed = Join(waiting);
  h = SumNorm({.x = mixed, .y = {.values = Join(attended).contiguous()}, .gate = gated ? Join(gates) : Tensor()},
              convolution_->norm(), convolution_->input_type());
  counts.clear();
  for (const ConvolutionStep& step : convolution) counts.push_back(step.received);
  const auto mixed_parts = Split(mixed, counts);
  const Product convolved = convolution_->StreamInfer(h, convolution);

  std::vector<GatedFrames> out(steps.size());
  waiting.clear(), gates.clear(), counts.clear();
  for (size_t i = 0; i < steps.size(); ++i) {
    BlockState& state = *steps[i].state;
    const int64_t count = convolution[i].completed;
    state.before_convolution = Append(state.before_convolution, mixed_parts[i]);
    out[i].positions = TakePositions(count, steps[i].in.positions, state);
    if (gated) gates.push_back(out[i].gate = Take(state.gate, count));
    waiting.push_back(Take(state.before_convolution, count));
    counts.push_back(count);
  }
  const Tensor y = Join(waiting);
  h = SumNorm({.x = y, .y = convolved, .gate = gated ? Join(gates) : Tensor()}, second_->norm(), second_->input_type());
  const auto finished = Split(NormalizedSum({.x = y, .y = second_->Infer(h), .alpha = 0.5}, *norm_), counts);
  for (size_t i = 0; i < steps.size(); ++i) out[i].x = finished[i];
  return out;
}

std::vector<GatedFrames> ConformerBlock::StreamBatch(const std::vector<BlockStep>& steps) {
  if (ForInference(*this, steps.front().in.x)) return StreamInfer(steps);
  std::vector<GatedFrames> out;
  for (const BlockStep& step : steps) out.push_back(Stream(step.in, step.final, *step.state));
  return out;
}

GatedFrames ConformerBlock::Stream(const GatedFrames& in, bool final, BlockState& state) {
  if (ForInference(*this, in.x)) return StreamInfer({{.in = in, .final = final, .state = &state}}).front();
  AcceptPositions(in.positions, state);
  const Tensor fresh = in.x + 0.5 * first_->forward(in.x);
  state.before_attention = Append(state.before_attention, fresh);
  if (in.gate.defined()) state.gate = Append(state.gate, in.gate);
  const Tensor log_gate = in.gate.defined() ? in.gate.squeeze(-1).log() : Tensor();
  const Tensor attended = attention_->Stream(
      {.x = fresh, .log_gate = log_gate, .positions = &in.positions, .final = final, .state = &state.attention});

  // The gates of the frames between the two modules stand in front of those that wait for attention.
  const int64_t between = state.before_convolution.defined() ? state.before_convolution.size(1) : 0;
  const Tensor gate = in.gate.defined() ? state.gate.narrow(1, between, attended.size(1)) : Tensor();
  const Tensor mixed = Take(state.before_attention, attended.size(1)) + Gated(attended, gate);
  state.before_convolution = Append(state.before_convolution, mixed);
  const Tensor convolved = convolution_->Stream(mixed, final, state.convolution);

  GatedFrames out;
  out.positions = TakePositions(convolved.size(1), in.positions, state);
  if (in.gate.defined()) out.gate = Take(state.gate, convolved.size(1));
  const Tensor y = Take(state.before_convolution, convolved.size(1)) + Gated(convolved, out.gate);
  out.x = norm_(y + 0.5 * second_->forward(y));
  return out;
}

}  // namespace earshot
