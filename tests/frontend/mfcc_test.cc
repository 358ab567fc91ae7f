#include "src/frontend/mfcc.h"

#include <gtest/gtest.h>

#include "src/frontend/fbank.h"
#include "src/frontend/frame_kernel.h"
#include "tests/frontend/golden.h"
#include "tests/support/simd_guard.h"

namespace earshot {
namespace {

constexpr float kTolerance = 1e-3f;
const FbankOptions kMel{.num_mel_bins = 23};

class MfccGolden : public testing::TestWithParam<SimdLevel> {
 protected:
  ScopedSimdLevel level_{GetParam()};
};

TEST_P(MfccGolden, Cepstra) {
  ExpectNear(Mfcc(kMel, {}).Compute(GoldenInput()), GoldenFeatures("mfcc13"), 13, kTolerance);
}

TEST_P(MfccGolden, WithEnergy) {
  ExpectNear(Mfcc(kMel, {.use_energy = true}).Compute(GoldenInput()), GoldenFeatures("mfcc13_energy"), 13, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Levels, MfccGolden, testing::ValuesIn(SupportedSimdLevels(kHighestFrameLevel)),
                         [](const auto& info) { return std::string(Name(info.param)); });

TEST(Mfcc, EnergyFloor) {
  const std::vector<float> features =
      Mfcc(kMel, {.use_energy = true, .energy_floor = 100}).Compute(std::vector<float>(1600, 0.0f));
  ASSERT_EQ(features.size(), 130U);
  for (size_t t = 0; t < 10; ++t) EXPECT_NEAR(features[t * 13], 4.605170f, 1e-5);
}

TEST(Mfcc, AllCepstraKeepTheNormOfTheLogEnergies) {
  // The DCT is orthonormal: with as many cepstra as filters and no lifter, lengths stay.
  const std::vector<float> input = GoldenInput();
  const std::vector<float> mel = Fbank(kMel).Compute(input);
  const std::vector<float> cepstra = Mfcc(kMel, {.num_ceps = 23, .cepstral_lifter = 0}).Compute(input);
  ASSERT_EQ(mel.size(), cepstra.size());
  for (size_t t = 0; t < mel.size() / 23; ++t) {
    double before = 0, after = 0;
    for (size_t c = 0; c < 23; ++c) {
      before += mel[t * 23 + c] * mel[t * 23 + c];
      after += cepstra[t * 23 + c] * cepstra[t * 23 + c];
    }
    ASSERT_NEAR(after / before, 1, 1e-5) << "frame " << t;
  }
}

TEST(Mfcc, MoreCepstraThanFiltersIsAnError) { EXPECT_THROW(Mfcc(kMel, {.num_ceps = 24}), Error); }

}  // namespace
}  // namespace earshot
