#include "src/serve/codes.h"

#include <gtest/gtest.h>

namespace earshot {
namespace {

TEST(Codes, Base64TurnsBack) {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(DecodeBase64(EncodeBase64(bytes)), bytes);
    bytes += static_cast<char>(i * 7);
  }
  EXPECT_EQ(EncodeBase64("hi"), "aGk=");  // RFC 4648, section 10, has its like
}

TEST(Codes, RefusesWhatIsNoBase64) {
  for (const char* text : {"a", "ab", "abc", "ab=c", "a===", "====", "ab!=", "aGk=aGk=", " aGk=", "aGk=\n", "aG k"})
    EXPECT_FALSE(DecodeBase64(text)) << text;
}

TEST(Codes, IdsDiffer) {
  EXPECT_EQ(NewId("item_").size(), 5u + 24u);
  EXPECT_NE(NewId("a"), NewId("a"));
}

TEST(Codes, ComparesInConstantTime) {
  EXPECT_TRUE(EqualInConstantTime("abc", "abc"));
  EXPECT_FALSE(EqualInConstantTime("abc", "abd"));
  EXPECT_FALSE(EqualInConstantTime("abc", "ab"));
}

}  // namespace
}  // namespace earshot
