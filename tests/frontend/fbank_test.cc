// Fbank against the golden values, at every SIMD level of this machine.
#include "src/frontend/fbank.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "src/frontend/frame_kernel.h"
#include "src/frontend/mel_filters.h"
#include "src/frontend/window.h"
#include "tests/frontend/golden.h"
#include "tests/support/simd_guard.h"

namespace earshot {
namespace {

constexpr float kTolerance = 1e-3f;

class FbankGolden : public testing::TestWithParam<SimdLevel> {
 protected:
  ScopedSimdLevel level_{GetParam()};
  std::vector<float> input_ = GoldenInput();
};

TEST_P(FbankGolden, MirroredEdges) { ExpectNear(Fbank({}).Compute(input_), GoldenFeatures("fbank80"), 80, kTolerance); }

TEST_P(FbankGolden, SnippedEdges) {
  ExpectNear(Fbank({.snip_edges = true}).Compute(input_), GoldenFeatures("fbank80_snip"), 80, kTolerance);
}

TEST_P(FbankGolden, EightKilohertz) {
  const Fbank fbank({.sample_rate = 8000, .num_mel_bins = 40});
  ExpectNear(fbank.Compute(std::span(input_).first(16000)), GoldenFeatures("fbank40_8k"), 40, kTolerance);
}

TEST_P(FbankGolden, VocalTractLength) {
  const Fbank fbank({.num_mel_bins = 40});
  const auto speech = std::span(input_).first(16000);
  ExpectNear(fbank.Compute(speech, 0.9f), GoldenFeatures("fbank40_vtln_0.9"), 40, kTolerance);
  ExpectNear(fbank.Compute(speech, 1.1f), GoldenFeatures("fbank40_vtln_1.1"), 40, kTolerance);
}

TEST_P(FbankGolden, Nemo) {
  const Fbank fbank({.low_freq = 0,
                     .sample_scale = 1,
                     .preemphasis_scope = PreemphasisScope::kStream,
                     .window = "hann",
                     .remove_dc_offset = false,
                     .center_frames = true,
                     .mel_scale = MelScale::kSlaney,
                     .log_offset = 0x1p-24f});
  ExpectNear(fbank.Compute(std::span(input_).first(16000)), GoldenFeatures("nemo80"), 80, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Levels, FbankGolden, testing::ValuesIn(SupportedSimdLevels(kHighestFrameLevel)),
                         [](const auto& info) { return std::string(Name(info.param)); });

TEST(Fbank, DigitalSilenceIsTheFloor) {
  const std::vector<float> features = Fbank({}).Compute(std::vector<float>(16000, 0.0f));
  ASSERT_EQ(features.size(), 100U * 80U);
  for (const float x : features) ASSERT_NEAR(x, std::log(0x1p-23), 1e-5);
}

TEST(Fbank, EmptyAndShortWaves) {
  const Fbank mirrored({}), snipped({.snip_edges = true});
  EXPECT_TRUE(mirrored.Compute({}).empty());
  EXPECT_TRUE(mirrored.Compute(std::vector<float>(79, 0.1f)).empty());
  EXPECT_TRUE(snipped.Compute(std::vector<float>(399, 0.1f)).empty());
  EXPECT_EQ(snipped.Compute(std::vector<float>(400, 0.1f)).size(), 80U);
  // Half a shift is a frame, mirrored five times over.
  const std::vector<float> frame = mirrored.Compute(std::vector<float>(80, 0.1f));
  ASSERT_EQ(frame.size(), 80U);
  for (const float x : frame) EXPECT_TRUE(std::isfinite(x));
}

TEST(Fbank, AFrameDoesNotDependOnItsNeighbours) {
  const std::vector<float> input = GoldenInput();
  const Fbank fbank({.snip_edges = true});
  const std::vector<float> all = fbank.Compute(input);
  for (const size_t t : {0U, 5U, 17U, 100U}) {
    const std::vector<float> one = fbank.Compute(std::span(input).subspan(t * 160, 400));
    ASSERT_EQ(one, std::vector<float>(all.begin() + t * 80, all.begin() + (t + 1) * 80)) << "frame " << t;
  }
}

TEST(Fbank, DitherRepeatsAndHasItsDeviation) {
  const std::vector<float> silence(160000, 0.0f);
  const FbankOptions options{.preemphasis = 0, .dither = 3};
  const std::vector<float> features = Fbank(options).Compute(silence);
  EXPECT_EQ(features, Fbank(options).Compute(silence));
  // White noise has the power deviation^2 x (sum of squares of the window) at every frequency.
  double window_energy = 0;
  for (const float weight : WindowFunction(options.window, 400)) window_energy += weight * weight;
  const MelFilters filters = MakeMelFilters(options, 512, 1.0f);
  for (const size_t m : {30U, 60U, 79U}) {
    double weights = 0, energy = 0;
    for (int i = filters.offsets[m]; i < filters.offsets[m + 1]; ++i)
      weights += filters.weights[static_cast<size_t>(i)];
    for (size_t t = 0; t < 1000; ++t) energy += std::exp(features[t * 80 + m]) / 1000;
    EXPECT_NEAR(energy / (9 * window_energy * weights), 1.0, 0.1) << "filter " << m;
  }
}

TEST(Fbank, IsSafeToShareAmongThreads) {
  const std::vector<float> input = GoldenInput();
  const Fbank fbank({});
  const std::vector<float> expected = fbank.Compute(input);
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) threads.emplace_back([&] { result = fbank.Compute(input); });
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST(Fbank, OtherFrameSizesAndWidths) {
  // A frame that no vector width divides, of a power of two, and filters that leave a rest of lanes.
  std::vector<float> input = GoldenInput();
  for (const float length_ms : {20.0f, 25.3f, 32.0f}) {
    for (const int num_bins : {23, 41}) {
      FbankOptions options{.frame_length_ms = length_ms, .num_mel_bins = num_bins};
      std::vector<std::vector<float>> features;
      for (const SimdLevel level : SupportedSimdLevels(kHighestFrameLevel)) {
        const ScopedSimdLevel scope(level);
        features.push_back(Fbank(options).Compute(input));
      }
      for (const auto& f : features) ExpectNear(f, features.front(), num_bins, kTolerance);
    }
  }
}

}  // namespace
}  // namespace earshot
