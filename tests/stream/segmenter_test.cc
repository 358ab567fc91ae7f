#include "src/stream/segmenter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/base/random.h"

namespace earshot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Texts(const std::vector<Segment>& segments) {
  std::vector<std::string> texts;
  for (const Segment& segment : segments) texts.push_back(segment.text);
  return texts;
}

// n words of the given length, of 0.3 s each with 0.05 s between.
std::vector<Word> EvenWords(int n, int length) {
  std::vector<Word> words;
  for (int i = 0; i < n; ++i) {
    words.push_back(
        {std::string(static_cast<size_t>(length), static_cast<char>('a' + i % 26)), 0.35 * i, 0.35 * i + 0.3, 1.0f});
  }
  return words;
}

TEST(Segmenter, CutsAtAPauseAndKeepsTimes) {
  const std::vector<Word> words = {
      {"rub", 0.5, 0.8, 0.9f}, {"out", 1.0, 1.3, 0.8f}, {"yes", 2.1, 2.4, 0.7f}, {"no", 3.19, 3.5, 1.0f}};
  const std::vector<Segment> segments = SegmentWords(words, {.pause_s = 0.8});
  ASSERT_THAT(Texts(segments), ElementsAre("rub out", "yes no"));  // 0.8 s cuts, 0.79 s does not
  EXPECT_EQ(segments[0].start_s, 0.5);
  EXPECT_EQ(segments[0].end_s, 1.3);
  EXPECT_EQ(segments[1].start_s, 2.1);
  EXPECT_EQ(segments[1].end_s, 3.5);
  EXPECT_EQ(segments[1].words[1].confidence, 1.0f);
}

TEST(Segmenter, WordsGiveNoSegmentBeforeOneIsClosed) {
  Segmenter segmenter({.pause_s = 0.8});
  EXPECT_TRUE(segmenter.AcceptWord({"one", 0, 0.3, 1}).empty());
  EXPECT_THAT(Texts(segmenter.AcceptWord({"two", 2, 2.3, 1})), ElementsAre("one"));
  EXPECT_THAT(Texts(segmenter.InputFinished()), ElementsAre("two"));
  EXPECT_TRUE(segmenter.InputFinished().empty());
}

TEST(Segmenter, CutsTooLongTextAtTheLongestPauseOfItsLaterHalf) {
  std::vector<Word> words = EvenWords(6, 3);
  for (size_t i = 4; i < words.size(); ++i) {  // a pause before the fifth word, too short to end a segment alone
    words[i].start_s += 0.4;
    words[i].end_s += 0.4;
  }
  // Five words of three letters and four blanks take 19 characters; the sixth does not fit.
  const SegmenterOptions options = {.line_characters = 19, .max_lines = 1};
  EXPECT_THAT(Texts(SegmentWords(words, options)), ElementsAre("aaa bbb ccc ddd", "eee fff"));
  EXPECT_THAT(Texts(SegmentWords(EvenWords(6, 3), options)), ElementsAre("aaa bbb ccc ddd eee", "fff"));
}

TEST(Segmenter, PrefersTheEndOfASentence) {
  std::vector<Word> words = EvenWords(6, 3);
  words[3].text = "dd.";
  EXPECT_THAT(Texts(SegmentWords(words, {.line_characters = 19, .max_lines = 1})),
              ElementsAre("aaa bbb ccc dd.", "eee fff"));
}

TEST(Segmenter, CutsWhatLastsTooLong) {
  for (const Segment& segment : SegmentWords(EvenWords(60, 1), {.line_characters = 0, .max_duration_s = 3}))
    EXPECT_LE(segment.end_s - segment.start_s, 3) << segment.text;
}

TEST(Segmenter, AWordOverTheLimitsStandsAlone) {
  const std::vector<Word> words = {{"a", 0, 0.1, 1}, {std::string(50, 'x'), 0.2, 12, 1}, {"b", 12.1, 12.2, 1}};
  EXPECT_THAT(Texts(SegmentWords(words, {.line_characters = 10, .max_lines = 1})),
              ElementsAre("a", std::string(50, 'x'), "b"));
}

TEST(Segmenter, LosesNoWordAndKeepsTheLimitsWhateverComes) {
  Random random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<Word> words;
    double now_s = 0;
    for (int64_t n = random.Index(80); n > 0; --n) {
      now_s += random.Chance(0.1) ? random.Uniform(0, 2) : random.Uniform(0, 0.2);
      const double end_s = now_s + random.Uniform(0.05, 0.8);
      words.push_back({std::string(static_cast<size_t>(1 + random.Index(14)), 'w'), now_s, end_s, 1});
      now_s = end_s;
    }
    const SegmenterOptions options;
    size_t next = 0;
    for (const Segment& segment : SegmentWords(words, options)) {
      EXPECT_LE(segment.end_s - segment.start_s, options.max_duration_s);
      const std::vector<std::string> lines = WrapWords(segment.words, options.line_characters);
      EXPECT_LE(lines.size(), 2U) << segment.text;
      for (const std::string& line : lines) EXPECT_LE(CountCharacters(line), 42) << line;
      for (const Word& word : segment.words) EXPECT_EQ(word.start_s, words.at(next++).start_s);
    }
    EXPECT_EQ(next, words.size()) << "round " << round;
  }
}

TEST(Segmenter, CountsCharactersNotBytes) {
  EXPECT_EQ(CountCharacters("für 日本"), 6);
  const std::vector<Word> words = {{"日本語", 0, 1, 1}, {"音声", 1, 2, 1}};
  EXPECT_THAT(WrapWords(words, 6), ElementsAre("日本語 音声"));
  EXPECT_THAT(WrapWords(words, 5), ElementsAre("日本語", "音声"));
  EXPECT_THAT(WrapWords(words, 0), ElementsAre("日本語 音声"));
}

TEST(Segmenter, NamesTheOptionThatIsWrong) {
  try {
    Segmenter segmenter({.pause_s = -1});
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("pause_s: -1"));
  }
  EXPECT_THROW(Segmenter({.max_lines = 0}), Error);
  EXPECT_THROW(Segmenter({.line_characters = -1}), Error);
  EXPECT_THROW(Segmenter({.max_duration_s = -2}), Error);
}

}  // namespace
}  // namespace earshot
