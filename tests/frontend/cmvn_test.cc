#include "src/frontend/cmvn.h"

#include <gtest/gtest.h>

#include <cmath>

#include "src/base/error.h"
#include "src/base/random.h"

namespace earshot {
namespace {

// (T, 3): column c has mean 10 c and deviation c + 1, column 2 never changes.
std::vector<float> Features(int64_t num_frames, uint64_t seed) {
  Random random(seed);
  std::vector<float> features;
  for (int64_t t = 0; t < num_frames; ++t) {
    features.push_back(static_cast<float>(random.Normal()));
    features.push_back(static_cast<float>(10 + 2 * random.Normal()));
    features.push_back(20.0f);
  }
  return features;
}

struct Moments {
  double mean = 0, deviation = 0;
};

Moments OfColumn(const std::vector<float>& features, size_t c, double degrees_lost) {
  const auto count = static_cast<double>(features.size() / 3);
  Moments m;
  for (size_t i = c; i < features.size(); i += 3) m.mean += features[i] / count;
  for (size_t i = c; i < features.size(); i += 3)
    m.deviation += (features[i] - m.mean) * (features[i] - m.mean) / (count - degrees_lost);
  m.deviation = std::sqrt(m.deviation);
  return m;
}

TEST(GlobalCmvn, MakesMeanZeroAndVarianceOne) {
  std::vector<float> features = Features(5000, 1);
  CmvnAccumulator accumulator(3);
  accumulator.Accept(features);
  const GlobalCmvn cmvn = accumulator.Finish();
  EXPECT_NEAR(cmvn.mean[1], 10, 0.2);
  EXPECT_NEAR(cmvn.inverse_std[1], 0.5, 0.02);
  cmvn.Apply(features);
  for (const size_t c : {0U, 1U}) {
    EXPECT_NEAR(OfColumn(features, c, 0).mean, 0, 1e-5);
    EXPECT_NEAR(OfColumn(features, c, 0).deviation, 1, 1e-5);
  }
  EXPECT_EQ(features[2], 0.0f);  // a constant: no division by 0
}

TEST(CmvnAccumulator, PartsAddUpToTheWhole) {
  const std::vector<float> features = Features(300, 2);
  CmvnAccumulator whole(3), left(3), right(3);
  whole.Accept(features);
  left.Accept(std::span(features).first(3 * 70));
  right.Accept(std::span(features).subspan(3 * 70));
  left += right;
  EXPECT_EQ(left.num_frames(), 300);
  for (size_t c = 0; c < 3; ++c) {
    EXPECT_FLOAT_EQ(left.Finish().mean[c], whole.Finish().mean[c]);
    EXPECT_FLOAT_EQ(left.Finish().inverse_std[c], whole.Finish().inverse_std[c]);
  }
}

TEST(CmvnAccumulator, NoFrameIsAnError) { EXPECT_THROW(CmvnAccumulator(3).Finish(), Error); }

TEST(GlobalCmvn, EmptyDoesNothingAndWrongWidthsAreMistakes) {
  std::vector<float> features = {1, 2, 3};
  GlobalCmvn().Apply(features);
  EXPECT_EQ(features, (std::vector<float>{1, 2, 3}));
  const GlobalCmvn two{.mean = {0, 0}, .inverse_std = {1, 1}};
  EXPECT_THROW(two.Apply(features), LogicError);
}

TEST(NormalizePerFeature, UsesTheUtteranceItself) {
  std::vector<float> features = Features(500, 3);
  NormalizePerFeature(features, 3);
  for (const size_t c : {0U, 1U}) {
    EXPECT_NEAR(OfColumn(features, c, 1).mean, 0, 1e-5);
    EXPECT_NEAR(OfColumn(features, c, 1).deviation, 1, 1e-4);
  }
  EXPECT_EQ(features[2], 0.0f);
  std::vector<float> one = {5, 6, 7};
  NormalizePerFeature(one, 3);
  EXPECT_EQ(one, (std::vector<float>{0, 0, 0}));
}

}  // namespace
}  // namespace earshot
