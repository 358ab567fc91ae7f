// Rotary positions (Su et al. 2021, RoFormer, eq. 34): relative, no table with a longest length.
//
//   RotaryTable table = MakeRotaryTable(first_position, T, head_dim, device);
//   q = ApplyRotary(q, table);   // (N, H, T, d)
#pragma once

#include <torch/types.h>

#include <vector>

namespace earshot {

struct RotaryTable {
  // (T, d / 2) float each.
  torch::Tensor cos, sin;
};

// Angles of the positions first ... first + num - 1, computed in double: exact for streams of any length.
RotaryTable MakeRotaryTable(int64_t first, int64_t num, int64_t head_dim, torch::Device device);

// The same at some positions, ascending.
RotaryTable MakeRotaryTable(const std::vector<int64_t>& positions, int64_t head_dim, torch::Device device);

// The same at any places, (T) double on the CPU; a summary of several frames stands between two.
RotaryTable MakeRotaryTable(const torch::Tensor& positions, int64_t head_dim, torch::Device device);

// x: (N, H, T, d), d even. The first half of d is rotated against the second half. Keeps x's type.
torch::Tensor ApplyRotary(const torch::Tensor& x, const RotaryTable& table);

}  // namespace earshot
