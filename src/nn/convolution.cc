#include "src/nn/convolution.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/nn/dropout.h"
#include "src/nn/frame_queue.h"
#include "src/nn/side_by_side.h"

namespace earshot {

using torch::Tensor;

void ConvolutionOptions::Visit(OptionVisitor& v) {
  v.Enum("kind", kind,
         {{"symmetric", ConvolutionKind::kSymmetric},
          {"causal", ConvolutionKind::kCausal},
          {"chunked", ConvolutionKind::kChunked}});
  v.Field("kernel", kernel);
  v.Field("chunk", chunk);
}

void ConvolutionOptions::Validate() const {
  if (kernel < 1 || kernel % 2 == 0) Throw("encoder.convolution.kernel is {}, expected an odd number", kernel);
  if (chunk < 1) Throw("encoder.convolution.chunk is {}, expected 1 or more", chunk);
}

Convolution::Convolution(const ConvolutionOptions& options, int64_t dim, double dropout, bool bias)
    : options_(options), dropout_(dropout) {
  norm_ = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim})));
  expand_ = register_module("expand", std::make_shared<Linear>(dim, 2 * dim, bias));
  depthwise_ = register_module(
      "depthwise", torch::nn::Conv1d(torch::nn::Conv1dOptions(dim, dim, options.kernel).groups(dim).bias(bias)));
  depthwise_norm_ = register_module("depthwise_norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim})));
  output_ = register_module("output", std::make_shared<Linear>(dim, dim, bias));
}

Tensor Convolution::Expand(const Tensor& x) { return torch::glu(expand_->forward(norm_(x)), -1); }

Tensor Convolution::Project(const Tensor& x) {
  return Dropout(output_->forward(torch::silu(depthwise_norm_(x))), dropout_, is_training());
}

int64_t Convolution::ChunkOf(int64_t given) const {
  if (options_.kind == ConvolutionKind::kCausal) return 0;
  if (given != 0) return std::max<int64_t>(0, given);
  return options_.kind == ConvolutionKind::kChunked ? options_.chunk : 0;
}

Tensor Convolution::Depthwise(const Tensor& x, int64_t chunk) {
  const int64_t n = x.size(0), frames = x.size(1), dim = x.size(2), k = options_.kernel, half = (k - 1) / 2;
  if (frames == 0) return x;
  const Tensor rows = x.transpose(1, 2);  // (N, D, T)
  if (options_.kind == ConvolutionKind::kCausal)
    return depthwise_(torch::constant_pad_nd(rows, {k - 1, 0})).transpose(1, 2);
  if (chunk == 0 || frames <= chunk) {
    return depthwise_(torch::constant_pad_nd(rows, {half, half})).transpose(1, 2);
  }
  // Each chunk with `half` frames before it, then zeros in place of what comes after it.
  const int64_t chunks = (frames + chunk - 1) / chunk;
  const Tensor padded = torch::constant_pad_nd(rows, {half, chunks * chunk - frames});
  Tensor windows = padded.unfold(2, half + chunk, chunk);  // (N, D, chunks, half + chunk)
  windows = windows.permute({0, 2, 1, 3}).reshape({n * chunks, dim, half + chunk});
  const Tensor out = depthwise_(torch::constant_pad_nd(windows, {0, half}));  // (N * chunks, D, chunk)
  return out.view({n, chunks, dim, chunk}).permute({0, 1, 3, 2}).reshape({n, chunks * chunk, dim}).narrow(1, 0, frames);
}

Tensor Convolution::WithPast(const Tensor& x, const ChunkLayout& layout) const {
  const Tensor rows = torch::constant_pad_nd(x, {0, 0, 0, 1}).index_select(1, layout.convolution_rows);
  return rows.reshape({x.size(0) * layout.chunks, layout.past + layout.rows_per_chunk, x.size(2)});
}

Tensor Convolution::forward(const Tensor& x, const Tensor& mask, int64_t chunk, const ChunkLayout* layout) {
  if (ForInference(*this, x))
    return Infer(Normalize(x, *norm_, input_type()), mask, chunk, layout).Value().to(x.scalar_type());
  Tensor h = Expand(x);
  if (mask.defined()) h = h * mask.to(h.scalar_type());
  if (layout) {
    const Tensor rows = Depthwise(WithPast(h, *layout), 0).narrow(1, layout->past, layout->rows_per_chunk);
    return Project(rows.reshape(x.sizes()));
  }
  return Project(Depthwise(h, ChunkOf(chunk)));
}

