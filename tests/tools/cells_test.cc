#include "tools/cli/cells.h"

#include <gtest/gtest.h>

namespace earshot {
namespace {

std::vector<std::string> Wrapped(const std::vector<StyledText>& words, int width) {
  std::vector<std::string> lines;
  for (const CellLine& line : WrapCells(words, width)) {
    EXPECT_EQ(line.cells, Cells(line.bytes));
    EXPECT_LE(line.cells, std::max(width, 2));
    lines.push_back(line.bytes);
  }
  return lines;
}

TEST(CellsTest, CountsWhatATerminalShows) {
  EXPECT_EQ(Cells("ERASE"), 5);
  EXPECT_EQ(Cells("Größe"), 5);
  EXPECT_EQ(Cells("三月"), 4);
  EXPECT_EQ(Cells("한국어"), 6);
  EXPECT_EQ(Cells("cafe\u0301"), 4);
  EXPECT_EQ(Cells("नमस्ते"), 4);
  EXPECT_EQ(Cells("สวัสดี"), 4);
  EXPECT_EQ(Cells("שלום"), 4);
  EXPECT_EQ(Cells("👍"), 2);
  EXPECT_EQ(Cells("▕█▏●"), 4);
  EXPECT_EQ(Cells("\xFF"), 1);
  EXPECT_EQ(Cells(""), 0);
}

TEST(CellsTest, PrintableMovesNoCursor) {
  EXPECT_EQ(Printable("a\nb\033[2Jc\u0085\x7F"), "a b [2Jc  ");
  EXPECT_EQ(Printable("\xC3"), "\uFFFD");
}

TEST(CellsTest, WrapsBetweenWords) {
  EXPECT_EQ(Wrapped({{"TWO"}, {"NINE"}, {"EIGHT"}, {"ONE"}}, 8),
            (std::vector<std::string>{"TWO NINE", "EIGHT", "ONE"}));
  EXPECT_EQ(Wrapped({{"三月"}, {"一"}, {"日"}}, 7), (std::vector<std::string>{"三月 一", "日"}));
  EXPECT_TRUE(Wrapped({}, 8).empty());
}

TEST(CellsTest, BreaksWordsThatFitNoLine) {
  EXPECT_EQ(Wrapped({{"A"}, {"你好世界"}, {"B"}}, 5), (std::vector<std::string>{"A", "你好", "世界", "B"}));
  EXPECT_EQ(Wrapped({{"abc"}}, -3), (std::vector<std::string>{"ab", "c"}));
}

TEST(CellsTest, StyleEndsWithItsWord) {
  const std::vector<CellLine> lines = WrapCells({{"a", kDim}, {"b"}}, 9);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].bytes, "\033[2ma\033[0m b");
  EXPECT_EQ(lines[0].cells, 3);
}

}  // namespace
}  // namespace earshot
