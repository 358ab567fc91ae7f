#include "src/frontend/convolution.h"

#include <gtest/gtest.h>

#include <cmath>

#include "src/base/random.h"

namespace earshot {
namespace {

std::vector<float> Noise(size_t size, uint64_t seed) {
  Random random(seed);
  std::vector<float> noise(size);
  for (float& x : noise) x = static_cast<float>(random.Normal());
  return noise;
}

TEST(Convolve, EqualsTheDirectSum) {
  for (const auto& [size_a, size_b] :
       {std::pair<size_t, size_t>{1, 1}, {5, 3}, {3, 5}, {1000, 7}, {4097, 1024}, {2000, 1999}, {100, 700}, {513, 1}}) {
    const std::vector<float> a = Noise(size_a, 1), b = Noise(size_b, 2);
    const std::vector<float> result = Convolve(a, b);
    ASSERT_EQ(result.size(), size_a + size_b - 1);
    double worst = 0;
    for (size_t n = 0; n < result.size(); ++n) {
      double sum = 0;
      for (size_t k = n < size_a ? 0 : n - size_a + 1; k < size_b && k <= n; ++k)
        sum += static_cast<double>(b[k]) * a[n - k];
      worst = std::max(worst, std::abs(result[n] - sum));
    }
    EXPECT_LT(worst, 1e-5 * std::sqrt(static_cast<double>(size_a + size_b)) + 2e-4) << size_a << " x " << size_b;
  }
}

TEST(Convolve, NothingGivesNothing) {
  const std::vector<float> some = {1, 2};
  EXPECT_TRUE(Convolve({}, some).empty());
  EXPECT_TRUE(Convolve(some, {}).empty());
}

}  // namespace
}  // namespace earshot
