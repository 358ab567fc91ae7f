// A linear layer whose weights can be laid out for the CPU once, before inference.
//
//   auto layer = std::make_shared<Linear>(256, 1024);
//   y = layer->forward(x);                                   // torch::linear: training, any device
//   Prepack(network, InferencePrecision::kBFloat16);                  // every layer of a network in evaluation
//   y = layer->Multiply(Convert(x, layer->input_type())).Value();
//
// Packed weights are oneDNN's, of float, bf16 or int8 (symmetric, a scale for each output channel; what is read is
// quantised row by row, so that a frame gives the same result whatever it is computed with). They stand beside the
// parameters, which stay as they are: memory is that of the weights, and half or a quarter of it again. They do not
// follow when a parameter changes: call Prepack again. train() drops them. Thread-safe in evaluation.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include <memory>

#include "src/nn/inference.h"

namespace earshot {

enum class InferencePrecision { kFloat, kBFloat16, kInt8 };

// What the CPU here computes: bf16 where it has instructions for it (elsewhere float), int8 where oneDNN can.
InferencePrecision Supported(InferencePrecision wanted);

// A matrix (out, in) for products x -> x W^T + b.
class PackedMatrix {
 public:
  // weight: (out, in) float on the CPU; bias: (out) float or undefined.
  PackedMatrix(const torch::Tensor& weight, const torch::Tensor& bias, InferencePrecision precision);
  // Float, bf16 or int8: what Multiply reads.
  torch::ScalarType input_type() const { return input_type_; }
  // x: (..., in) of input_type(), contiguous -> (..., out).
  Product Multiply(const Activation& x) const;

 private:
  torch::ScalarType input_type_ = torch::kFloat;
  int64_t out_ = 0;
  torch::Tensor weight_;  // opaque to all but oneDNN; or (out, in), where there is none
  bool packed_ = false;
  torch::Tensor bias_;           // (out), of input_type_; float for int8
  torch::Tensor scale_, zeros_;  // (out), of int8
};

// A module with something to lay out for inference.
class Prepackable {
 public:
  virtual ~Prepackable() = default;
  virtual void Prepack(InferencePrecision precision) = 0;
};

// All of them below `root`, which is put into evaluation. On another device than the CPU it does nothing.
void Prepack(torch::nn::Module& root, InferencePrecision precision);

class Linear : public torch::nn::LinearImpl, public Prepackable {
 public:
  Linear(int64_t in, int64_t out, bool bias = true);
  // x: (..., in) -> (..., out), of x's type.
  torch::Tensor forward(const torch::Tensor& x);

  void Prepack(InferencePrecision precision) override;
  void train(bool on = true) override;
  torch::ScalarType input_type() const { return packed_ ? packed_->input_type() : torch::kFloat; }
  // Inference on the CPU. Without packed weights: the same in float.
  Product Multiply(const Activation& x) const;

 private:
  std::shared_ptr<const PackedMatrix> packed_;
};

}  // namespace earshot
