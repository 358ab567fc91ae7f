// The conformer's feed-forward module: LayerNorm, linear, SiLU, dropout, linear, dropout.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

namespace earshot {

class FeedForward : public torch::nn::Module {
 public:
  FeedForward(int64_t dim, int64_t hidden_dim, double dropout, bool bias);
  // x: (N, T, D) -> (N, T, D), to be added to x.
  torch::Tensor forward(const torch::Tensor& x);

 private:
  double dropout_;
  torch::nn::LayerNorm norm_{nullptr};
  torch::nn::Linear hidden_{nullptr}, output_{nullptr};
};

}  // namespace earshot
