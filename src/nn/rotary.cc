#include "src/nn/rotary.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <numeric>

#include "src/base/error.h"

namespace earshot {

namespace {

// (d / 2) double: radians a position.
torch::Tensor Frequencies(int64_t head_dim) {
  return torch::pow(10000.0, -torch::arange(0, head_dim, 2, torch::kDouble) / static_cast<double>(head_dim));
}

}  // namespace

RotaryTable MakeRotaryTable(const torch::Tensor& positions, int64_t head_dim, torch::Device device) {
  EARSHOT_CHECK(head_dim % 2 == 0, "head size {} is odd", head_dim);
  const torch::Tensor angles = positions.unsqueeze(1) * Frequencies(head_dim).unsqueeze(0);  // (T, d / 2)
  return {angles.cos().to(device, torch::kFloat), angles.sin().to(device, torch::kFloat)};
}

namespace {

// Positions whose angles are taken of the same base: a power of two, so that a position's base is exact.
constexpr int64_t kStep = 1024;

struct Angles {
  torch::Tensor cos, sin;  // double
};

// Of the positions 0 ... kStep - 1, (kStep, d / 2): made once for each head size.
Angles Offsets(int64_t head_dim) {
  static std::mutex mutex;
  static std::map<int64_t, Angles> tables;
  const std::lock_guard<std::mutex> lock(mutex);
  Angles& table = tables[head_dim];
  if (!table.cos.defined()) {
    const torch::NoGradGuard no_grad;
    const torch::Tensor angles = torch::arange(kStep, torch::kDouble).unsqueeze(1) * Frequencies(head_dim).unsqueeze(0);
    table = {angles.cos(), angles.sin()};
  }
  return table;
}

}  // namespace

RotaryTable MakeRotaryTable(const std::vector<int64_t>& positions, int64_t head_dim, torch::Device device) {
  EARSHOT_CHECK(head_dim % 2 == 0, "head size {} is odd", head_dim);
  EARSHOT_CHECK(std::is_sorted(positions.begin(), positions.end()), "positions that do not ascend");
  const Angles offsets = Offsets(head_dim);
  const torch::Tensor frequencies = Frequencies(head_dim);
  const auto num = static_cast<int64_t>(positions.size());
  RotaryTable table{torch::empty({num, head_dim / 2}), torch::empty({num, head_dim / 2})};
  // cos(a + b) and sin(a + b) of the base a and the offset b: two products in place of a cosine for each value.
  for (auto next = positions.begin(); next != positions.end();) {
    const int64_t base = *next / kStep * kStep, done = next - positions.begin();
    std::vector<int64_t> index;  // those of this base
    for (; next != positions.end() && *next - base < kStep; ++next) index.push_back(*next - base);
    const auto count = static_cast<int64_t>(index.size());
    const bool dense = index.back() - index.front() + 1 == count;
    const torch::Tensor places = dense ? torch::Tensor() : torch::tensor(index, torch::kInt64);
    const auto of = [&](const torch::Tensor& all) {
      return dense ? all.narrow(0, index.front(), count) : all.index_select(0, places);
    };
    const torch::Tensor angle = static_cast<double>(base) * frequencies;
    const torch::Tensor c = angle.cos(), s = angle.sin(), co = of(offsets.cos), so = of(offsets.sin);
    table.cos.narrow(0, done, count).copy_(co * c - so * s);
    table.sin.narrow(0, done, count).copy_(so * c + co * s);
  }
  return {table.cos.to(device), table.sin.to(device)};
}

RotaryTable MakeRotaryTable(int64_t first, int64_t num, int64_t head_dim, torch::Device device) {
  std::vector<int64_t> positions(static_cast<size_t>(num));
  std::iota(positions.begin(), positions.end(), first);
  return MakeRotaryTable(positions, head_dim, device);
}

torch::Tensor ApplyRotary(const torch::Tensor& x, const RotaryTable& table) {
  const auto halves = x.chunk(2, -1);
  const torch::Tensor cos = table.cos.to(x.scalar_type());
  const torch::Tensor sin = table.sin.to(x.scalar_type());
  return torch::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

}  // namespace earshot
