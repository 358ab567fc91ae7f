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
  y = y + Gated(convolution_->forward(y, context.mask), context.gate);
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
  h = SumNorm({.x = y, .y = convolution_->Infer(h, context.mask), .gate = context.gate}, second_->norm(),
              second_->input_type());
  return NormalizedSum({.x = y, .y = second_->Infer(h), .alpha = 0.5}, *norm_);
}

GatedFrames ConformerBlock::StreamInfer(const GatedFrames& in, bool final, BlockState& state) {
  AcceptPositions(in.positions, state);
  Activation h = Normalize(in.x, first_->norm(), first_->input_type());
  const Tensor fresh = Sum({.x = in.x.contiguous(), .y = first_->Infer(h), .alpha = 0.5});
  state.before_attention = Append(state.before_attention, fresh);
  if (in.gate.defined()) state.gate = Append(state.gate, in.gate);
  const Tensor log_gate = in.gate.defined() ? in.gate.squeeze(-1).log() : Tensor();
  const Tensor attended = attention_->Stream(fresh, log_gate, in.positions, final, state.attention).contiguous();

  // The gates of the frames between the two modules stand in front of those that wait for attention.
  const int64_t between = state.before_convolution.defined() ? state.before_convolution.size(1) : 0;
  const Tensor gate = in.gate.defined() ? state.gate.narrow(1, between, attended.size(1)) : Tensor();
  // Made in this call and shared with no state, so that the sum may take its place.
  const Tensor mixed = Take(state.before_attention, attended.size(1));
  h = SumNorm({.x = mixed, .y = {.values = attended}, .gate = gate}, convolution_->norm(), convolution_->input_type());
  state.before_convolution = Append(state.before_convolution, mixed);
  const Product convolved = convolution_->StreamInfer(h, final, state.convolution);

  GatedFrames out;
  const int64_t count = convolved.values.size(1);
  out.positions = TakePositions(count, in.positions, state);
  if (in.gate.defined()) out.gate = Take(state.gate, count);
  const Tensor y = Take(state.before_convolution, count);
  h = SumNorm({.x = y, .y = convolved, .gate = out.gate}, second_->norm(), second_->input_type());
  out.x = NormalizedSum({.x = y, .y = second_->Infer(h), .alpha = 0.5}, *norm_);
  return out;
}

GatedFrames ConformerBlock::Stream(const GatedFrames& in, bool final, BlockState& state) {
  if (ForInference(*this, in.x)) return StreamInfer(in, final, state);
  AcceptPositions(in.positions, state);
  const Tensor fresh = in.x + 0.5 * first_->forward(in.x);
  state.before_attention = Append(state.before_attention, fresh);
  if (in.gate.defined()) state.gate = Append(state.gate, in.gate);
  const Tensor log_gate = in.gate.defined() ? in.gate.squeeze(-1).log() : Tensor();
  const Tensor attended = attention_->Stream(fresh, log_gate, in.positions, final, state.attention);

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
