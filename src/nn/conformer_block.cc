#include "src/nn/conformer_block.h"

namespace earshot {

using torch::Tensor;

namespace {

Tensor Gated(const Tensor& x, const Tensor& gate) { return gate.defined() ? x * gate.to(x.scalar_type()) : x; }

Tensor Append(const Tensor& past, const Tensor& fresh) { return past.defined() ? torch::cat({past, fresh}, 1) : fresh; }

// Takes the first `count` frames out of `queue`.
Tensor Take(Tensor& queue, int64_t count) {
  const Tensor taken = queue.narrow(1, 0, count);
  queue = queue.narrow(1, count, queue.size(1) - count);
  return taken;
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
  Tensor y = x + 0.5 * first_->forward(x);
  y = y + Gated(attention_->forward(y, context), context.gate);
  y = y + Gated(convolution_->forward(y, context.mask), context.gate);
  return norm_(y + 0.5 * second_->forward(y));
}

Tensor ConformerBlock::AttentionMap(const Tensor& x, const FrameContext& context) {
  return attention_->Weights(x + 0.5 * first_->forward(x), context);
}

GatedFrames ConformerBlock::Stream(const GatedFrames& in, bool final, BlockState& state) {
  const Tensor fresh = in.x + 0.5 * first_->forward(in.x);
  state.before_attention = Append(state.before_attention, fresh);
  if (in.gate.defined()) state.gate = Append(state.gate, in.gate);
  const Tensor log_gate = in.gate.defined() ? in.gate.squeeze(-1).log() : Tensor();
  const Tensor attended = attention_->Stream(fresh, log_gate, final, state.attention);

  // The gates of the frames between the two modules stand in front of those that wait for attention.
  const int64_t between = state.before_convolution.defined() ? state.before_convolution.size(1) : 0;
  const Tensor gate = in.gate.defined() ? state.gate.narrow(1, between, attended.size(1)) : Tensor();
  const Tensor mixed = Take(state.before_attention, attended.size(1)) + Gated(attended, gate);
  state.before_convolution = Append(state.before_convolution, mixed);
  const Tensor convolved = convolution_->Stream(mixed, final, state.convolution);

  GatedFrames out;
  if (in.gate.defined()) out.gate = Take(state.gate, convolved.size(1));
  const Tensor y = Take(state.before_convolution, convolved.size(1)) + Gated(convolved, out.gate);
  out.x = norm_(y + 0.5 * second_->forward(y));
  return out;
}

}  // namespace earshot
