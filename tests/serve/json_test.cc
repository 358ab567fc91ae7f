#include "src/serve/json.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace earshot {
namespace {

TEST(Json, TakesObjectsOnly) {
  EXPECT_EQ(NumberOr(ParseJsonObject(R"({"a": 2})"), "a", 1), 2);
  for (const char* text : {"", "[]", "3", "null", "{", "{\"a\":}", "\xff", "{} {}"})
    EXPECT_THROW(ParseJsonObject(text), Error) << text;
}

TEST(Json, RefusesWhatIsNestedTooDeeply) {
  EXPECT_THROW(ParseJsonObject("{\"a\":" + std::string(100000, '[')), Error);
  EXPECT_THROW(ParseJsonObject("{\"a\":" + std::string(40, '[') + std::string(40, ']') + "}"), Error);
}

TEST(Json, NamesTheKeyOfTheWrongType) {
  const Json object = ParseJsonObject(R"({"a": [], "n": null})");
  EXPECT_THROW(TextOr(object, "a", ""), Error);
  EXPECT_THROW(NumberOr(object, "a", 0), Error);
  EXPECT_THROW(FlagOr(object, "a", false), Error);
  EXPECT_THROW(ObjectOr(object, "a"), Error);
  EXPECT_EQ(TextOr(object, "n", "x"), "x");
  EXPECT_TRUE(ObjectOr(object, "missing").empty());
}

TEST(Json, BytesThatAreNoUtf8BecomeReplacementCharacters) {
  EXPECT_EQ(ToText({{"a", "\xff"}}), "{\"a\":\"\xEF\xBF\xBD\"}");
}

}  // namespace
}  // namespace earshot
