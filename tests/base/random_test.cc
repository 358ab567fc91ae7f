#include "src/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/base/error.h"

namespace earshot {
namespace {

TEST(RandomTest, TheSameKeyGivesTheSameNumbersAndAnotherKeyOthers) {
  Random a = Random::For({1, 2, 3}), b = Random::For({1, 2, 3}), c = Random::For({1, 3, 2});
  int equal = 0;
  for (int i = 0; i < 100; ++i) {
    const uint32_t value = a.Next();
    EXPECT_EQ(value, b.Next());
    equal += value == c.Next() ? 1 : 0;
  }
  EXPECT_LT(equal, 3);
}

TEST(RandomTest, StateGoesOnWhereItWasTaken) {
  Random a(7);
  a.Normal();
  Random b(0);
  b.set_state(a.state());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(a.Uniform(), b.Uniform());
}

TEST(RandomTest, UniformNormalAndIndexHaveTheirMoments) {
  Random random(1);
  constexpr int kDraws = 200000;
  double sum = 0, normal_sum = 0, normal_squares = 0;
  std::vector<int> counts(5);
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.Uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    const double z = random.Normal();
    ASSERT_TRUE(std::isfinite(z));
    normal_sum += z;
    normal_squares += z * z;
    ++counts[static_cast<size_t>(random.Index(5))];
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.005);
  EXPECT_NEAR(normal_sum / kDraws, 0, 0.01);
  EXPECT_NEAR(normal_squares / kDraws, 1, 0.02);
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 5.0, 800);
  EXPECT_THROW(random.Index(0), LogicError);
}

TEST(RandomTest, ShuffleKeepsAllItems) {
  std::vector<int> items(50);
  std::iota(items.begin(), items.end(), 0);
  std::vector<int> shuffled = items;
  Random random(3);
  random.Shuffle(shuffled);
  EXPECT_NE(shuffled, items);
  std::sort(shuffled.begin(), shuffled.end());
  EXPECT_EQ(shuffled, items);
}

}  // namespace
}  // namespace earshot
