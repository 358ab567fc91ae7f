#include "src/nn/rotary.h"

#include "src/base/error.h"

namespace earshot {

RotaryTable MakeRotaryTable(const torch::Tensor& positions, int64_t head_dim, torch::Device device) {
  EARSHOT_CHECK(head_dim % 2 == 0, "head size {} is odd", head_dim);
  const auto options = torch::TensorOptions().dtype(torch::kDouble);
  const torch::Tensor exponent = torch::arange(0, head_dim, 2, options) / static_cast<double>(head_dim);
  const torch::Tensor angles = positions.unsqueeze(1) * torch::pow(10000.0, -exponent).unsqueeze(0);  // (T, d / 2)
  return {angles.cos().to(device, torch::kFloat), angles.sin().to(device, torch::kFloat)};
}

RotaryTable MakeRotaryTable(int64_t first, int64_t num, int64_t head_dim, torch::Device device) {
  return MakeRotaryTable(torch::arange(first, first + num, torch::kDouble), head_dim, device);
}

torch::Tensor ApplyRotary(const torch::Tensor& x, const RotaryTable& table) {
  const auto halves = x.chunk(2, -1);
  const torch::Tensor cos = table.cos.to(x.scalar_type());
  const torch::Tensor sin = table.sin.to(x.scalar_type());
  return torch::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

}  // namespace earshot
