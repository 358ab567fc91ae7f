#include "src/data/splice.h"

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "src/text/wer.h"
#include "tests/data/data_test_util.h"

namespace earshot {
namespace {

using testing::HasSubstr;

constexpr int kRate = 16000;

// A recording of words of 0.4 s with 0.2 s of silence round each: word w of utterance u is constant 0.1 (u + 1) high
// with alternating sign, so that every sample says whose it is.
std::vector<float> Recording(int utterance, int num_words) {
  std::vector<float> samples(static_cast<size_t>(kRate * (0.2 + 0.6 * num_words)), 0.0F);
  for (int w = 0; w < num_words; ++w) {
    const auto begin = static_cast<size_t>(kRate * (0.2 + 0.6 * w));
    for (size_t i = 0; i < static_cast<size_t>(0.4 * kRate); ++i)
      samples[begin + i] = (i % 2 == 0 ? 0.1F : -0.1F) * static_cast<float>(utterance + 1);
  }
  return samples;
}

class SpliceTest : public testing::Test {
 protected:
  SpliceTest() {
    utterances_ = {{"u0", "", 0, 1.4, "A B", "ann", "train"},
                   {"u1", "", 0, 2.0, "C D E", "ann", "train"},
                   {"u2", "", 0, 1.4, "B A", "bob", "train"},
                   {"u3", "", 0, 0.8, "F", "", "train"}};
    std::string lines;
    for (const Utterance& utterance : utterances_) {
      if (utterance.id == "u3") continue;
      lines += fmt::format(R"({{"id": "{}", "words": [)", utterance.id);
      const std::vector<std::string> words = SplitWords(utterance.text);
      for (size_t w = 0; w < words.size(); ++w) {
        // Late by 30 ms, as CTC's spikes are.
        const double start_s = 0.23 + 0.6 * static_cast<double>(w);
        lines += fmt::format(R"({}{{"word": "{}", "start": {}, "end": {}}})", w > 0 ? ", " : "", words[w], start_s,
                             start_s + 0.35);
      }
      lines += "]}\n";
    }
    lines += R"({"id": "of-the-dev-set", "words": [{"word": "X", "start": 0, "end": 1}]})" + std::string("\n");
    options_.alignments = folder_.Write("words.jsonl", lines);
    options_.match_level = false;
  }

  Splicer Make() const {
    return Splicer(options_, utterances_, kRate, [](const Utterance& utterance) {
      return Recording(utterance.id[1] - '0', static_cast<int>(SplitWords(utterance.text).size()));
    });
  }

  std::string LoadError(const std::string& lines) {
    options_.alignments = folder_.Write("bad.jsonl", lines);
    return ErrorOf([&] { Make(); });
  }

