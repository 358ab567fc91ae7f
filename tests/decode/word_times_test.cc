#include "src/decode/word_times.h"

#include <gtest/gtest.h>

#include <cmath>

namespace earshot {
namespace {

constexpr int kRate = 16000;

// Two seconds of faint noise with tones of 0.2 s at these times.
std::vector<float> Tones(const std::vector<double>& starts_s) {
  std::vector<float> samples(2 * kRate);
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = 1e-4F * (i % 2 == 0 ? 1.0F : -1.0F);
  for (const double start_s : starts_s) {
    for (int i = 0; i < kRate / 5; ++i)
      samples[static_cast<size_t>(start_s * kRate) + static_cast<size_t>(i)] =
          0.1F * std::sin(0.3F * static_cast<float>(i));
  }
  return samples;
}

TEST(WidenWordsTest, NeighboursShareTheGap) {
  std::vector<Word> words = {{"A", 0.3, 0.4, 1}, {"B", 0.6, 0.8, 1}, {"C", 1.8, 1.9, 1}};
  WidenWords(words, 2, 0.2);
  const double expected[3][2] = {{0.1, 0.5}, {0.5, 1.0}, {1.6, 2.0}};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(words[i].start_s, expected[i][0], 1e-9);
    EXPECT_NEAR(words[i].end_s, expected[i][1], 1e-9);
  }
}

TEST(TrimWordsTest, SilenceIsTakenOffTheEnds) {
  // The second word has a pause within it; the fourth is silent all through.
  const std::vector<float> samples = Tones({0.3, 0.6, 0.9, 1.3});
  std::vector<Word> words = {{"A", 0, 0.55, 1}, {"B", 0.55, 1.2, 1}, {"C", 1.32, 1.45, 1}, {"D", 1.7, 1.9, 1}};
  TrimWords(words, samples, kRate, 0.05);
  const double expected[4][2] = {{0.25, 0.55}, {0.55, 1.15}, {1.32, 1.45}, {1.7, 1.9}};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(words[i].start_s, expected[i][0], 0.0101) << words[i].text;
    EXPECT_NEAR(words[i].end_s, expected[i][1], 0.0101) << words[i].text;
  }
}

TEST(TrimWordsTest, WithoutSamplesOrWithoutSilenceNothingChanges) {
  std::vector<Word> words = {{"A", 0, 0.5, 1}};
  TrimWords(words, {}, kRate, 0.05);
  EXPECT_EQ(words[0].end_s, 0.5);
  std::vector<float> tone(kRate);
  for (size_t i = 0; i < tone.size(); ++i) tone[i] = 0.1F * std::sin(0.3F * static_cast<float>(i));
  TrimWords(words, tone, kRate, 0.05);
  EXPECT_EQ(words[0].start_s, 0);
  EXPECT_EQ(words[0].end_s, 0.5);
}

}  // namespace
}  // namespace earshot