Convolution::Window Convolution::Advance(const Tensor& fresh, const ConvolutionStep& step) const {
  ConvolutionState& state = *step.state;
  Window window;
  window.inputs = state.inputs.defined() ? torch::cat({state.inputs, fresh}, 1) : fresh;
  const int64_t received = state.first_input + window.inputs.size(1);
  const int64_t k = options_.kernel, half = (k - 1) / 2, chunk = ChunkOf(state.chunk);
  const bool causal = options_.kind == ConvolutionKind::kCausal;
  int64_t ready = received;
  if (!step.final && step.ahead == 0 && !causal) ready = chunk > 0 ? received / chunk * chunk : received - half;
  ready = std::max(ready, state.next_output);
  window.first = state.next_output - state.first_input;
  window.count = ready - state.next_output;
  // Frames that come again are not kept.
  const int64_t next = received - step.ahead;
  ready = std::min(ready, next);
  state.next_output = ready;
  // What stands before the next output, aligned so that chunks of the inputs are chunks of the stream.
  int64_t keep_from = std::max<int64_t>(state.first_input, ready - options_.Before());
  if (chunk > 0) keep_from = keep_from / chunk * chunk;
  keep_from = std::max(keep_from, state.first_input);
  // A copy: a view would keep all the inputs alive.
  state.inputs = window.inputs.narrow(1, keep_from - state.first_input, next - keep_from).clone();
  state.first_input = keep_from;
  return window;
}

Tensor Convolution::Stream(const Tensor& x, const ConvolutionStep& step) {
  if (ForInference(*this, x)) {
    std::vector<ConvolutionStep> steps = {step};
    return StreamInfer(Normalize(x, *norm_, input_type()), steps).Value().to(x.scalar_type());
  }
  const Window window = Advance(Expand(x), step);
  if (window.count == 0) return Project(window.inputs.narrow(1, 0, 0));
  return Project(Depthwise(window.inputs, ChunkOf(step.state->chunk)).narrow(1, window.first, window.count));
}

Activation Convolution::InferDepthwise(const Window& window, int64_t chunk) const {
  DepthwiseOptions o{.kernel = options_.kernel, .before = options_.Before()};
  o.weight = packed_depthwise_.defined() ? packed_depthwise_ : PackDepthwise(depthwise_->weight);
  o.bias = depthwise_->bias;
  o.chunk = ChunkOf(chunk);
  return DepthwiseNormSilu(window.inputs, window.first, window.count, o, *depthwise_norm_, output_->input_type());
}

Product Convolution::Infer(const Activation& normed, const Tensor& mask, int64_t chunk,
                           const ChunkLayout* layout) const {
  const Tensor inputs = Glu(expand_->Multiply(normed), mask);
  if (layout) {
    Activation rows = InferDepthwise(
        {.inputs = WithPast(inputs, *layout), .first = layout->past, .count = layout->rows_per_chunk}, -1);
    rows.values = rows.values.view({inputs.size(0), inputs.size(1), -1});
    if (rows.scale.defined()) rows.scale = rows.scale.view({inputs.size(0), inputs.size(1), -1});
    return output_->Multiply(rows);
  }
  return output_->Multiply(InferDepthwise({.inputs = inputs, .first = 0, .count = inputs.size(1)}, chunk));
}

Product Convolution::StreamInfer(const Activation& normed, std::vector<ConvolutionStep>& steps) const {
  std::vector<int64_t> counts;
  for (const ConvolutionStep& step : steps) counts.push_back(step.received);
  const std::vector<Tensor> inputs = Split(Glu(expand_->Multiply(normed), {}), counts);
  std::vector<Activation> outputs(steps.size());
  ForEachStream(steps, [&](size_t i) {
    ConvolutionStep& step = steps[i];
    const Window window = Advance(inputs[i], step);
    step.completed = window.count;
    if (window.count > 0 || steps.size() == 1) outputs[i] = InferDepthwise(window, step.state->chunk);
  });
  std::vector<Tensor> values, scales;
  for (const Activation& one : outputs) {
    if (one.values.defined()) values.push_back(one.values);
    if (one.scale.defined()) scales.push_back(one.scale);
  }
  // Where no stream has any: none of the first.
  if (values.empty()) {
    const Activation none = InferDepthwise({.inputs = inputs[0], .first = 0, .count = 0}, steps[0].state->chunk);
    return output_->Multiply(none);
  }
  return output_->Multiply({.values = Join(values), .scale = scales.empty() ? Tensor() : Join(scales)});
}

void Convolution::Prepack(InferencePrecision precision) { packed_depthwise_ = PackDepthwise(depthwise_->weight); }

void Convolution::train(bool on) {
  torch::nn::Module::train(on);
  if (on) packed_depthwise_.reset();
}

}  // namespace earshot
