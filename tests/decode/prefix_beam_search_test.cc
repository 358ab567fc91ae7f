// Prefix beam search against the sum over every path there is, and what it may call stable.
#include "src/decode/prefix_beam_search.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "src/base/error.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_asr_model.h"

namespace earshot {
namespace {

using torch::Tensor;

class PrefixBeamSearchTest : public testing::Test {
 protected:
  TempFolder folder_;
  Tokenizer tokenizer_ = Tokenizer::FromBytes(LetterTokenizer(folder_), "letters");
  const int vocab_ = tokenizer_.Size();

  Tensor RandomFrames(int64_t frames, double sharpness, uint64_t seed) {
    torch::manual_seed(seed);
    return torch::log_softmax(torch::randn({frames, vocab_}) * sharpness, 1);
  }
};

std::string Text(const std::vector<Word>& words) {
  std::string text;
  for (const Word& word : words) text += (text.empty() ? "" : " ") + word.text;
  return text;
}

TEST_F(PrefixBeamSearchTest, FindsTheMostLikelyTextOfAllPaths) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const int64_t frames = 4;
    const Tensor log_probs = RandomFrames(frames, 2.0, seed);
    std::map<std::vector<int>, double> sums;
    std::vector<int> path(static_cast<size_t>(frames), 0);
    while (true) {
      double log_prob = 0;
      std::vector<int> tokens;
      int last = 0;
      for (int64_t t = 0; t < frames; ++t) {
        const int token = path[static_cast<size_t>(t)];
        log_prob += log_probs[t][token].item<double>();
        if (token != last && token != 0) tokens.push_back(token);
        last = token;
      }
      sums[tokens] += std::exp(log_prob);
      size_t digit = 0;
      while (digit < path.size() && ++path[digit] == vocab_) path[digit++] = 0;
      if (digit == path.size()) break;
    }
    const auto best =
        std::max_element(sums.begin(), sums.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    PrefixBeamSearch search(tokenizer_, 0.04, {.beam_size = 1000, .tokens_per_frame = vocab_});
    search.Accept(log_probs);
    EXPECT_NEAR(search.best_score(), std::log(best->second), 1e-5) << "seed " << seed;
    // A word boundary at the end makes no word.
    std::string text = tokenizer_.Decode(best->first);
    text.erase(text.find_last_not_of(' ') + 1);
    EXPECT_EQ(Text(search.words()), text) << "seed " << seed;
  }
}

TEST_F(PrefixBeamSearchTest, StableWordsNeverChange) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const Tensor log_probs = RandomFrames(200, 6.0, seed);
    for (const int beam : {1, 4, 16}) {
      const auto decoder = MakeStreamDecoder(tokenizer_, 0.04, {.beam_size = beam});
      std::vector<std::string> stable;
      for (int64_t t = 0; t < log_probs.size(0); t += 3) {
        decoder->Accept(log_probs.slice(0, t, t + 3));
        ASSERT_LE(decoder->stable_words(), decoder->words().size());
        ASSERT_GE(decoder->stable_words(), stable.size()) << "beam " << beam << " seed " << seed;
        for (size_t i = 0; i < stable.size(); ++i) ASSERT_EQ(decoder->words()[i].text, stable[i]);
        while (stable.size() < decoder->stable_words()) stable.push_back(decoder->words()[stable.size()].text);
      }
      if (beam == 1) EXPECT_GT(stable.size(), 3U) << "beam " << beam << " seed " << seed;
      const std::vector<Word> words = decoder->Finish();
      ASSERT_GE(words.size(), stable.size());
      for (size_t i = 0; i < stable.size(); ++i) EXPECT_EQ(words[i].text, stable[i]);
    }
  }
}

TEST_F(PrefixBeamSearchTest, DoesNotDependOnHowTheFramesAreCutAndGoesOnBehindFinish) {
  const Tensor log_probs = RandomFrames(60, 3.0, 3);
  for (const int beam : {1, 4}) {
    const auto whole = MakeStreamDecoder(tokenizer_, 0.04, {.beam_size = beam});
    whole->Accept(log_probs);
    const auto pieces = MakeStreamDecoder(tokenizer_, 0.04, {.beam_size = beam});
    for (int64_t t = 0; t < 60; ++t) pieces->Accept(log_probs.slice(0, t, t + 1));
    ASSERT_EQ(Text(whole->words()), Text(pieces->words()));
    for (size_t i = 0; i < whole->words().size(); ++i) {
      EXPECT_EQ(whole->words()[i].start_s, pieces->words()[i].start_s);
      EXPECT_EQ(whole->words()[i].end_s, pieces->words()[i].end_s);
      EXPECT_NEAR(whole->words()[i].confidence, pieces->words()[i].confidence, 1e-6);
    }
    const std::string first = Text(pieces->Finish());
    EXPECT_TRUE(pieces->words().empty());
    pieces->Accept(log_probs);
    EXPECT_EQ(Text(pieces->words()), first);
    EXPECT_GE(pieces->words().front().start_s, 60 * 0.04) << "times go on";
  }
}

TEST_F(PrefixBeamSearchTest, WhatIsClearBecomesStable) {
  const std::vector<int> tokens = tokenizer_.Encode("ab cd e ab");
  Tensor log_probs = torch::full({4 * static_cast<int64_t>(tokens.size()), vocab_}, -14.0);
  for (int64_t t = 0; t < log_probs.size(0); ++t)
    log_probs[t][t % 4 == 0 ? tokens[static_cast<size_t>(t / 4)] : 0] = -0.05;
  PrefixBeamSearch search(tokenizer_, 0.04, {.beam_size = 4});
  search.Accept(log_probs);
  EXPECT_EQ(Text(search.words()), "ab cd e ab");
  EXPECT_GE(search.stable_words(), 2U);
}

TEST_F(PrefixBeamSearchTest, CountsTheBlanksAtTheEnd) {
  Tensor log_probs = torch::full({6, vocab_}, -10.0);
  for (const int64_t t : {0, 1, 3, 4, 5}) log_probs[t][0] = -0.01;
  log_probs[2][5] = -0.01;
  for (const int beam : {1, 4}) {
    const auto decoder = MakeStreamDecoder(tokenizer_, 0.04, {.beam_size = beam});
    decoder->Accept(log_probs.slice(0, 0, 2));
    EXPECT_EQ(decoder->trailing_blanks(), 2);
    decoder->Accept(log_probs.slice(0, 2, 6));
    EXPECT_EQ(decoder->trailing_blanks(), 3);
  }
}

TEST_F(PrefixBeamSearchTest, RejectsABeamOfNothing) {
  EXPECT_THROW(MakeStreamDecoder(tokenizer_, 0.04, {.beam_size = 0}), Error);
  EXPECT_THROW(MakeStreamDecoder(tokenizer_, 0.04, {.beam_size = 4, .tokens_per_frame = 1}), Error);
}

}  // namespace
}  // namespace earshot
