#include "src/text/utf8.h"

#include <gtest/gtest.h>

namespace earshot {
namespace {

TEST(Utf8, RoundTripsEveryLength) {
  const std::string text = "a\u00E9\u20AC\U0001F44D\uFFFDz";
  EXPECT_EQ(DecodeUtf8(text), U"a\u00E9\u20AC\U0001F44D\uFFFDz");
  EXPECT_EQ(EncodeUtf8(DecodeUtf8(text)), text);
}

TEST(Utf8, DamagedBytesBecomeReplacementCharacters) {
  EXPECT_EQ(DecodeUtf8("a\x80z"), U"a\uFFFDz");                  // a stray continuation
  EXPECT_EQ(DecodeUtf8("\xC3"), U"\uFFFD");                      // cut off
  EXPECT_EQ(DecodeUtf8("\xC3z"), U"\uFFFDz");                    // no continuation
  EXPECT_EQ(DecodeUtf8("\xC0\xAF"), U"\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(DecodeUtf8("\xE0\x80\xAF"), U"\uFFFD\uFFFD\uFFFD");  // overlong
  EXPECT_EQ(DecodeUtf8("\xED\xA0\x80"), U"\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(DecodeUtf8("\xF4\x90\x80\x80").size(), 4U);          // past U+10FFFF
}

}  // namespace
}  // namespace earshot
