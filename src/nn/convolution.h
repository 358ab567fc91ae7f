// The conformer's convolution module (Gulati et al. 2020, section 2.2) with LayerNorm in place of
// batch norm: LayerNorm, pointwise, GLU, depthwise, LayerNorm, SiLU, pointwise, dropout.
//
// What the depthwise kernel of K frames may see, h = (K - 1) / 2:
//   symmetric  h frames on both sides
//   causal     K - 1 frames before
//   chunked    h frames before; after it no further than the end of its chunk (Dynamic chunk
//              convolution, Li et al. 2023): no latency beyond the chunk's own
// Beyond the ends of the utterance stand zeros.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "src/base/options.h"

namespace earshot {

enum class ConvolutionKind { kSymmetric, kCausal, kChunked };

struct ConvolutionOptions {
  ConvolutionKind kind = ConvolutionKind::kChunked;
  // Encoder frames, odd.
  int kernel = 15;
  // Chunk of the chunked kind, in encoder frames; that of the local pattern.
  int chunk = 16;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

struct ConvolutionState {
  torch::Tensor inputs;     // (N, t, D) of the depthwise kernel, from the first that is still needed
  int64_t first_input = 0;  // its position
  int64_t next_output = 0;  // position of the next frame to come out
};

class Convolution : public torch::nn::Module {
 public:
  Convolution(const ConvolutionOptions& options, int64_t dim, double dropout, bool bias);

  // x: (N, T, D); mask: (N, T, 1) float, 0 behind the end of an utterance, or undefined.
  // Returns (N, T, D), to be added to x.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask);

  // x: (N, t, D), the next frames. Returns those that became complete, in order; with `final` all.
  torch::Tensor Stream(const torch::Tensor& x, bool final, ConvolutionState& state);

 private:
  torch::Tensor Expand(const torch::Tensor& x);  // norm, pointwise, GLU
  // (N, T, D) -> (N, T, D), zeros beyond both ends.
  torch::Tensor Depthwise(const torch::Tensor& x);
  torch::Tensor Project(const torch::Tensor& x);  // norm, SiLU, pointwise, dropout

  ConvolutionOptions options_;
  double dropout_;
  torch::nn::LayerNorm norm_{nullptr}, depthwise_norm_{nullptr};
  torch::nn::Linear expand_{nullptr}, output_{nullptr};
  torch::nn::Conv1d depthwise_{nullptr};
};

}  // namespace earshot