  TestFolder folder_;
  std::vector<Utterance> utterances_;
  SpliceOptions options_;
};

// Samples that are loud, by the utterance they come from.
std::map<int, int64_t> LoudSamples(const std::vector<float>& samples) {
  std::map<int, int64_t> loud;
  for (const float x : samples) {
    const auto level = static_cast<int>(std::lround(std::abs(x) * 10));
    if (level > 0) ++loud[level - 1];
  }
  return loud;
}

TEST_F(SpliceTest, WordsAreCutInTheSilenceRoundThem) {
  options_.min_words = options_.max_words = 1;
  const Splicer splicer = Make();
  std::set<std::string> texts;
  size_t shortest = kRate, longest = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    const auto spliced = splicer.DrawWords(utterances_[0], random);
    ASSERT_TRUE(spliced.has_value());
    texts.insert(spliced->text);
    // The whole word, although it was aligned 30 ms late, and nothing of its neighbours.
    const auto loud = LoudSamples(spliced->samples);
    ASSERT_EQ(loud.size(), 1U) << spliced->text;
    EXPECT_EQ(loud.begin()->second, static_cast<int64_t>(0.4 * kRate)) << spliced->text;
    shortest = std::min(shortest, spliced->samples.size());
    longest = std::max(longest, spliced->samples.size());
  }
  // More or less of the 0.2 s of silence on either side.
  EXPECT_LT(shortest, static_cast<size_t>(0.52 * kRate));
  EXPECT_GT(longest, static_cast<size_t>(0.65 * kRate));
  EXPECT_LE(longest, static_cast<size_t>(0.8 * kRate));
  EXPECT_EQ(texts, (std::set<std::string>{"A", "B", "C", "D", "E"}));
}

TEST_F(SpliceTest, TextAndAudioBelongTogether) {
  options_.min_words = 2;
  options_.max_words = 5;
  options_.max_span_words = 3;
  options_.same_speaker_probability = 0;
  const Splicer splicer = Make();
  std::set<size_t> lengths;
  bool joined_speakers = false;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const auto spliced = splicer.DrawWords(utterances_[0], random);
    ASSERT_TRUE(spliced.has_value());
    const std::vector<std::string> words = SplitWords(spliced->text);
    lengths.insert(words.size());
    int64_t loud = 0;
    int64_t from_u1 = 0;
    for (const auto& [utterance, count] : LoudSamples(spliced->samples)) {
      loud += count;
      if (utterance == 1) from_u1 += count;
    }
    EXPECT_NEAR(static_cast<double>(loud), 0.4 * kRate * static_cast<double>(words.size()), 300.0 * 5);
    const auto spoken_by_u1 = std::count_if(words.begin(), words.end(), [](const auto& w) { return w >= "C"; });
    EXPECT_NEAR(static_cast<double>(from_u1), 0.4 * kRate * static_cast<double>(spoken_by_u1), 300.0 * 5);
    const auto of_all = LoudSamples(spliced->samples);
    joined_speakers = joined_speakers || (of_all.count(2) > 0 && of_all.count(1) > 0);
  }
  EXPECT_EQ(lengths, (std::set<size_t>{2, 3, 4, 5}));
  EXPECT_TRUE(joined_speakers);
}

// Where the word is said to be, it is loud; before and behind it, all is silent.
TEST_F(SpliceTest, TimesOfTheWordsFollowThem) {
  options_.min_words = options_.max_words = 4;
  const Splicer splicer = Make();
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const auto spliced = splicer.DrawWords(utterances_[0], random);
    ASSERT_EQ(spliced->words.size(), 4U);
    std::string text;
    for (const AlignedWord& word : spliced->words) {
      text += (text.empty() ? "" : " ") + word.text;
      // Aligned 30 ms late and 20 ms too short, as in the recordings.
      EXPECT_NEAR(word.end_s - word.start_s, 0.35, 1e-6);
      const auto loud_at = [&](double s) { return spliced->samples[static_cast<size_t>(std::lround(s * kRate))] != 0; };
      EXPECT_TRUE(loud_at(word.start_s) && loud_at(word.end_s));
      EXPECT_FALSE(loud_at(word.start_s - 0.032) || loud_at(word.end_s + 0.022));
    }
    EXPECT_EQ(text, spliced->text);
  }
  EXPECT_EQ(splicer.Words("u1")->size(), 3U);
  EXPECT_EQ(splicer.Words("u3"), nullptr);
}

TEST_F(SpliceTest, WithoutANumberOfWordsItIsThatOfTheUtterance) {
  const Splicer splicer = Make();
  std::set<size_t> lengths;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    lengths.insert(SplitWords(splicer.DrawWords(utterances_[1], random)->text).size());
  }
  EXPECT_EQ(lengths, (std::set<size_t>{2, 3, 4}));
}

TEST_F(SpliceTest, SameSpeaker) {
  options_.same_speaker_probability = 1;
  options_.min_words = options_.max_words = 4;
  const Splicer splicer = Make();
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const auto loud = LoudSamples(splicer.DrawWords(utterances_[2], random)->samples);
    ASSERT_EQ(loud.size(), 1U);
    EXPECT_EQ(loud.begin()->first, 2);
  }
}

