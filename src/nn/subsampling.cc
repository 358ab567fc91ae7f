#include "src/nn/subsampling.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/nn/frame_queue.h"
#include "src/nn/side_by_side.h"

namespace earshot {

using torch::Tensor;

namespace {

// What comes between the convolutions is 80 times as many numbers as there are frames: it is to stay in the cache.
constexpr int64_t kFramesAtOnce = 256;

}  // namespace

struct Subsampling::Packed {
  StrideWeights first;
  std::vector<StrideWeights> depthwise;
  std::vector<PackedMatrix> pointwise;
  PackedMatrix output;  // reads (bins, channels), where the parameters are for (channels, bins)
};

void SubsamplingOptions::Visit(OptionVisitor& v) {
  v.Field("factor", factor);
  v.Field("channels", channels);
}

void SubsamplingOptions::Validate() const {
  if (factor != 4 && factor != 8) Throw("encoder.subsampling.factor is {}, expected 4 or 8", factor);
  if (channels < 1) Throw("encoder.subsampling.channels is {}, expected 1 or more", channels);
}

Subsampling::Subsampling(const SubsamplingOptions& options, int64_t num_features, int64_t dim) : options_(options) {
  // Padded by 1 in frequency, so that bins become ceil(bins / 2) each time.
  auto conv = [](int64_t in, int64_t out, int64_t groups) {
    return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3).stride(2).padding({0, 1}).groups(groups));
  };
  first_ = register_module("first", conv(1, options.channels, 1));
  int64_t bins = (num_features + 1) / 2;
  for (int f = 2; f < options.factor; f *= 2) {
    depthwise_->push_back(conv(options.channels, options.channels, options.channels));
    pointwise_->push_back(torch::nn::Conv2d(torch::nn::Conv2dOptions(options.channels, options.channels, 1)));
    bins = (bins + 1) / 2;
  }
  register_module("depthwise", depthwise_);
  register_module("pointwise", pointwise_);
  output_ = register_module("output", std::make_shared<Linear>(options.channels * bins, dim));
  Initialise();
}

void Subsampling::Initialise() {
  const torch::NoGradGuard no_grad;
  // He et al. 2015, eq. 10. With torch's own start, whose biases and small gains add up over the layers,
  // nine tenths of what comes out would be a constant, and CTC stays long on its first plateau.
  for (auto& item : named_parameters()) {
    Tensor& p = item.value();
    if (p.dim() == 1) {
      p.zero_();
    } else {
      const double fan_in = static_cast<double>(p.numel()) / static_cast<double>(p.size(0));
      const bool relu_follows = item.key().find("depthwise") == std::string::npos && p.dim() == 4;
      p.normal_(0, std::sqrt((relu_follows ? 2.0 : 1.0) / fan_in));
    }
  }
}

void Subsampling::Prepack(InferencePrecision precision) {
  if (precision == InferencePrecision::kInt8) precision = InferencePrecision::kBFloat16;
  const int64_t channels = options_.channels, dim = output_->options.out_features();
  const Tensor output = output_->weight.detach().view({dim, channels, -1}).transpose(1, 2).reshape({dim, -1});
  auto packed = std::make_shared<Packed>(Packed{.first = PackStride(first_->weight, first_->bias),
                                                .output = PackedMatrix(output, output_->bias, precision)});
  for (size_t i = 0; i < depthwise_->size(); ++i) {
    const auto* depthwise = depthwise_[i]->as<torch::nn::Conv2d>();
    const auto* pointwise = pointwise_[i]->as<torch::nn::Conv2d>();
    packed->depthwise.push_back(PackStride(depthwise->weight, depthwise->bias));
    packed->pointwise.emplace_back(pointwise->weight.detach().flatten(1), pointwise->bias, precision);
  }
  packed_ = packed;
}

void Subsampling::train(bool on) {
  torch::nn::Module::train(on);
  if (on) packed_.reset();
}

Tensor Subsampling::Infer(const Tensor& features) const {
  const int64_t frames = WholeFrames(features.size(1));
  if (frames <= kFramesAtOnce) return InferAtOnce(features);
  const int64_t parts = (frames + kFramesAtOnce - 1) / kFramesAtOnce;
  std::vector<Tensor> out(static_cast<size_t>(parts));
  SideBySide(parts, [&](int64_t i) {
    const int64_t first = frames * i / parts, count = frames * (i + 1) / parts - first;
    out[static_cast<size_t>(i)] = InferAtOnce(features.narrow(1, options_.factor * first, FramesFor(count)));
  });
  return torch::cat(out, 1);
}

Tensor Subsampling::InferAtOnce(const Tensor& features) const {
  const torch::ScalarType type = packed_->output.input_type();
  Tensor x = SubsampleTwice(features.contiguous(), packed_->first, packed_->depthwise[0], type);
  for (size_t i = 0; i < packed_->pointwise.size(); ++i) {  // (N, t, bins, channels)
    if (i > 0) x = SubsampleOnce(x, packed_->depthwise[i], type);
    x = Relu(packed_->pointwise[i].Multiply({.values = x}), type).values;
  }
  return packed_->output.Multiply({.values = x.flatten(2)}).Value().to(torch::kFloat);
}

Tensor Subsampling::Convolve(const Tensor& features) {
  if (features.size(1) == 0)
    return torch::zeros({features.size(0), 0, output_->options.out_features()}, features.options());
  if (packed_ && ForInference(*this, features)) return Infer(features);
  Tensor x = torch::relu(first_(features.unsqueeze(1)));  // (N, channels, T / 2, C / 2)
  for (size_t i = 0; i < depthwise_->size(); ++i) {
    x = depthwise_[i]->as<torch::nn::Conv2d>()->forward(x);
    x = torch::relu(pointwise_[i]->as<torch::nn::Conv2d>()->forward(x));
  }
  x = x.permute({0, 2, 1, 3}).flatten(2);  // (N, T', channels * bins)
  return output_->forward(x);
}

Tensor Subsampling::Padded(const Tensor& features) const {
  const int64_t frames = OutputFrames(features.size(1));
  if (frames == 0) return features;
  return torch::constant_pad_nd(features, {0, 0, 0, FramesFor(frames) - features.size(1)});
}

Tensor Subsampling::Complete(const Tensor& features, bool final, SubsamplingState& state) const {
  const Tensor all = Append(state.frames, features);
  if (final) {
    state.frames = Tensor();
    return Padded(all);
  }
  const int64_t ready = WholeFrames(all.size(1));
  state.frames = all.narrow(1, options_.factor * ready, all.size(1) - options_.factor * ready);
  return all.narrow(1, 0, FramesFor(ready));
}

Tensor Subsampling::forward(const Tensor& features) { return Convolve(Padded(features)); }

std::vector<Tensor> Subsampling::StreamBatch(const std::vector<SubsamplingStep>& steps) {
  std::map<int64_t, std::vector<size_t>> by_length;
  std::vector<Tensor> complete, out(steps.size());
  for (const SubsamplingStep& step : steps) {
    complete.push_back(Complete(step.features, step.final, *step.state));
    by_length[complete.back().size(1)].push_back(complete.size() - 1);
  }
  for (const auto& [length, places] : by_length) {
    std::vector<Tensor> same;
    std::vector<int64_t> counts;
    for (const size_t i : places) {
      same.push_back(complete[i]);
      counts.push_back(complete[i].size(0));
    }
    const std::vector<Tensor> parts = Split(Convolve(Join(same, 0)), counts, 0);
    for (size_t j = 0; j < places.size(); ++j) out[places[j]] = parts[j];
  }
  return out;
}

}  // namespace earshot
