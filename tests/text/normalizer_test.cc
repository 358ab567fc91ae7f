#include "src/text/normalizer.h"

#include <gtest/gtest.h>

namespace earshot {
namespace {

constexpr NormalizeOptions kUpper{.letter_case = LetterCase::kUpper, .strip_punctuation = true};
constexpr NormalizeOptions kLower{.letter_case = LetterCase::kLower, .strip_punctuation = true};

TEST(Normalizer, LeavesSpellingAsItIsByDefault) {
  EXPECT_EQ(Normalize({}, "Well - don't, Zoë!"), "Well - don't, Zoë!");
}

TEST(Normalizer, CaseFollowsUnicode) {
  EXPECT_EQ(Normalize(kUpper, "zoë straße привет"), "ZOË STRAßE ПРИВЕТ");
  EXPECT_EQ(Normalize(kLower, "ZOË ÅNGSTRÖM ΑΒΓ"), "zoë ångström αβγ");
}

TEST(Normalizer, PunctuationBecomesSpace) {
  EXPECT_EQ(Normalize(kLower, "Well - don\u2019t, twenty-one (U.S.)!"), "well don't twenty one u s");
  EXPECT_EQ(Normalize(kLower, "\u201CHello\u201D\u2026 \u00BFqu\u00E9?"), "hello qué");
}

TEST(Normalizer, ApostrophesWithinWordsStay) {
  EXPECT_EQ(Normalize(kLower, "'Rock 'n' roll' dogs' it\u02BCs l`eau"), "rock n roll dogs it's l'eau");
}

TEST(Normalizer, PointsWithinNumbersStay) { EXPECT_EQ(Normalize(kLower, "3.5, 1,000. v2.x"), "3.5 1,000 v2 x"); }

TEST(Normalizer, KeepsWhatIsAskedFor) {
  NormalizeOptions options = kLower;
  options.keep_characters = "&é";
  EXPECT_EQ(Normalize(options, "R&B @ home_1"), "r&b home_1");
}

TEST(Normalizer, WhiteSpaceOfAnyKindIsOneSpace) {
  EXPECT_EQ(Normalize({}, "\uFEFF a\u00A0\u3000b\t\r\nc\u200Bd \u2028"), "a b cd");
  EXPECT_EQ(Normalize({}, " \t "), "");
}

TEST(Normalizer, CombiningMarksStayWithTheirLetter) {
  EXPECT_EQ(Normalize(kUpper, "caf\u0065\u0301"), "CAF\u0045\u0301");
}

TEST(Normalizer, DamagedTextIsMadeWhole) { EXPECT_EQ(Normalize(kUpper, "a\xFFz"), "A\uFFFDZ"); }

TEST(Normalizer, TwiceIsOnce) {
  for (const char* text : {"Well - don\u2019t, 'Zoë'!", "1.,2 ''a''b'c -- \u00A0", "A'-'B", "'''", "x.'3.5'.y"}) {
    const std::string once = Normalize(kUpper, text);
    EXPECT_EQ(Normalize(kUpper, once), once) << text;
  }
}

}  // namespace
}  // namespace earshot
