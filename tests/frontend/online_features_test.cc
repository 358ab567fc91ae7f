// A stream gives the frames of the whole, to the bit, however it is split.
#include "src/frontend/online_features.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/frontend/frame_kernel.h"
#include "tests/frontend/golden.h"
#include "tests/support/simd_guard.h"

namespace earshot {
namespace {

FeatureOptions Named(const std::string& name) {
  FeatureOptions options;
  if (name == "snipped") options.fbank.snip_edges = true;
  if (name == "dithered") options.fbank.dither = 1;
  if (name == "nemo") {
    options.fbank.center_frames = true;
    options.fbank.preemphasis_scope = PreemphasisScope::kStream;
  }
  if (name == "gaps") {  // the shift is longer than the frame
    options.fbank.frame_length_ms = 10;
    options.fbank.frame_shift_ms = 25;
    options.fbank.num_mel_bins = 20;
  }
  if (name == "mfcc") {
    options.type = FeatureType::kMfcc;
    options.mfcc.use_energy = true;
  }
  return options;
}

class OnlineFeaturesSplit : public testing::TestWithParam<std::string> {};

// Feeds pieces of random length, 0 among them; takes frames as they come, and forgets some.
TEST_P(OnlineFeaturesSplit, EqualsOffline) {
  const std::vector<float> input = GoldenInput();
  for (const SimdLevel level : SupportedSimdLevels(kHighestFrameLevel)) {
    const ScopedSimdLevel scope(level);
    const auto extractor = MakeFeatureExtractor(Named(GetParam()));
    for (uint64_t seed = 0; seed < 6; ++seed) {
      Random random(seed);
      // The last seed cuts the wave so short that most frames stick out.
      const std::span<const float> samples = std::span(input).first(seed == 5 ? 330 : input.size() - seed * 37);
      const int64_t longest = seed == 0 ? 1 : seed == 1 ? 100000 : 1 + random.Index(3000);
      const std::vector<float> offline = extractor->Compute(samples);
      OnlineFeatures online(extractor);
      std::vector<float> collected;
      const auto collect = [&](int64_t& next) {
        for (; next < online.NumFramesReady(); ++next) {
          const auto frame = online.GetFrame(next);
          collected.insert(collected.end(), frame.begin(), frame.end());
          if (random.Chance(0.3)) online.DiscardBefore(next);
        }
      };
      int64_t next = 0;
      for (size_t done = 0; done < samples.size();) {
        const auto size = std::min(samples.size() - done, static_cast<size_t>(random.Index(longest + 1)));
        online.AcceptWaveform(samples.subspan(done, size));
        done += size;
        collect(next);
      }
      online.InputFinished();
      collect(next);
      ASSERT_EQ(next, extractor->NumFrames(static_cast<int64_t>(samples.size())));
      ASSERT_EQ(collected, offline) << Name(level) << ", seed " << seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Options, OnlineFeaturesSplit,
                         testing::Values("mirrored", "snipped", "dithered", "nemo", "gaps", "mfcc"),
                         [](const auto& info) { return info.param; });

TEST(OnlineFeatures, AFrameIsReadyWithItsLastSample) {
  OnlineFeatures online(MakeFeatureExtractor({}));
  const std::vector<float> samples(1000, 0.1f);
  // Frame 0 is centred on sample 80: samples -120 ... 279.
  online.AcceptWaveform(std::span(samples).first(279));
  EXPECT_EQ(online.NumFramesReady(), 0);
  online.AcceptWaveform(std::span(samples).first(1));
  EXPECT_EQ(online.NumFramesReady(), 1);
  online.AcceptWaveform(std::span(samples).first(160));
  EXPECT_EQ(online.NumFramesReady(), 2);
  online.InputFinished();
  EXPECT_EQ(online.NumFramesReady(), (440 + 80) / 160);
  EXPECT_EQ(online.num_samples(), 440);
}

TEST(OnlineFeatures, IndicesStayWhenFramesAreDiscarded) {
  const std::vector<float> input = GoldenInput();
  const auto extractor = MakeFeatureExtractor({});
  const std::vector<float> offline = extractor->Compute(input);
  OnlineFeatures online(extractor);
  online.AcceptWaveform(input);
  online.DiscardBefore(100);
  online.DiscardBefore(50);  // already gone: nothing happens
  const auto frame = online.GetFrame(100);
  EXPECT_TRUE(std::equal(frame.begin(), frame.end(), offline.begin() + 100 * 80));
  EXPECT_EQ(online.GetFrames(100, 110).size(), 800U);
  EXPECT_THROW(online.GetFrame(99), LogicError);
  EXPECT_THROW(online.GetFrame(online.NumFramesReady()), LogicError);
  EXPECT_THROW(online.DiscardBefore(online.NumFramesReady() + 1), LogicError);
}

TEST(OnlineFeatures, TheEndIsTheEnd) {
  OnlineFeatures online(MakeFeatureExtractor({}));
  online.InputFinished();
  online.InputFinished();
  EXPECT_TRUE(online.finished());
  EXPECT_EQ(online.NumFramesReady(), 0);
  EXPECT_THROW(online.AcceptWaveform(std::vector<float>(10)), LogicError);
}

}  // namespace
}  // namespace earshot
