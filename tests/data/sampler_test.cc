#include "src/data/sampler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "src/base/random.h"
#include "tests/data/data_test_util.h"

namespace earshot {
namespace {

using testing::HasSubstr;
using Batches = std::vector<std::vector<int64_t>>;

std::vector<double> RandomDurations(int64_t count) {
  Random random(5);
  std::vector<double> durations_s(static_cast<size_t>(count));
  for (double& d : durations_s) d = random.Uniform(0.5, 15);
  return durations_s;
}

std::vector<int64_t> Flat(const Batches& batches) {
  std::vector<int64_t> all;
  for (const auto& batch : batches) all.insert(all.end(), batch.begin(), batch.end());
  return all;
}

int64_t PaddedFrames(const std::vector<int64_t>& batch, const std::vector<double>& durations_s) {
  double longest_s = 0;
  for (const int64_t u : batch) longest_s = std::max(longest_s, durations_s[static_cast<size_t>(u)]);
  return std::lround(longest_s * 100) * static_cast<int64_t>(batch.size());
}

TEST(Sampler, EveryUtteranceOnceAnEpochWithinTheBudget) {
  const auto durations_s = RandomDurations(1003);
  for (const bool shuffle : {true, false}) {
    const Sampler sampler(durations_s, {.max_frames = 6000, .max_utterances = 12, .shuffle = shuffle, .seed = 3});
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      const Batches batches = sampler.Batches(epoch);
      EXPECT_EQ(static_cast<int64_t>(batches.size()), sampler.NumBatches());
      auto all = Flat(batches);
      std::sort(all.begin(), all.end());
      for (int64_t u = 0; u < 1003; ++u) ASSERT_EQ(all[static_cast<size_t>(u)], u);
      for (const auto& batch : batches) {
        EXPECT_FALSE(batch.empty());
        EXPECT_LE(batch.size(), 12U);
        EXPECT_LE(PaddedFrames(batch, durations_s), 6000);
      }
    }
  }
}

TEST(Sampler, BucketsSavePadding) {
  const auto durations_s = RandomDurations(1000);
  double spoken = 0;
  for (const double d : durations_s) spoken += d * 100;
  const auto padded = [&](int num_buckets) {
    const Sampler sampler(durations_s, {.num_buckets = num_buckets, .max_frames = 20000});
    double sum = 0;
    for (const auto& batch : sampler.Batches(0)) sum += static_cast<double>(PaddedFrames(batch, durations_s));
    return sum / spoken;
  };
  EXPECT_GT(padded(1), 1.5);
  EXPECT_LT(padded(10), 1.15);
}

TEST(Sampler, EpochsDifferAndRepeat) {
  const auto durations_s = RandomDurations(200);
  const SamplerOptions options{.max_frames = 5000, .seed = 9};
  const Sampler sampler(durations_s, options), again(durations_s, options);
  EXPECT_EQ(sampler.Batches(4), again.Batches(4));
  EXPECT_NE(sampler.Batches(4), sampler.Batches(5));
  SamplerOptions other = options;
  other.seed = 10;
  EXPECT_NE(Sampler(durations_s, other).Batches(4), sampler.Batches(4));
  // Not only the order of the batches: who shares one, too.
  Batches first = sampler.Batches(0), second = sampler.Batches(1);
  for (Batches* batches : {&first, &second}) {
    for (auto& batch : *batches) std::sort(batch.begin(), batch.end());
    std::sort(batches->begin(), batches->end());
  }
  EXPECT_NE(first, second);
}

TEST(Sampler, WithoutShufflingTheLongestComeFirst) {
  const Sampler sampler(std::vector<double>{1, 3, 2, 5, 4}, {.num_buckets = 5, .max_frames = 900, .shuffle = false});
  EXPECT_EQ(Flat(sampler.Batches(0)), (std::vector<int64_t>{3, 4, 1, 2, 0}));
  EXPECT_EQ(sampler.Batches(0), sampler.Batches(7));
}

TEST(Sampler, BatchesOfABucketAreOfOneSize) {
  const Sampler sampler(std::vector<double>(95, 1.0), {.num_buckets = 1, .max_frames = 3000});
  for (const auto& batch : sampler.Batches(0)) {
    EXPECT_GE(batch.size(), 23U);
    EXPECT_LE(batch.size(), 24U);
  }
}

TEST(Sampler, AnUtteranceOverTheBudgetIsABatchOfItsOwn) {
  const Sampler sampler(std::vector<double>{100, 1, 1, 1}, {.num_buckets = 4, .max_frames = 500, .shuffle = false});
  EXPECT_EQ(sampler.Batches(0)[0], (std::vector<int64_t>{0}));
}

TEST(Sampler, UnknownDurationsCountAsTheMedian) {
  const Sampler sampler(std::vector<double>{9, 5, -1, 4, 1}, {.num_buckets = 5, .max_frames = 900, .shuffle = false});
  EXPECT_EQ(Flat(sampler.Batches(0)), (std::vector<int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(Sampler(std::vector<double>(3, -1.0), {.max_frames = 1}).NumBatches(), 3);
}

TEST(Sampler, RanksShareTheBatches) {
  const auto durations_s = RandomDurations(300);
  const SamplerOptions options{.max_frames = 4000, .seed = 2};
  const Sampler whole(durations_s, options);
  std::set<int64_t> seen;
  for (int rank = 0; rank < 4; ++rank) {
    const Sampler part(durations_s, options, {.rank = rank, .num_ranks = 4});
    EXPECT_EQ(part.NumBatches(), whole.NumBatches() / 4);
    const Batches batches = part.Batches(1);
    EXPECT_EQ(static_cast<int64_t>(batches.size()), part.NumBatches());
    for (const int64_t u : Flat(batches)) EXPECT_TRUE(seen.insert(u).second) << u;
  }
  EXPECT_THROW(Sampler(std::vector<double>{1}, {}, {.rank = 1, .num_ranks = 2}), Error);
}

TEST(Sampler, ErrorsNameTheKey) {
  const std::vector<double> one = {1};
  EXPECT_THAT(ErrorOf([&] { Sampler(one, {.num_buckets = 0}); }), HasSubstr("num_buckets is 0"));
  EXPECT_THAT(ErrorOf([&] { Sampler(one, {.max_frames = 0}); }), HasSubstr("max_frames is 0"));
  EXPECT_THAT(ErrorOf([&] { Sampler(one, {.max_utterances = -1}); }), HasSubstr("max_utterances is -1"));
  EXPECT_THAT(ErrorOf([&] { Sampler({}, {}); }), HasSubstr("no utterances"));
}

}  // namespace
}  // namespace earshot
