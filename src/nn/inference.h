// The steps of a conformer block between its matrix products, for inference on the CPU: each a pass over the frames
// (row_kernel.h), threads through at::parallel_for.
//
//   Activation h = Normalize(x, *norm, hidden->input_type());
//   h = Silu(hidden->Multiply(h), output->input_type());
//   x = Sum({.x = x, .y = output->Multiply(h), .alpha = 0.5});
//
// The frames x that go from block to block are float; what a linear layer reads and gives is of the precision that it
// was packed for. Nothing here can be differentiated: ForInference says when it may be used. Stateless, thread-safe.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

namespace earshot {

// What a linear layer reads.
struct Activation {
  torch::Tensor values;  // (N, T, D) float, bf16 or int8
  torch::Tensor scale;   // (N, T) float, of int8: values x scale is meant; undefined otherwise
};

// What a linear layer gives, values x scale + bias: an int8 product leaves both to its reader.
struct Product {
  torch::Tensor values;  // (N, T, D) float or bf16
  torch::Tensor scale;   // (N, T) float; undefined: 1
  torch::Tensor bias;    // (D) float; undefined: 0
  // With both in it. Overwrites values.
  torch::Tensor Value() const;
};

// x + alpha gate y.
struct Residual {
  torch::Tensor x;  // (N, T, D) float
  Product y;
  double alpha = 1;
  torch::Tensor gate;  // (N, T, 1) float; undefined: 1
};

// Whether x, the input of `module`, may take the way of this header: on the CPU, float, in evaluation, no gradients.
bool ForInference(const torch::nn::Module& module, const torch::Tensor& x);

// x: (N, T, D) float or bf16; type: what the next layer reads.
Activation Convert(const torch::Tensor& x, torch::ScalarType type);
// x: (N, T, D) float.
Activation Normalize(const torch::Tensor& x, const torch::nn::LayerNormImpl& norm, torch::ScalarType type);
torch::Tensor Sum(const Residual& residual);
// norm(sum). The sum itself takes the place of residual.x.
Activation SumNorm(const Residual& residual, const torch::nn::LayerNormImpl& norm, torch::ScalarType type);
// norm(sum) as frames.
torch::Tensor NormalizedSum(const Residual& residual, const torch::nn::LayerNormImpl& norm);
// These may overwrite x.
Activation Silu(const Product& x, torch::ScalarType type);
Activation Relu(const Product& x, torch::ScalarType type);
// x: (N, T, 2 D) -> (N, T, D) float. mask: (N, T, 1) float or undefined.
torch::Tensor Glu(const Product& x, const torch::Tensor& mask);

// Rotary positions for the first `rotated` heads of each row, which holds heads of 2 x cos.size(1) channels side by
// side: queries and keys of a fused projection, whose values stay as they are. x: (N, T, heads d); cos, sin: (T, d / 2)
// float. Overwrites x; returns it, with scale and bias in it.
torch::Tensor Rotate(const Product& x, int64_t rotated, const torch::Tensor& cos, const torch::Tensor& sin);

// The depthwise convolution over time, LayerNorm, SiLU.
struct DepthwiseOptions {
  torch::Tensor weight;  // what PackDepthwise gives
  torch::Tensor bias;    // (D) or undefined
  int64_t kernel = 1;
  int64_t before = 0;  // taps in front of the frame
  // Of each frame of the result, the frame of x before which what it sees ends; empty: all is seen.
  std::vector<int64_t> ends;
};
// The weights of a Conv1d with D groups, (D, 1, K), laid out for it.
torch::Tensor PackDepthwise(const torch::Tensor& weight);
// x: (N, T, D) float, zeros stand beyond both ends. Returns frames first ... first + num - 1.
Activation DepthwiseNormSilu(const torch::Tensor& x, int64_t first, int64_t num, const DepthwiseOptions& options,
                             const torch::nn::LayerNormImpl& norm, torch::ScalarType type);

// The 3 x 3 convolutions of the subsampling, with stride 2 and 1 bin of padding, channels last.
struct StrideWeights {
  torch::Tensor weight;  // (9, channels) float
  torch::Tensor bias;    // (channels) float
};
// weight: (channels, 1, 3, 3).
StrideWeights PackStride(const torch::Tensor& weight, const torch::Tensor& bias);
// x: (N, 4 t + 3, C) float -> (N, t, ceil(ceil(C / 2) / 2), channels): the first, ReLU, and a depthwise one.
torch::Tensor SubsampleTwice(const torch::Tensor& x, const StrideWeights& first, const StrideWeights& second,
                             torch::ScalarType type);
// x: (N, 2 t + 1, bins, channels) -> (N, t, ceil(bins / 2), channels): a depthwise one.
torch::Tensor SubsampleOnce(const torch::Tensor& x, const StrideWeights& weights, torch::ScalarType type);

}  // namespace earshot