TEST_F(SpliceTest, RareWordsArePreferredAsMuchAsAsked) {
  options_.min_words = options_.max_words = 1;
  options_.same_speaker_probability = 0;
  // A and B are spoken twice, C, D and E once.
  const auto share_of_c = [&] {
    const Splicer splicer = Make();
    int drawn = 0;
    for (uint64_t seed = 0; seed < 2000; ++seed) {
      Random random(seed);
      drawn += splicer.DrawWords(utterances_[0], random)->text == "C" ? 1 : 0;
    }
    return drawn / 2000.0;
  };
  EXPECT_NEAR(share_of_c(), 1.0 / 7, 0.03);
  options_.balance = 1;
  EXPECT_NEAR(share_of_c(), 1.0 / 5, 0.03);
}

TEST_F(SpliceTest, TranscriptKeepsTheTextAndChangesTheVoices) {
  options_.transcript_share = 1;
  options_.same_speaker_probability = 0;
  const Splicer splicer = Make();
  std::set<std::set<int>> voices;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const auto spliced = splicer.DrawWords(utterances_[0], random);
    ASSERT_TRUE(spliced.has_value());
    EXPECT_EQ(spliced->text, "A B");
    std::set<int> heard;
    for (const auto& [utterance, count] : LoudSamples(spliced->samples)) heard.insert(utterance);
    voices.insert(heard);
  }
  EXPECT_EQ(voices, (std::set<std::set<int>>{{0}, {2}, {0, 2}}));
  // A word that is said nowhere with a known place.
  Random random(0);
  EXPECT_FALSE(splicer.DrawWords(utterances_[3], random).has_value());
}

TEST_F(SpliceTest, PiecesFadeIntoEachOther) {
  // Two constant recordings without silence: the sum of a linear cross-fade lies between them everywhere.
  const std::vector<Utterance> other = {utterances_[1]};
  const Splicer splicer(
      {.crossfade_ms = 10, .concat_max_utterances = 2, .match_level = false}, other, kRate,
      [](const Utterance& utterance) { return std::vector<float>(1600, utterance.id == "u0" ? 0.2F : 0.4F); });
  Random random(0);
  const auto spliced = splicer.DrawUtterances(utterances_[0], random);
  ASSERT_TRUE(spliced.has_value());
  ASSERT_EQ(spliced->samples.size(), 3200U - 160U);
  for (size_t i = 1; i < spliced->samples.size(); ++i) {
    const float step = spliced->samples[i] - spliced->samples[i - 1];
    ASSERT_GE(step, -1e-6F);
    ASSERT_LE(step, 0.2F / 160 + 1e-6F);
  }
  EXPECT_FLOAT_EQ(spliced->samples.front(), 0.2F);
  EXPECT_FLOAT_EQ(spliced->samples.back(), 0.4F);
}

TEST_F(SpliceTest, LevelsAreMatchedToTheFirstPiece) {
  const auto read = [](const Utterance& utterance) {
    return std::vector<float>(1600, utterance.id == "u0" ? 0.1F : utterance.id == "u1" ? 0.3F : 0.9F);
  };
  for (const auto& [other, level] : {std::pair{utterances_[1], 0.1F}, {utterances_[2], 0.225F}}) {
    const Splicer splicer({.concat_max_utterances = 2}, {other}, kRate, read);
    Random random(0);
    const auto spliced = splicer.DrawUtterances(utterances_[0], random);
    ASSERT_TRUE(spliced.has_value());
    // Nine times as loud is brought down by no more than four times.
    EXPECT_NEAR(spliced->samples.back(), level, 1e-6);
  }
}

TEST_F(SpliceTest, WholeUtterances) {
  options_.concat_max_utterances = 3;
  options_.same_speaker_probability = 1;
  const Splicer splicer = Make();
  std::set<size_t> lengths;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const auto spliced = splicer.DrawUtterances(utterances_[2], random);
    ASSERT_TRUE(spliced.has_value());
    EXPECT_EQ(spliced->text.substr(0, 7), "B A B A");
    lengths.insert(SplitWords(spliced->text).size());
  }
  EXPECT_EQ(lengths, (std::set<size_t>{4, 6}));
  options_.max_duration_s = 2;
  Random random(0);
  EXPECT_FALSE(Make().DrawUtterances(utterances_[2], random).has_value()) << "two do not fit into 2 s";
}

