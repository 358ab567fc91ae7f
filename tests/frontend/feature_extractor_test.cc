#include "src/frontend/feature_extractor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/frontend/fbank.h"
#include "src/frontend/mfcc.h"
#include "tests/frontend/golden.h"

namespace earshot {
namespace {

TEST(MakeFeatureExtractor, MakesWhatTheOptionsSay) {
  const std::vector<float> input = GoldenInput();
  FeatureOptions options;
  const auto fbank = MakeFeatureExtractor(options);
  EXPECT_EQ(fbank->dim(), 80);
  EXPECT_EQ(fbank->sample_rate(), 16000);
  EXPECT_EQ(fbank->Compute(input), Fbank(options.fbank).Compute(input));
  EXPECT_EQ(fbank->NumFrames(16000), 100);

  options.type = FeatureType::kMfcc;
  const auto mfcc = MakeFeatureExtractor(options);
  EXPECT_EQ(mfcc->dim(), 13);
  EXPECT_EQ(mfcc->Compute(input), Mfcc(options.fbank, options.mfcc).Compute(input));
}

TEST(FeatureOptions, SurviveYaml) {
  FeatureOptions options;
  options.type = FeatureType::kMfcc;
  options.fbank.num_mel_bins = 23;
  options.fbank.mel_scale = MelScale::kSlaney;
  options.fbank.preemphasis_scope = PreemphasisScope::kStream;
  options.mfcc.use_energy = true;
  const std::string yaml = DumpOptions(options);
  FeatureOptions read;
  ReadOptions("test", yaml, {}, read);
  EXPECT_EQ(DumpOptions(read), yaml);
  EXPECT_EQ(read.fbank.mel_scale, MelScale::kSlaney);
}

// Each entry breaks one option; the error names its key.
TEST(FeatureOptions, ErrorsNameTheKey) {
  const std::vector<std::pair<std::string, std::string>> kCases = {
      {"fbank.sample_rate=0", "fbank.sample_rate"},
      {"fbank.frame_length_ms=0", "fbank.frame_length_ms"},
      {"fbank.frame_length_ms=.nan", "fbank.frame_length_ms"},
      {"fbank.frame_shift_ms=-10", "fbank.frame_shift_ms"},
      {"fbank.num_mel_bins=0", "fbank.num_mel_bins"},
      {"fbank.low_freq=9000", "fbank.low_freq"},
      {"fbank.high_freq=9000", "fbank.high_freq"},
      {"fbank.sample_scale=0", "fbank.sample_scale"},
      {"fbank.preemphasis=2", "fbank.preemphasis"},
      {"fbank.window=hammming", "did you mean 'hamming'"},
      {"fbank.dither=-1", "fbank.dither"},
      {"fbank.log_offset=-1", "fbank.log_offset"},
      {"fbank.num_mel_bins=500", "too many for an FFT of 512"},
      {"mfcc.num_ceps=81", "mfcc.num_ceps"},
      {"mfcc.cepstral_lifter=-1", "mfcc.cepstral_lifter"},
      {"mfcc.energy_floor=-1", "mfcc.energy_floor"},
  };
  for (const auto& [set, message] : kCases) {
    try {
      FeatureOptions options;
      ReadOptions("test", "type: mfcc", {set}, options);
      MakeFeatureExtractor(options);
      ADD_FAILURE() << set << ": no error";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(message)) << set;
    }
  }
  FeatureOptions both;
  both.fbank.snip_edges = both.fbank.center_frames = true;
  EXPECT_THROW(both.Validate(), Error);
}

}  // namespace
}  // namespace earshot
