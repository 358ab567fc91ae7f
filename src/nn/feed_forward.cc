#include "src/nn/feed_forward.h"

#include "src/nn/dropout.h"

namespace earshot {

FeedForward::FeedForward(int64_t dim, int64_t hidden_dim, double dropout, bool bias) : dropout_(dropout) {
  norm_ = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim})));
  hidden_ = register_module("hidden", std::make_shared<Linear>(dim, hidden_dim, bias));
  output_ = register_module("output", std::make_shared<Linear>(hidden_dim, dim, bias));
}

torch::Tensor FeedForward::forward(const torch::Tensor& x) {
  if (ForInference(*this, x)) return Infer(Normalize(x, *norm_, input_type())).Value().to(x.scalar_type());
  const torch::Tensor h = Dropout(torch::silu(hidden_->forward(norm_(x))), dropout_, is_training());
  return Dropout(output_->forward(h), dropout_, is_training());
}

Product FeedForward::Infer(const Activation& normed) const {
  return output_->Multiply(Silu(hidden_->Multiply(normed), output_->input_type()));
}

}  // namespace earshot