TEST_F(SpliceTest, NoSpliceIsLongerThanAllowed) {
  options_.min_words = options_.max_words = 20;
  options_.max_duration_s = 3;
  const Splicer splicer = Make();
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Random random(seed);
    const auto spliced = splicer.DrawWords(utterances_[0], random);
    EXPECT_LE(spliced->samples.size(), 3U * kRate);
    EXPECT_GE(SplitWords(spliced->text).size(), 3U);
  }
}

TEST_F(SpliceTest, DrawsAsOftenAsAskedAndAlwaysTheSame) {
  options_.probability = 0.3;
  options_.concat_probability = 0.2;
  const Splicer splicer = Make(), again = Make();
  int spliced = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Random random(seed), same(seed);
    const auto first = splicer.Draw(utterances_[1], random), second = again.Draw(utterances_[1], same);
    ASSERT_EQ(first.has_value(), second.has_value());
    if (!first) continue;
    ++spliced;
    EXPECT_EQ(first->text, second->text);
    EXPECT_EQ(first->samples, second->samples);
  }
  EXPECT_NEAR(spliced, 500, 60);
}

TEST_F(SpliceTest, AlignmentErrorsNameTheLine) {
  const std::string good = R"({"id": "u0", "words": [{"word": "A", "start": 0.2, "end": 0.6}]})" + std::string("\n");
  EXPECT_THAT(LoadError(good + "{"), HasSubstr("bad.jsonl:2: "));
  EXPECT_THAT(LoadError(good + R"({"id": "u1"})"), HasSubstr("bad.jsonl:2: "));
  EXPECT_THAT(LoadError(good + R"({"id": "u1", "words": [{"word": "C", "start": 1, "end": 1}]})"),
              HasSubstr("bad.jsonl:2: 'C' from 1 to 1 s"));
  EXPECT_THAT(LoadError(R"({"id": "u1", "words": [{"word": "C", "start": 1, "end": 2},
 {"word": "D", "start": 1.5, "end": 3}]})"),
              HasSubstr("bad.jsonl:1"));
  EXPECT_THAT(LoadError(R"({"id": "other", "words": []})"),
              HasSubstr("were the alignments made from another manifest?"));
  options_.alignments = folder_.Path("none.jsonl");
  EXPECT_THAT(ErrorOf([&] { Make(); }), HasSubstr("cannot be read"));
}

TEST_F(SpliceTest, OptionErrorsNameTheKey) {
  const auto error = [](const SpliceOptions& options) { return ErrorOf([&] { options.Validate(); }); };
  EXPECT_THAT(error({.probability = 0.5}), HasSubstr("alignments is empty"));
  EXPECT_THAT(error({.alignments = "a", .probability = 1.5}), HasSubstr("probability is 1.5"));
  EXPECT_THAT(error({.alignments = "a", .probability = 0.6, .concat_probability = 0.5}), HasSubstr("exceed 1"));
  EXPECT_THAT(error({.min_words = 3, .max_words = 2}), HasSubstr("min_words is 3"));
  EXPECT_THAT(error({.balance = -0.1}), HasSubstr("balance is -0.1"));
  EXPECT_THAT(error({.transcript_share = 2}), HasSubstr("transcript_share is 2"));
  EXPECT_THAT(error({.max_span_words = 0}), HasSubstr("max_span_words is 0"));
  EXPECT_THAT(error({.concat_max_utterances = 1}), HasSubstr("concat_max_utterances is 1"));
  EXPECT_THAT(error({.max_duration_s = 0}), HasSubstr("max_duration_s is 0"));
}

}  // namespace
}  // namespace earshot
