// The conformer's feed-forward module: LayerNorm, linear, SiLU, dropout, linear, dropout.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include <memory>

#include "src/nn/linear.h"

namespace earshot {

class FeedForward : public torch::nn::Module {
 public:
  FeedForward(int64_t dim, int64_t hidden_dim, double dropout, bool bias);
  // x: (N, T, D) -> (N, T, D), to be added to x.
  torch::Tensor forward(const torch::Tensor& x);

  // The same for inference, behind the norm, which the caller has computed together with what came before.
  Product Infer(const Activation& normed) const;
  const torch::nn::LayerNormImpl& norm() const { return *norm_; }
  torch::ScalarType input_type() const { return hidden_->input_type(); }

 private:
  double dropout_;
  torch::nn::LayerNorm norm_{nullptr};
  std::shared_ptr<Linear> hidden_, output_;
};

}  // namespace earshot
