// Softmax over logits of which some never count.
#pragma once

#include <torch/types.h>

namespace earshot {

// Stands for minus infinity: exp() of it is 0, and a row of nothing but it stays free of NaN.
constexpr double kNever = -1e30;

// Double for double, else float.
inline torch::ScalarType ScoreType(const torch::Tensor& q) {
  return q.scalar_type() == torch::kDouble ? torch::kDouble : torch::kFloat;
}

// logits: (..., K), kNever or less where a key is not seen. Rows in which nothing is seen become zeros.
inline torch::Tensor MaskedSoftmax(const torch::Tensor& logits) {
  const torch::Tensor bounded = logits.clamp_min(kNever);
  return torch::softmax(bounded, -1) * (bounded > kNever / 2).to(bounded.scalar_type());
}

}  // namespace earshot
