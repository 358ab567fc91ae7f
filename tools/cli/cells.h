// Text as a terminal shows it: how many cells it takes, and lines that fit.
//
//   Cells("三 words") == 8;                            // a wide character takes two, a combining one none
//   for (const CellLine& line : WrapCells({{"a", kDim}, {"b"}}, 79)) Write(line.bytes);
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace earshot {

// Escapes that begin a style; "" is the terminal's normal colour.
inline constexpr std::string_view kDim = "\033[2m", kGrey = "\033[90m", kRed = "\033[31m", kGreen = "\033[32m",
                                  kYellow = "\033[33m", kPlain = "\033[0m";

// 0, 1 or 2, after Unicode's East Asian Width and its marks without width, of the scripts in use.
int CellsOf(char32_t character);
// Of UTF-8; what is not counts as U+FFFD.
int Cells(std::string_view text);

// One line of valid UTF-8: control characters become blanks, so that no text moves the cursor.
std::string Printable(std::string_view text);

struct StyledText {
  std::string text;
  std::string_view style = {};
};

// A line with its escapes, and the cells it takes.
struct CellLine {
  std::string bytes;
  int cells = 0;

  // Adds text as it is.
  void Append(std::string_view text, std::string_view style = {});
  bool operator==(const CellLine&) const = default;
};

// words, parted by blanks, in lines of at most width cells; each word is Printable. A word longer than a line is
// broken; a width below 2 is taken as 2. No words: no lines.
std::vector<CellLine> WrapCells(const std::vector<StyledText>& words, int width);

}  // namespace earshot
