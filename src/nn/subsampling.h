// Depthwise-striding subsampling: frames at 10 ms become encoder frames at 40 or 80 ms.
//
// A full 3 x 3 convolution with stride 2, then one (by 4) or two (by 8) depthwise 3 x 3 convolutions with
// stride 2 and a pointwise one, ReLU after each, then a linear layer (FastConformer, Rekesh et al. 2023).
// In time nothing is padded on the left; on the right zeros are, so that T' = ceil(T / factor)
// and the last frames are never cut. Encoder frame t' depends on frames factor t' ... factor t' + Span() - 1.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/types.h>

#include <memory>

#include "src/base/options.h"
#include "src/nn/linear.h"

namespace earshot {

struct SubsamplingOptions {
  // Frames that become one encoder frame: 4 or 8.
  int factor = 4;
  // Channels of the convolutions.
  int channels = 64;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

// What a stream keeps: the frames that the next encoder frame still needs.
struct SubsamplingState {
  torch::Tensor frames;  // (N, t, C), t < Span() + factor
};

// The next frames of one stream.
struct SubsamplingStep {
  torch::Tensor features;  // (N, t, C), any t
  bool final = false;      // the last ones, too, become encoder frames
  SubsamplingState* state = nullptr;
};

class Subsampling : public torch::nn::Module, public Prepackable {
 public:
  // num_features: C of the front end.
  Subsampling(const SubsamplingOptions& options, int64_t num_features, int64_t dim);

  // features: (N, T, C), zeros behind the end of each utterance. Returns (N, ceil(T / factor), D).
  torch::Tensor forward(const torch::Tensor& features);

  // Returns the encoder frames of each stream that became complete, (N, t', D). Streams that are as long as one another
  // are computed at once.
  std::vector<torch::Tensor> StreamBatch(const std::vector<SubsamplingStep>& steps);

  // With packed weights the convolutions go channels last, a few frames at a time. int8: computed as bf16 is, the
  // convolutions do not gain from it.
  void Prepack(InferencePrecision precision) override;
  void train(bool on = true) override;

  // ceil(frames / factor).
  int64_t OutputFrames(int64_t frames) const { return (frames + options_.factor - 1) / options_.factor; }
  int64_t factor() const { return options_.factor; }
  int64_t Span() const { return options_.factor == 4 ? 7 : 15; }
  // Frames that the first `count` encoder frames are made of, and encoder frames that so many are enough for.
  int64_t FramesFor(int64_t count) const { return count == 0 ? 0 : options_.factor * (count - 1) + Span(); }
  int64_t WholeFrames(int64_t frames) const { return frames < Span() ? 0 : (frames - Span()) / options_.factor + 1; }

 private:
  void Initialise();
  // (N, T, C) -> (N, factor (T' - 1) + Span(), C), T' = ceil(T / factor); no frames of none.
  torch::Tensor Padded(const torch::Tensor& features) const;
  // The frames, with those of the steps before, of which encoder frames became complete, as many as Convolve takes.
  torch::Tensor Complete(const torch::Tensor& features, bool final, SubsamplingState& state) const;
  // (N, T, C) with T = factor (T' - 1) + Span(), or 0 -> (N, T', D).
  torch::Tensor Convolve(const torch::Tensor& features);
  torch::Tensor Infer(const torch::Tensor& features) const;
  torch::Tensor InferAtOnce(const torch::Tensor& features) const;

  SubsamplingOptions options_;
  torch::nn::Conv2d first_{nullptr};
  torch::nn::ModuleList depthwise_, pointwise_;
  std::shared_ptr<Linear> output_;
  struct Packed;
  std::shared_ptr<const Packed> packed_;
};

}  // namespace earshot
