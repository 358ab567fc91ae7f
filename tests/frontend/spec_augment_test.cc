#include "src/frontend/spec_augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "src/base/error.h"

namespace earshot {
namespace {

constexpr int kDim = 40;

// How many neighbouring runs of true there are, and the longest.
struct Runs {
  int count = 0, longest = 0, total = 0;
};

Runs FindRuns(const std::vector<bool>& masked) {
  Runs runs;
  int length = 0;
  for (const bool m : masked) {
    length = m ? length + 1 : 0;
    if (length == 1) ++runs.count;
    runs.total += m ? 1 : 0;
    runs.longest = std::max(runs.longest, length);
  }
  return runs;
}

// Which frames, and which bins, are all 0 in features that had no 0.
void FindMasks(const std::vector<float>& x, std::vector<bool>& frames, std::vector<bool>& bins) {
  const size_t num_frames = x.size() / kDim;
  frames.assign(num_frames, true);
  bins.assign(kDim, true);
  for (size_t t = 0; t < num_frames; ++t) {
    for (size_t c = 0; c < kDim; ++c) {
      if (x[t * kDim + c] == 0) continue;
      frames[t] = false;
      bins[c] = false;
    }
  }
}

TEST(SpecAugment, MasksStayWithinLimitsAndReachThem) {
  const SpecAugmentOptions options{.num_freq_masks = 1,
                                   .freq_mask_bins = 8,
                                   .num_time_masks = 1,
                                   .time_mask_frames = 30,
                                   .time_mask_share = 0.2,
                                   .time_warp_frames = 0};
  int widest = 0, longest = 0, longest_short = 0, none = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    for (const int64_t num_frames : {200, 50}) {
      Random random(seed);
      std::vector<float> x(static_cast<size_t>(num_frames * kDim), 1.0f);
      SpecAugment(x, num_frames, kDim, options, random);
      std::vector<bool> frames, bins;
      FindMasks(x, frames, bins);
      const Runs time = FindRuns(frames), freq = FindRuns(bins);
      ASSERT_LE(time.count, 1);
      ASSERT_LE(freq.count, 1);
      // Nothing else was touched.
      ASSERT_EQ(std::count(x.begin(), x.end(), 1.0f), (num_frames - time.total) * (kDim - freq.total));
      widest = std::max(widest, freq.longest);
      none += time.total == 0;
      (num_frames == 200 ? longest : longest_short) =
          std::max(num_frames == 200 ? longest : longest_short, time.longest);
    }
  }
  EXPECT_EQ(widest, 8);
  EXPECT_EQ(longest, 30);
  EXPECT_EQ(longest_short, 10);  // 20 % of 50
  EXPECT_GT(none, 0);            // a mask may be empty
}

TEST(SpecAugment, AsManyMasksAsAskedFor) {
  const SpecAugmentOptions options{
      .num_freq_masks = 2, .freq_mask_bins = 5, .num_time_masks = 10, .time_mask_frames = 20, .time_mask_share = 0.05};
  int most_time = 0, most_freq = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    std::vector<float> x(1000 * kDim, 1.0f);
    SpecAugment(x, 1000, kDim, options, random);
    std::vector<bool> frames, bins;
    FindMasks(x, frames, bins);
    most_time = std::max(most_time, FindRuns(frames).count);
    most_freq = std::max(most_freq, FindRuns(bins).count);
    ASSERT_LE(FindRuns(frames).total, 10 * 20);
  }
  EXPECT_EQ(most_freq, 2);
  EXPECT_LE(most_time, 10);
  EXPECT_GE(most_time, 9);
}

TEST(SpecAugment, TheSameSeedGivesTheSameResult) {
  SpecAugmentOptions options;
  options.time_warp_frames = 5;
  std::vector<float> source(100 * kDim);
  Random noise(9);
  for (float& x : source) x = static_cast<float>(noise.Normal());
  std::vector<float> a = source, b = source, c = source;
  Random first(7), second(7), third(8);
  SpecAugment(a, 100, kDim, options, first);
  SpecAugment(b, 100, kDim, options, second);
  SpecAugment(c, 100, kDim, options, third);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

TEST(SpecAugment, ShortUtterancesSurvive) {
  SpecAugmentOptions options;
  options.time_warp_frames = 80;
  for (int64_t num_frames = 0; num_frames < 5; ++num_frames) {
    Random random(1);
    std::vector<float> x(static_cast<size_t>(num_frames * kDim), 1.0f);
    EXPECT_NO_THROW(SpecAugment(x, num_frames, kDim, options, random));
  }
}

TEST(TimeWarp, BendsARampIntoTwoStraightLines) {
  // x[t] = t, so a warped frame holds the time that it was taken from.
  constexpr int64_t kFrames = 101;
  std::vector<float> x;
  for (int64_t t = 0; t < kFrames; ++t) x.insert(x.end(), {static_cast<float>(t), static_cast<float>(-t)});
  TimeWarp(x, kFrames, 2, 40, 60);
  EXPECT_FLOAT_EQ(x[0], 0);
  EXPECT_FLOAT_EQ(x[2 * 60], 40);
  EXPECT_FLOAT_EQ(x[2 * 100], 100);
  EXPECT_NEAR(x[2 * 30], 20, 1e-4);
  EXPECT_NEAR(x[2 * 80], 70, 1e-4);
  for (int64_t t = 0; t < kFrames; ++t)
    EXPECT_FLOAT_EQ(x[static_cast<size_t>(2 * t + 1)], -x[static_cast<size_t>(2 * t)]);
}

TEST(SpecAugmentOptions, BadValuesAreErrors) {
  EXPECT_THROW(SpecAugmentOptions{.num_freq_masks = -1}.Validate(), Error);
  EXPECT_THROW(SpecAugmentOptions{.freq_mask_bins = -1}.Validate(), Error);
  EXPECT_THROW(SpecAugmentOptions{.num_time_masks = -1}.Validate(), Error);
  EXPECT_THROW(SpecAugmentOptions{.time_mask_frames = -1}.Validate(), Error);
  EXPECT_THROW(SpecAugmentOptions{.time_mask_share = 1.5}.Validate(), Error);
  EXPECT_THROW(SpecAugmentOptions{.time_warp_frames = -1}.Validate(), Error);
  EXPECT_NO_THROW(SpecAugmentOptions{}.Validate());
}

}  // namespace
}  // namespace earshot
