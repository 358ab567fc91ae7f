#include "src/text/wer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "src/base/atomic_file.h"
#include "src/base/random.h"

namespace earshot {
namespace {

ErrorCounts FromJson(const nlohmann::json& json) {
  ErrorCounts counts{.correct = json["correct"],
                     .substitutions = json["substitutions"],
                     .deletions = json["deletions"],
                     .insertions = json["insertions"]};
  counts.reference = counts.correct + counts.substitutions + counts.deletions;
  return counts;
}

std::string Print(const ErrorCounts& counts) {
  return fmt::format("{} words: {} correct, {} substituted, {} deleted, {} inserted", counts.reference, counts.correct,
                     counts.substitutions, counts.deletions, counts.insertions);
}

TEST(Wer, CountsAreThoseOfJiwer) {
  const auto cases = nlohmann::json::parse(ReadFile(EARSHOT_SOURCE_DIR "/tests/text/golden/wer.json"));
  ASSERT_GT(cases.size(), 300U);
  for (const auto& golden : cases) {
    const std::string reference = golden["reference"], hypothesis = golden["hypothesis"];
    const ErrorCounts words = WordErrors(reference, hypothesis);
    EXPECT_EQ(words, FromJson(golden["words"])) << reference << " | " << hypothesis << "\n" << Print(words);
    const ErrorCounts characters = CharacterErrors(reference, hypothesis);
    EXPECT_EQ(characters, FromJson(golden["characters"])) << reference << " | " << hypothesis << "\n"
                                                          << Print(characters);
  }
}

TEST(Wer, AlignmentShowsEveryWordOnce) {
  const auto alignment = AlignWords(SplitWords("RUBOUT G M E F"), SplitWords("RUBOUT T G N F"));
  std::vector<std::string> reference, hypothesis;
  for (const AlignedPair& pair : alignment) {
    EXPECT_EQ(pair.reference.empty(), pair.edit == Edit::kInsertion);
    EXPECT_EQ(pair.hypothesis.empty(), pair.edit == Edit::kDeletion);
    EXPECT_EQ(pair.reference == pair.hypothesis, pair.edit == Edit::kCorrect);
    if (!pair.reference.empty()) reference.push_back(pair.reference);
    if (!pair.hypothesis.empty()) hypothesis.push_back(pair.hypothesis);
  }
  EXPECT_EQ(reference, SplitWords("RUBOUT G M E F"));
  EXPECT_EQ(hypothesis, SplitWords("RUBOUT T G N F"));
  EXPECT_EQ(CountErrors(alignment).errors(), 3);
}

TEST(Wer, RateOfAnEmptyReference) {
  EXPECT_EQ(WordErrors("", "").Rate(), 0.0);
  EXPECT_EQ(WordErrors("", "A B").Rate(), 2.0);
  EXPECT_EQ(WordErrors("A B", "").Rate(), 1.0);
  EXPECT_EQ(WordErrors("A", "B C D").Rate(), 3.0);
}

// Long enough that the matrix is split: the edits must stay as few as those that were made.
TEST(Wer, AlignsTheTranscriptOfHours) {
  Random random(3);
  std::vector<std::string> reference, hypothesis;
  int64_t made = 0;
  for (int i = 0; i < 20000; ++i) {
    reference.push_back(std::to_string(i));
    if (random.Chance(0.1)) {
      hypothesis.push_back("wrong");
      ++made;
    } else if (random.Chance(0.1)) {
      ++made;
    } else {
      hypothesis.push_back(reference.back());
    }
  }
  const ErrorCounts counts = CountErrors(AlignWords(reference, hypothesis));
  EXPECT_EQ(counts.reference, 20000);
  EXPECT_EQ(counts.errors(), made);
  EXPECT_EQ(counts.correct, 20000 - made);
}

TEST(Wer, SplitsCharactersByCodePoint) {
  EXPECT_EQ(SplitCharacters("  zoë \t好 "), (std::vector<std::string>{"z", "o", "ë", " ", "好"}));
  EXPECT_TRUE(SplitCharacters(" \n").empty());
}

TEST(Wer, CountsAddUp) {
  ErrorCounts total = WordErrors("A B C", "A X");
  total += WordErrors("D", "D E");
  EXPECT_EQ(total, (ErrorCounts{.reference = 4, .correct = 2, .substitutions = 1, .deletions = 1, .insertions = 1}));
  EXPECT_DOUBLE_EQ(total.Rate(), 0.75);
}

// One word each with error probability p: the rate is binomial, and so its interval is known.
TEST(Wer, BootstrapIntervalIsThatOfTheBinomial) {
  std::vector<ErrorCounts> counts(1000, {.reference = 1, .correct = 1});
  for (size_t i = 0; i < 100; ++i) counts[i] = {.reference = 1, .substitutions = 1};
  const Interval interval = BootstrapInterval(counts, 2000, 1);
  const double deviation = 1.96 * std::sqrt(0.1 * 0.9 / 1000);
  EXPECT_NEAR(interval.low, 0.1 - deviation, 0.003);
  EXPECT_NEAR(interval.high, 0.1 + deviation, 0.003);
  const Interval again = BootstrapInterval(counts, 2000, 1);
  EXPECT_EQ(interval.low, again.low);
  EXPECT_EQ(interval.high, again.high);
}

TEST(Wer, BootstrapOfNothingAndOfCertainty) {
  EXPECT_EQ(BootstrapInterval({}, 100, 0).high, 0.0);
  const std::vector<ErrorCounts> perfect(10, {.reference = 3, .correct = 3});
  EXPECT_EQ(BootstrapInterval(perfect, 100, 0).high, 0.0);
}

}  // namespace
}  // namespace earshot
