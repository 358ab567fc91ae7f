#include "src/decode/speech_segments.h"

#include <gtest/gtest.h>

#include <numeric>

#include "src/base/error.h"
#include "src/base/random.h"

namespace earshot {
namespace {

std::vector<float> Runs(const std::vector<std::pair<int, float>>& runs) {
  std::vector<float> gate;
  for (const auto& [frames, value] : runs) gate.insert(gate.end(), static_cast<size_t>(frames), value);
  return gate;
}

std::vector<SpeechSegment> Segments(const std::vector<float>& gate, const SpeechOptions& options = {}) {
  SpeechSegmenter segmenter(options, 0.04);
  segmenter.Accept(gate);
  return segmenter.Take(true);
}

TEST(SpeechSegmenter, FindsSpeechAndBridgesShortSilence) {
  // Speech of 1 s with a rest of 0.2 s in it, a pause of 1 s, a click of 0.04 s, speech to the end.
  const auto segments =
      Segments(Runs({{10, 0.1f}, {10, 0.9f}, {5, 0.1f}, {10, 0.8f}, {25, 0.1f}, {1, 0.9f}, {20, 0.1f}, {20, 0.9f}}));
  ASSERT_EQ(segments.size(), 2U);
  EXPECT_NEAR(segments[0].start_s, 0.4 - 0.05, 1e-9);
  EXPECT_NEAR(segments[0].end_s, 1.4 + 0.05, 1e-9);
  EXPECT_NEAR(segments[1].start_s, 81 * 0.04 - 0.05, 1e-9);
  EXPECT_NEAR(segments[1].end_s, 101 * 0.04, 1e-9) << "no longer than the recording";
}

TEST(SpeechSegmenter, AGateBetweenTheThresholdsKeepsWhatItWas) {
  EXPECT_TRUE(Segments(Runs({{50, 0.4f}})).empty());
  const auto segments = Segments(Runs({{5, 0.9f}, {50, 0.4f}, {20, 0.1f}}));
  ASSERT_EQ(segments.size(), 1U);
  EXPECT_NEAR(segments[0].end_s, 55 * 0.04 + 0.05, 1e-9);
}

TEST(SpeechSegmenter, DoesNotDependOnTheSplitAndNeverOverlaps) {
  Random random(5);
  std::vector<float> gate;
  for (int i = 0; i < 3000; ++i)
    gate.push_back(static_cast<float>(random.Chance(0.1) ? random.Uniform() : gate.empty() ? 0.1 : gate.back()));
  const auto whole = Segments(gate);
  ASSERT_GT(whole.size(), 10U);
  SpeechSegmenter segmenter({}, 0.04);
  std::vector<SpeechSegment> pieces;
  for (size_t at = 0; at < gate.size(); at += 7) {
    segmenter.Accept(std::span(gate).subspan(at, std::min<size_t>(7, gate.size() - at)));
    for (const SpeechSegment& s : segmenter.Take(at + 7 >= gate.size())) pieces.push_back(s);
  }
  ASSERT_EQ(pieces.size(), whole.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(pieces[i].start_s, whole[i].start_s);
    EXPECT_EQ(pieces[i].end_s, whole[i].end_s);
    EXPECT_LT(whole[i].start_s, whole[i].end_s);
    if (i > 0) EXPECT_GE(whole[i].start_s, whole[i - 1].end_s);
  }
}

TEST(SpeechSegmenter, RefusesThresholdsInTheWrongOrder) {
  EXPECT_THROW(Segments({}, {.begin_threshold = 0.3, .end_threshold = 0.5}), Error);
  EXPECT_THROW(Segments({}, {.min_silence_s = -1}), Error);
}

}  // namespace
}  // namespace earshot
