#include "src/nn/conformer_block.h"

#include "src/nn/frame_queue.h"

namespace earshot {

using torch::Tensor;

namespace {

Tensor Gated(const Tensor& x, const Tensor& gate) { return gate.defined() ? x * gate.to(x.scalar_type()) : x; }

// Frames with right context come out at once and wait in no queue.
bool Waits(const BlockStep& step) { return step.ahead == 0; }

void Enqueue(WaitingFrames& queue, const WaitingFrames& fresh) {
  queue.x = Append(queue.x, fresh.x);
  if (fresh.gate.defined()) queue.gate = Append(queue.gate, fresh.gate);
  queue.positions.insert(queue.positions.end(), fresh.positions.begin(), fresh.positions.end());
}
WaitingFrames Dequeue(WaitingFrames& queue, int64_t count) {
  const auto end = queue.positions.begin() + count;
  WaitingFrames taken{.x = Take(queue.x, count), .gate = {}, .positions = {queue.positions.begin(), end}};
  if (queue.gate.defined()) taken.gate = Take(queue.gate, count);
  queue.positions.erase(queue.positions.begin(), end);
  return taken;
}

// What attention has given out: fresh, the frames that went in, and x, what it made of those that come out.
BlockWork::Attended TakeAttended(const BlockStep& step, const Tensor& fresh, const Tensor& x) {
  const FramePositions& positions = step.in.positions;
  if (!Waits(step)) return {{fresh, step.in.gate, positions.at}, x, positions.received, positions.received};
  WaitingFrames& queue = step.state->before_attention;
  WaitingFrames frames = Dequeue(queue, x.size(1));
  return {std::move(frames), x, step.state->attention.next_query,
          queue.positions.empty() ? positions.received : queue.positions.front()};
}

ConvolutionStep ConvolutionStepOf(const BlockStep& step, const BlockWork::Attended& attended) {
  return {.positions = attended.frames.positions,
          .received = attended.received,
          .final = step.final,
          .ahead = step.ahead,
          .state = &step.state->convolution};
}

// The next `count` frames that the convolution has completed, with the sum before it as x; sum: those of the step.
GatedFrames TakeCompleted(const BlockStep& step, const BlockWork::Attended& attended, const Tensor& sum,
                          int64_t count) {
  if (!Waits(step)) return {sum, step.in.gate, step.in.positions};
  WaitingFrames& queue = step.state->before_convolution;
  Enqueue(queue, {sum, attended.frames.gate, attended.frames.positions});
  WaitingFrames frames = Dequeue(queue, count);
  GatedFrames out{.x = frames.x, .gate = frames.gate, .positions = {}};
  out.positions.at = std::move(frames.positions);
  out.positions.received = queue.positions.empty() ? attended.first_behind : queue.positions.front();
  if (out.positions.at == step.in.positions.at) out.positions.rotary = step.in.positions.rotary;
  return out;
}

}  // namespace

ConformerBlock::ConformerBlock(const BlockOptions& o) {
  first_ =
      register_module("feed_forward_1", std::make_shared<FeedForward>(o.dim, o.feed_forward_dim, o.dropout, o.bias));
  attention_ = register_module(
      "attention", std::make_shared<SelfAttention>(o.pattern, o.dim, o.heads, o.kv_heads, o.dropout, o.bias));
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

void ConformerBlock::InferFirst(BlockWork& work) const {
  std::vector<Tensor> parts;
  std::vector<int64_t> counts;
  for (const BlockStep& step : work.steps) {
    parts.push_back(step.in.x);
    counts.push_back(step.in.x.size(1));
  }
  const Tensor x = Join(parts).contiguous();
  const Activation h = Normalize(x, first_->norm(), first_->input_type());
  work.fresh = Split(Sum({.x = x, .y = first_->Infer(h), .alpha = 0.5}), counts);
}

void ConformerBlock::InferAttention(BlockWork& work) const {
  std::vector<SelfAttentionStep> steps;
  for (size_t i = 0; i < work.steps.size(); ++i) {
    const BlockStep& step = work.steps[i];
    const GatedFrames& in = step.in;
    if (Waits(step)) Enqueue(step.state->before_attention, {work.fresh[i], in.gate, in.positions.at});
    steps.push_back({.x = work.fresh[i],
                     .log_gate = in.gate.defined() ? in.gate.squeeze(-1).log() : Tensor(),
                     .positions = &in.positions,
                     .final = step.final,
                     .ahead = step.ahead,
                     .state = &step.state->attention});
  }
  const std::vector<Tensor> x = attention_->StreamBatch(steps);
  work.attended.clear();
  for (size_t i = 0; i < work.steps.size(); ++i)
    work.attended.push_back(TakeAttended(work.steps[i], work.fresh[i], x[i]));
  work.fresh.clear();
}

void ConformerBlock::InferConvolution(BlockWork& work) const {
  const bool gated = work.steps.front().in.gate.defined();
  std::vector<Tensor> before, attended, gates;
  std::vector<ConvolutionStep> steps;
  std::vector<int64_t> counts;
  for (size_t i = 0; i < work.steps.size(); ++i) {
    const BlockWork::Attended& one = work.attended[i];
    before.push_back(one.frames.x);
    attended.push_back(one.x);
    if (gated) gates.push_back(one.frames.gate);
    counts.push_back(one.x.size(1));
    steps.push_back(ConvolutionStepOf(work.steps[i], one));
  }
  // Made for this step and shared with no state, so that the sum may take its place.
  const Tensor sum = Join(before);
  const Activation h =
      SumNorm({.x = sum, .y = {.values = Join(attended).contiguous()}, .gate = gated ? Join(gates) : Tensor()},
              convolution_->norm(), convolution_->input_type());
  work.convolved = convolution_->StreamInfer(h, steps);
  const std::vector<Tensor> sums = Split(sum, counts);
  before.clear(), gates.clear(), work.out.clear();
  for (size_t i = 0; i < work.steps.size(); ++i) {
    work.out.push_back(TakeCompleted(work.steps[i], work.attended[i], sums[i], steps[i].completed));
    before.push_back(work.out[i].x);
    if (gated) gates.push_back(work.out[i].gate);
  }
  work.attended.clear();
  work.sum = Join(before);
  work.gate = gated ? Join(gates) : Tensor();
}

void ConformerBlock::InferSecond(BlockWork& work) const {
  std::vector<int64_t> counts;
  for (const GatedFrames& one : work.out) counts.push_back(one.x.size(1));
  const Activation h =
      SumNorm({.x = work.sum, .y = work.convolved, .gate = work.gate}, second_->norm(), second_->input_type());
  work.convolved = {};
  const std::vector<Tensor> x =
      Split(NormalizedSum({.x = work.sum, .y = second_->Infer(h), .alpha = 0.5}, *norm_), counts);
  for (size_t i = 0; i < work.out.size(); ++i) work.out[i].x = x[i];
  work.sum = work.gate = Tensor();
}

void ConformerBlock::Advance(int stage, BlockWork& work) {
  if (!ForInference(*this, work.steps.front().in.x)) {
    if (stage > 0) return;
    for (const BlockStep& step : work.steps) work.out.push_back(Stream(step));
    return;
  }
  switch (stage) {
    case 0: return InferFirst(work);
    case 1: return InferAttention(work);
    case 2: return InferConvolution(work);
    default: return InferSecond(work);
  }
}

std::vector<GatedFrames> ConformerBlock::StreamBatch(const std::vector<BlockStep>& steps) {
  BlockWork work;
  work.steps = steps;
  for (int stage = 0; stage < kStages; ++stage) Advance(stage, work);
  return std::move(work.out);
}

GatedFrames ConformerBlock::Stream(const BlockStep& step) {
  const GatedFrames& in = step.in;
  if (ForInference(*this, in.x)) return std::move(StreamBatch({step}).front());
  const Tensor fresh = in.x + 0.5 * first_->forward(in.x);
  if (Waits(step)) Enqueue(step.state->before_attention, {fresh, in.gate, in.positions.at});
  const Tensor x = attention_->Stream({.x = fresh,
                                       .log_gate = in.gate.defined() ? in.gate.squeeze(-1).log() : Tensor(),
                                       .positions = &in.positions,
                                       .final = step.final,
                                       .ahead = step.ahead,
                                       .state = &step.state->attention});
  const BlockWork::Attended attended = TakeAttended(step, fresh, x);
  const Tensor sum = attended.frames.x + Gated(x, attended.frames.gate);
  const Tensor convolved = convolution_->Stream(sum, ConvolutionStepOf(step, attended));
  GatedFrames out = TakeCompleted(step, attended, sum, convolved.size(1));
  const Tensor y = out.x + Gated(convolved, out.gate);
  out.x = norm_(y + 0.5 * second_->forward(y));
  return out;
}

}  // namespace earshot
