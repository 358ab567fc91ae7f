#include "src/base/nearest.h"

#include <gtest/gtest.h>

namespace earshot {
namespace {

TEST(NearestTest, EditDistanceCountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0U);
  EXPECT_EQ(EditDistance("abc", ""), 3U);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3U);
  EXPECT_EQ(EditDistance("lokal", "local"), 1U);
  EXPECT_EQ(EditDistance("loacl", "local"), 1U);
}

TEST(NearestTest, SuggestsOnlyWhatIsNear) {
  const std::vector<std::string> names = {"local", "strided", "memory"};
  EXPECT_EQ(Nearest("stridde", names), "strided");
  EXPECT_EQ(Nearest("xyz", names), "");
  EXPECT_EQ(Suggestion("loca", names), "; did you mean 'local'?");
  EXPECT_EQ(Suggestion("xyz", names), "; expected one of: local, strided, memory");
  EXPECT_EQ(Suggestion("xyz", {}), "");
  // A list that nobody would read.
  EXPECT_EQ(Suggestion("xyz", std::vector<std::string>(100, "tensor")), "");
}

}  // namespace
}  // namespace earshot
