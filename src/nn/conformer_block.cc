#include "src/nn/conformer_block.h"

#include "src/nn/frame_queue.h"

namespace earshot {

using torch::Tensor;

namespace {

Tensor Gated(const Tensor& x, const Tensor& gate) { return gate.defined() ? x * gate.to(x.scalar_type()) : x; }

// Frames with right context come out at once and wait in no queue.
bool Waits(const BlockStep& step) { return step.ahead == 0; }

// Notes the positions of frames that come in, before anything else is done with them.
void AcceptPositions(const BlockStep& step) {
  const std::vector<int64_t>& fresh = step.in.positions.at;
  if (Waits(step)) step.state->positions.insert(step.state->positions.end(), fresh.begin(), fresh.end());
}

// Those of the next `count` frames that go out. All frames before what still waits have gone.
FramePositions TakePositions(int64_t count, const BlockStep& step) {
  const FramePositions& fresh = step.in.positions;
  if (!Waits(step)) return fresh;
  BlockState& state = *step.state;
  const auto end = state.positions.begin() + count;
  FramePositions out{.at = {state.positions.begin(), end}, .received = fresh.received};
  if (out.at == fresh.at) out.rotary = fresh.rotary;
  state.positions.erase(state.positions.begin(), end);
  if (!state.positions.empty()) out.received = state.positions.front();
  return out;
}

// Frames between the two modules: those that attention has given out and the convolution has not.
int64_t WaitingForConvolution(const BlockState& state) {
  return state.before_convolution.defined() ? state.before_convolution.size(1) : 0;
}

// A step of the convolution: the next `count` frames that attention has given out.
ConvolutionStep ConvolutionStepOf(int64_t count, const BlockStep& step) {
  BlockState& state = *step.state;
  ConvolutionStep out{.final = step.final, .ahead = step.ahead, .state = &state.convolution};
  if (Waits(step)) {
    const auto first = state.positions.begin() + WaitingForConvolution(state);
    out.positions = {first, first + count};
    out.received = state.attention.next_query;
  } else {
    out.positions = step.in.positions.at;
    out.received = step.in.positions.received;
  }
  return out;
}

// The gates of the frames between the two modules stand in front of those that wait for attention.
Tensor WaitingGates(int64_t count, const BlockState& state) {
  return state.gate.narrow(1, WaitingForConvolution(state), count);
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
  y = y + Gated(convolution_->forward(y, context.mask, context.convolution_chunk, context.layout.get()), context.gate);
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
  h = SumNorm({.x = y,
               .y = convolution_->Infer(h, context.mask, context.convolution_chunk, context.layout.get()),
               .gate = context.gate},
              second_->norm(), second_->input_type());
  return NormalizedSum({.x = y, .y = second_->Infer(h), .alpha = 0.5}, *norm_);
}

std::vector<GatedFrames> ConformerBlock::StreamInfer(const std::vector<BlockStep>& steps) {
  std::vector<Tensor> parts;
  std::vector<int64_t> counts;
  for (const BlockStep& step : steps) {
    AcceptPositions(step);
    parts.push_back(step.in.x);
    counts.push_back(step.in.x.size(1));
  }
  const Tensor x = Join(parts).contiguous();
  Activation h = Normalize(x, first_->norm(), first_->input_type());
  const auto fresh = Split(Sum({.x = x, .y = first_->Infer(h), .alpha = 0.5}), counts);
  std::vector<SelfAttentionStep> attention;
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto& [in, final, ahead, state] = steps[i];
    if (Waits(steps[i])) {
      state->before_attention = Append(state->before_attention, fresh[i]);
      if (in.gate.defined()) state->gate = Append(state->gate, in.gate);
    }
    attention.push_back({.x = fresh[i],
                         .log_gate = in.gate.defined() ? in.gate.squeeze(-1).log() : Tensor(),
                         .positions = &in.positions,
                         .final = final,
                         .ahead = ahead,
                         .state = &state->attention});
  }
  const std::vector<Tensor> attended = attention_->StreamBatch(attention);

