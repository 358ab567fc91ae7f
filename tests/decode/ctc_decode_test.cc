// Greedy decoding and forced alignment by CTC, against every path there is.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <functional>
#include <set>

#include "src/base/random.h"
#include "src/decode/ctc_align.h"
#include "src/decode/ctc_greedy.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_match.h"
#include "tests/support/tiny_asr_model.h"

namespace earshot {
namespace {

using torch::Tensor;

// Repeats merged, blanks (0) left out.
std::vector<int> Collapse(const std::vector<int>& path) {
  std::vector<int> tokens;
  int last = 0;
  for (const int token : path) {
    if (token != last && token != 0) tokens.push_back(token);
    last = token;
  }
  return tokens;
}

// (T', V) log probabilities in which the path's token has probability `p` in each frame.
Tensor Frames(const std::vector<int>& path, int vocab, double p = 0.9) {
  Tensor probabilities = torch::full({static_cast<int64_t>(path.size()), vocab}, (1 - p) / (vocab - 1));
  for (size_t t = 0; t < path.size(); ++t) probabilities[static_cast<int64_t>(t)][path[t]] = p;
  return probabilities.log();
}

class CtcDecodeTest : public testing::Test {
 protected:
  TempFolder folder_;
  Tokenizer tokenizer_ = Tokenizer::FromBytes(LetterTokenizer(folder_), "letters");
  // "ab cd": tokens of the words, and where the second begins.
  std::vector<int> tokens_ = tokenizer_.Encode("ab cd");
};

TEST_F(CtcDecodeTest, MergesRepeatsAndLeavesBlanksOut) {
  const std::vector<int> once = tokenizer_.Encode("e");
  const int e = once.back();
  CtcGreedyDecoder decoder(tokenizer_, 0.04);
  decoder.Accept(Frames({0, e, e, 0, e, 0, 0, e, e, e}, tokenizer_.Size()));
  ASSERT_EQ(decoder.tokens().size(), 3);
  EXPECT_EQ(decoder.tokens()[0].start_frame, 1);
  EXPECT_EQ(decoder.tokens()[0].end_frame, 3);
  EXPECT_EQ(decoder.tokens()[1].start_frame, 4);
  EXPECT_EQ(decoder.tokens()[1].end_frame, 5);
  EXPECT_EQ(decoder.tokens()[2].start_frame, 7);
  EXPECT_EQ(decoder.tokens()[2].end_frame, 10);
  for (const DecodedToken& t : decoder.tokens()) EXPECT_NEAR(t.confidence, 0.9, 1e-5);
}

TEST_F(CtcDecodeTest, WordsAndTheirTimes) {
  const int size = tokenizer_.Size();
  // Each token for two frames, a blank after each: 3 u ... 3 u + 1.
  std::vector<int> path;
  for (const int token : tokens_) path.insert(path.end(), {token, token, 0});
  size_t second = 1;
  while (!tokenizer_.StartsWord(tokens_[second])) ++second;
  CtcGreedyDecoder decoder(tokenizer_, 0.04);
  decoder.Accept(Frames(path, size, 0.8));
  const std::vector<Word> first = decoder.TakeWords(false);
  ASSERT_EQ(first.size(), 1);  // the second may still grow
  EXPECT_EQ(first[0].text, "ab");
  EXPECT_NEAR(first[0].start_s, 0, 1e-9);
  EXPECT_NEAR(first[0].end_s, 0.04 * static_cast<double>(3 * (second - 1) + 2), 1e-9);
  EXPECT_NEAR(first[0].confidence, 0.8, 1e-5);
  EXPECT_TRUE(decoder.TakeWords(false).empty());
  const std::vector<Word> rest = decoder.TakeWords(true);
  ASSERT_EQ(rest.size(), 1);
  EXPECT_EQ(rest[0].text, "cd");
  EXPECT_NEAR(rest[0].start_s, 0.04 * static_cast<double>(3 * second), 1e-9);
  EXPECT_NEAR(rest[0].end_s, 0.04 * static_cast<double>(3 * (tokens_.size() - 1) + 2), 1e-9);
  EXPECT_TRUE(decoder.TakeWords(true).empty());
  EXPECT_EQ(CtcGreedyText(Frames(path, size), tokenizer_), "ab cd");
  EXPECT_EQ(CtcGreedyText(Frames({0, 0, 0}, size), tokenizer_), "");
  EXPECT_EQ(CtcGreedyText(torch::zeros({0, size}), tokenizer_), "");
}

TEST_F(CtcDecodeTest, PiecesGiveWhatTheWholeGives) {
  Random random(1);
  torch::manual_seed(1);
  for (int draw = 0; draw < 50; ++draw) {
    const int64_t frames = random.Index(60);
    // Sharpened and with repeats, so that tokens cross the pieces' ends.
    const Tensor log_probs = torch::log_softmax(
        3 * torch::randn({(frames + 2) / 3, tokenizer_.Size()}).repeat_interleave(3, 0).narrow(0, 0, frames), 1);
    CtcGreedyDecoder whole(tokenizer_, 0.04), parts(tokenizer_, 0.04);
    whole.Accept(log_probs);
    const std::vector<Word> expected = whole.TakeWords(true);
    std::vector<Word> actual;
    for (int64_t begin = 0; begin < frames;) {
      const int64_t size = std::min(random.Index(6), frames - begin);
      parts.Accept(log_probs.narrow(0, begin, size));
      for (Word& word : parts.TakeWords(false)) actual.push_back(std::move(word));
      begin += size;
    }
    for (Word& word : parts.TakeWords(true)) actual.push_back(std::move(word));
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_EQ(actual[i].text, expected[i].text);
      EXPECT_NEAR(actual[i].start_s, expected[i].start_s, 1e-9);
      EXPECT_NEAR(actual[i].end_s, expected[i].end_s, 1e-9);
      EXPECT_NEAR(actual[i].confidence, expected[i].confidence, 1e-5);
    }
    // And the tokens are those of the definition.
    std::vector<int> path;
    for (int64_t t = 0; t < frames; ++t) path.push_back(static_cast<int>(log_probs[t].argmax().item<int64_t>()));
    std::vector<int> merged;
    CtcGreedyDecoder again(tokenizer_, 0.04);
    again.Accept(log_probs);
    for (const DecodedToken& t : again.tokens()) merged.push_back(t.token);
    EXPECT_EQ(merged, Collapse(path));
  }
}

// All V^T paths of a tiny lattice.
void ForEachPath(int64_t frames, int vocab, const std::function<void(const std::vector<int>&)>& visit) {
  std::vector<int> path(static_cast<size_t>(frames), 0);
  while (true) {
    visit(path);
    size_t t = 0;
    while (t < path.size() && ++path[t] == vocab) path[t++] = 0;
    if (t == path.size()) return;
  }
}

TEST(CtcAlignTest, IsTheBestOfAllPaths) {
  torch::manual_seed(2);
  int possible = 0;
  for (const std::vector<int>& tokens :
       std::vector<std::vector<int>>{{1}, {1, 2}, {1, 1}, {2, 1, 2}, {2, 2, 1}, {1, 1, 1}}) {
    for (int64_t frames = 1; frames <= 6; ++frames) {
      const Tensor log_probs = torch::log_softmax(2 * torch::randn({frames, 3}), 1);
      double best = -INFINITY;
      std::vector<int> best_path;
      ForEachPath(frames, 3, [&](const std::vector<int>& path) {
        if (Collapse(path) != tokens) return;
        double score = 0;
        for (size_t t = 0; t < path.size(); ++t) score += log_probs[static_cast<int64_t>(t)][path[t]].item<double>();
        if (score > best) best = score, best_path = path;
      });
      const auto aligned = AlignCtc(log_probs, tokens, 0);
      ASSERT_EQ(aligned.has_value(), !best_path.empty()) << frames << " frames";
      if (!aligned) continue;
      ++possible;
      ASSERT_EQ(aligned->size(), tokens.size());
      std::vector<int> path(static_cast<size_t>(frames), 0);
      for (size_t u = 0; u < tokens.size(); ++u) {
        const AlignedToken& token = (*aligned)[u];
        EXPECT_EQ(token.token, tokens[u]);
        double confidence = 0;
        for (int64_t t = token.start_frame; t < token.end_frame; ++t) {
          path[static_cast<size_t>(t)] = token.token;
          confidence += std::exp(log_probs[t][token.token].item<double>());
        }
        EXPECT_NEAR(token.confidence, confidence / static_cast<double>(token.end_frame - token.start_frame), 1e-5);
      }
      EXPECT_EQ(path, best_path);
    }
  }
  EXPECT_EQ(possible, 6 + 5 + 4 + 4 + 3 + 2);
}

TEST(CtcAlignTest, WhatCannotBeIsNoAlignment) {
  const Tensor log_probs = torch::log_softmax(torch::zeros({3, 4}), 1);
  EXPECT_FALSE(AlignCtc(log_probs, {1, 1, 1}, 0));     // needs two blanks
  EXPECT_FALSE(AlignCtc(log_probs, {1, 2, 3, 1}, 0));  // more tokens than frames
  EXPECT_FALSE(AlignCtc(torch::zeros({0, 4}), {1}, 0));
  EXPECT_TRUE(AlignCtc(log_probs, {1, 2, 3}, 0));
  const auto nothing = AlignCtc(log_probs, {}, 0);
  ASSERT_TRUE(nothing);
  EXPECT_TRUE(nothing->empty());
  // A token of probability zero.
  Tensor never = log_probs.clone();
  never.select(1, 2).fill_(-INFINITY);
  EXPECT_FALSE(AlignCtc(never, {1, 2}, 0));
}

TEST_F(CtcDecodeTest, WordsOfAnAlignment) {
  std::vector<int> path = {0, 0};
  for (const int token : tokens_) path.insert(path.end(), {token, 0});
  const auto aligned = AlignCtc(Frames(path, tokenizer_.Size()), tokens_, 0);
  ASSERT_TRUE(aligned);
  const std::vector<Word> words = AlignedWords(*aligned, tokenizer_, 0.04);
  ASSERT_EQ(words.size(), 2);
  EXPECT_EQ(words[0].text, "ab");
  EXPECT_EQ(words[1].text, "cd");
  EXPECT_NEAR(words[0].start_s, 0.08, 1e-9);
  EXPECT_NEAR(words[1].end_s, 0.04 * static_cast<double>(path.size() - 1), 1e-9);
  EXPECT_LT(words[0].end_s, words[1].start_s);
  EXPECT_NEAR(words[0].confidence, 0.9, 1e-5);
}

}  // namespace
}  // namespace earshot
