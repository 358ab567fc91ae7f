#include "src/nn/feed_forward.h"

#include "src/nn/dropout.h"

namespace earshot {

FeedForward::FeedForward(int64_t dim, int64_t hidden_dim, double dropout, bool bias) : dropout_(dropout) {
  norm_ = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim})));
  hidden_ = register_module("hidden", torch::nn::Linear(torch::nn::LinearOptions(dim, hidden_dim).bias(bias)));
  output_ = register_module("output", torch::nn::Linear(torch::nn::LinearOptions(hidden_dim, dim).bias(bias)));
}

torch::Tensor FeedForward::forward(const torch::Tensor& x) {
  const torch::Tensor h = Dropout(torch::silu(hidden_(norm_(x))), dropout_, is_training());
  return Dropout(output_(h), dropout_, is_training());
}

}  // namespace earshot