  const bool gated = steps.front().in.gate.defined();
  std::vector<Tensor> waiting, gates;
  std::vector<ConvolutionStep> convolution;
  for (size_t i = 0; i < steps.size(); ++i) {
    const BlockStep& step = steps[i];
    BlockState& state = *step.state;
    const int64_t count = attended[i].size(1);
    if (Waits(step)) {
      if (gated) gates.push_back(WaitingGates(count, state));
      waiting.push_back(Take(state.before_attention, count));
    } else {
      if (gated) gates.push_back(step.in.gate);
      waiting.push_back(fresh[i]);
    }
    convolution.push_back(ConvolutionStepOf(count, step));
  }
  // Made in this call and shared with no state, so that the sum may take its place.
  const Tensor mixed = Join(waiting);
  h = SumNorm({.x = mixed, .y = {.values = Join(attended).contiguous()}, .gate = gated ? Join(gates) : Tensor()},
              convolution_->norm(), convolution_->input_type());
  counts.clear();
  for (const Tensor& one : attended) counts.push_back(one.size(1));
  const auto mixed_parts = Split(mixed, counts);
  const Product convolved = convolution_->StreamInfer(h, convolution);

  std::vector<GatedFrames> out(steps.size());
  waiting.clear(), gates.clear(), counts.clear();
  for (size_t i = 0; i < steps.size(); ++i) {
    BlockState& state = *steps[i].state;
    const int64_t count = convolution[i].completed;
    out[i].positions = TakePositions(count, steps[i]);
    if (Waits(steps[i])) {
      state.before_convolution = Append(state.before_convolution, mixed_parts[i]);
      if (gated) out[i].gate = Take(state.gate, count);
      waiting.push_back(Take(state.before_convolution, count));
    } else {
      out[i].gate = steps[i].in.gate;
      waiting.push_back(mixed_parts[i]);
    }
    if (gated) gates.push_back(out[i].gate);
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
  for (const BlockStep& step : steps) out.push_back(Stream(step));
  return out;
}

GatedFrames ConformerBlock::Stream(const BlockStep& step) {
  const auto& [in, final, ahead, state] = step;
  if (ForInference(*this, in.x)) return StreamInfer({step}).front();
  AcceptPositions(step);
  const Tensor fresh = in.x + 0.5 * first_->forward(in.x);
  if (Waits(step)) {
    state->before_attention = Append(state->before_attention, fresh);
    if (in.gate.defined()) state->gate = Append(state->gate, in.gate);
  }
  const Tensor log_gate = in.gate.defined() ? in.gate.squeeze(-1).log() : Tensor();
  const Tensor attended = attention_->Stream({.x = fresh,
                                              .log_gate = log_gate,
                                              .positions = &in.positions,
                                              .final = final,
                                              .ahead = ahead,
                                              .state = &state->attention});

  const int64_t count = attended.size(1);
  Tensor gate = in.gate;
  if (gate.defined() && Waits(step)) gate = WaitingGates(count, *state);
  Tensor mixed = (Waits(step) ? Take(state->before_attention, count) : fresh) + Gated(attended, gate);
  const Tensor convolved = convolution_->Stream(mixed, ConvolutionStepOf(count, step));

  GatedFrames out{.gate = in.gate, .positions = TakePositions(convolved.size(1), step)};
  if (Waits(step)) {
    state->before_convolution = Append(state->before_convolution, mixed);
    if (in.gate.defined()) out.gate = Take(state->gate, convolved.size(1));
    mixed = Take(state->before_convolution, convolved.size(1));
  }
  const Tensor y = mixed + Gated(convolved, out.gate);
  out.x = norm_(y + 0.5 * second_->forward(y));
  return out;
}

}  // namespace earshot
