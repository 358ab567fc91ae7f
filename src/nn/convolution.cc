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
  window.inputs = Append(state.inputs, fresh);
  state.positions.insert(state.positions.end(), step.positions.begin(), step.positions.end());
  const std::vector<int64_t>& positions = state.positions;
  const auto received = static_cast<int64_t>(positions.size());
  EARSHOT_CHECK(received == window.inputs.size(1), "{} positions for {} frames", received, window.inputs.size(1));
  // So many frames stand before this position.
  const auto before = [&](int64_t position) {
    return std::lower_bound(positions.begin(), positions.end(), position) - positions.begin();
  };
  const int64_t half = (options_.kernel - 1) / 2, chunk = ChunkOf(state.chunk);
  const bool causal = options_.kind == ConvolutionKind::kCausal;
  int64_t ready = received;
  if (!step.final && step.ahead == 0 && !causal)
    ready = chunk > 0 ? before(step.received / chunk * chunk) : received - half;
  ready = std::max(ready, state.given);
  window.first = state.given;
  window.count = ready - state.given;
  for (int64_t t = window.first; chunk > 0 && t < ready; ++t) {
    const int64_t position = positions[static_cast<size_t>(t)];
    const bool same = t > window.first && position / chunk == positions[static_cast<size_t>(t - 1)] / chunk;
    window.ends.push_back(same ? window.ends.back() : before((position / chunk + 1) * chunk));
  }
  if (chunk > 0 && received > 0 && positions.back() - positions.front() == received - 1)
    window.lead = positions.front() % chunk;
  // Frames that come again are not kept.
  const int64_t next = received - step.ahead;
  ready = std::min(ready, next);
  const int64_t keep_from = std::max<int64_t>(0, ready - options_.Before());
  state.given = ready - keep_from;
  // A copy: a view would keep all the inputs alive.
  state.inputs = window.inputs.narrow(1, keep_from, next - keep_from).clone();
  state.positions = {positions.begin() + keep_from, positions.begin() + next};
  return window;
}

Tensor Convolution::Stream(const Tensor& x, const ConvolutionStep& step) {
  if (ForInference(*this, x)) {
    std::vector<ConvolutionStep> steps = {step};
    return StreamInfer(Normalize(x, *norm_, input_type()), steps).Value().to(x.scalar_type());
  }
  return Project(DepthwiseOf(Advance(Expand(x), step), ChunkOf(step.state->chunk)));
}

Tensor Convolution::DepthwiseOf(const Window& window, int64_t chunk) {
  const Tensor& x = window.inputs;
  if (window.count == 0) return x.narrow(1, 0, 0);
  if (window.ends.empty()) return Depthwise(x, 0).narrow(1, window.first, window.count);
  if (window.lead >= 0) {  // no output that is due sees what is put in front
    const Tensor whole = torch::constant_pad_nd(x, {0, 0, window.lead, 0});
    return Depthwise(whole, chunk).narrow(1, window.lead + window.first, window.count);
  }
  // Tap by tap.
  const Tensor frames = torch::arange(window.first, window.first + window.count, x.device());
  const Tensor ends = torch::tensor(window.ends, torch::kInt64).to(x.device());
  Tensor sum = torch::zeros({x.size(0), window.count, x.size(2)}, x.options());
  for (int64_t k = 0; k < options_.kernel; ++k) {
    const Tensor from = frames + (k - options_.Before());
    const Tensor seen = (from >= 0).logical_and(from < ends).to(x.scalar_type()).view({1, -1, 1});
    const Tensor weight = depthwise_->weight.select(2, k).squeeze(1).to(x.scalar_type());
    sum = sum + x.index_select(1, from.clamp(0, x.size(1) - 1)) * seen * weight;
  }
  return depthwise_->bias.defined() ? sum + depthwise_->bias.to(x.scalar_type()) : sum;
}

Activation Convolution::InferDepthwise(const Window& window) const {
  DepthwiseOptions o{.kernel = options_.kernel, .before = options_.Before(), .ends = window.ends};
  o.weight = packed_depthwise_.defined() ? packed_depthwise_ : PackDepthwise(depthwise_->weight);
  o.bias = depthwise_->bias;
  return DepthwiseNormSilu(window.inputs, window.first, window.count, o, *depthwise_norm_, output_->input_type());
}

Product Convolution::Infer(const Activation& normed, const Tensor& mask, int64_t chunk,
                           const ChunkLayout* layout) const {
  const Tensor inputs = Glu(expand_->Multiply(normed), mask);
  if (layout) {
    Activation rows = InferDepthwise(
        {.inputs = WithPast(inputs, *layout), .first = layout->past, .count = layout->rows_per_chunk, .ends = {}});
    rows.values = rows.values.view({inputs.size(0), inputs.size(1), -1});
    if (rows.scale.defined()) rows.scale = rows.scale.view({inputs.size(0), inputs.size(1), -1});
    return output_->Multiply(rows);
  }
  Window all{.inputs = inputs, .first = 0, .count = inputs.size(1), .ends = {}};
  const int64_t size = ChunkOf(chunk);
  for (int64_t t = 0; size > 0 && t < all.count; ++t) all.ends.push_back(std::min(all.count, (t / size + 1) * size));
  return output_->Multiply(InferDepthwise(all));
}

Product Convolution::StreamInfer(const Activation& normed, std::vector<ConvolutionStep>& steps) const {
  std::vector<int64_t> counts;
  for (const ConvolutionStep& step : steps) counts.push_back(static_cast<int64_t>(step.positions.size()));
  const std::vector<Tensor> inputs = Split(Glu(expand_->Multiply(normed), {}), counts);
  std::vector<Activation> outputs(steps.size());
  ForEachStream(steps, [&](size_t i) {
    ConvolutionStep& step = steps[i];
    const Window window = Advance(inputs[i], step);
    step.completed = window.count;
    if (window.count > 0 || steps.size() == 1) outputs[i] = InferDepthwise(window);
  });
  std::vector<Tensor> values, scales;
  for (const Activation& one : outputs) {
    if (one.values.defined()) values.push_back(one.values);
    if (one.scale.defined()) scales.push_back(one.scale);
  }
  // Where no stream has any: none of the first.
  if (values.empty()) {
    const Activation none = InferDepthwise({.inputs = inputs[0], .first = 0, .count = 0, .ends = {}});
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
