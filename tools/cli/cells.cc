#include "tools/cli/cells.h"

#include <algorithm>
#include <iterator>

#include "src/text/utf8.h"

namespace earshot {
namespace {

struct Range {
  char32_t first, last;
};

// Marks that sit on the character before them, and characters that only direct the layout.
constexpr Range kNoWidth[] = {
    {0x0300, 0x036F}, {0x0483, 0x0489},  {0x0591, 0x05BD}, {0x05BF, 0x05BF}, {0x05C1, 0x05C2}, {0x05C4, 0x05C5},
    {0x05C7, 0x05C7}, {0x0610, 0x061A},  {0x064B, 0x065F}, {0x0670, 0x0670}, {0x06D6, 0x06DC}, {0x06DF, 0x06E4},
    {0x06E7, 0x06E8}, {0x06EA, 0x06ED},  {0x0900, 0x0902}, {0x093A, 0x093A}, {0x093C, 0x093C}, {0x0941, 0x0948},
    {0x094D, 0x094D}, {0x0951, 0x0957},  {0x0962, 0x0963}, {0x0981, 0x0981}, {0x09BC, 0x09BC}, {0x09C1, 0x09C4},
    {0x09CD, 0x09CD}, {0x0A01, 0x0A02},  {0x0A3C, 0x0A3C}, {0x0A41, 0x0A4D}, {0x0AC1, 0x0AC8}, {0x0ACD, 0x0ACD},
    {0x0BC0, 0x0BC0}, {0x0BCD, 0x0BCD},  {0x0C3E, 0x0C40}, {0x0C46, 0x0C4D}, {0x0CCC, 0x0CCD}, {0x0D41, 0x0D44},
    {0x0D4D, 0x0D4D}, {0x0E31, 0x0E31},  {0x0E34, 0x0E3A}, {0x0E47, 0x0E4E}, {0x0EB1, 0x0EB1}, {0x0EB4, 0x0EBC},
    {0x0EC8, 0x0ECE}, {0x1160, 0x11FF},  {0x1AB0, 0x1ACE}, {0x1DC0, 0x1DFF}, {0x200B, 0x200F}, {0x202A, 0x202E},
    {0x2060, 0x2064}, {0x20D0, 0x20F0},  {0x302A, 0x302D}, {0x3099, 0x309A}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F},
    {0xFEFF, 0xFEFF}, {0xE0100, 0xE01EF}};

constexpr Range kWide[] = {
    {0x1100, 0x115F},   {0x231A, 0x231B},   {0x2329, 0x232A},  {0x23E9, 0x23EC}, {0x2614, 0x2615}, {0x26A1, 0x26A1},
    {0x2705, 0x2705},   {0x274C, 0x274C},   {0x2E80, 0x303E},  {0x3041, 0x4DBF}, {0x4E00, 0xA4CF}, {0xA960, 0xA97C},
    {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},  {0xFF00, 0xFF60}, {0xFFE0, 0xFFE6}, {0x1F300, 0x1F64F},
    {0x1F680, 0x1F6FC}, {0x1F900, 0x1FAFF}, {0x20000, 0x3FFFD}};

template <size_t kSize>
bool Holds(const Range (&ranges)[kSize], char32_t character) {
  const Range* after = std::upper_bound(std::begin(ranges), std::end(ranges), character,
                                        [](char32_t c, const Range& range) { return c < range.first; });
  return after != std::begin(ranges) && character <= std::prev(after)->last;
}

bool IsControl(char32_t character) { return character < 0x20 || (character >= 0x7F && character < 0xA0); }

}  // namespace

int CellsOf(char32_t character) {
  if (character < 0x300) return 1;
  if (Holds(kNoWidth, character)) return 0;
  return Holds(kWide, character) ? 2 : 1;
}

int Cells(std::string_view text) {
  int cells = 0;
  for (const char32_t character : DecodeUtf8(text)) cells += CellsOf(character);
  return cells;
}

std::string Printable(std::string_view text) {
  std::u32string characters = DecodeUtf8(text);
  std::replace_if(characters.begin(), characters.end(), IsControl, U' ');
  return EncodeUtf8(characters);
}

void CellLine::Append(std::string_view text, std::string_view style) {
  bytes += style;
  bytes += text;
  if (!style.empty()) bytes += kPlain;
  cells += Cells(text);
}

std::vector<CellLine> WrapCells(const std::vector<StyledText>& words, int width) {
  width = std::max(width, 2);
  std::vector<CellLine> lines;
  for (const StyledText& word : words) {
    const std::string text = Printable(word.text);
    const int cells = Cells(text);
    if (lines.empty() || lines.back().cells + 1 + cells > width) {
      lines.emplace_back();
    } else {
      lines.back().Append(" ");
    }
    if (cells <= width) {
      lines.back().Append(text, word.style);
      continue;
    }
    std::string part;
    int part_cells = 0;
    for (const char32_t character : DecodeUtf8(text)) {
      if (part_cells + CellsOf(character) > width) {
        lines.back().Append(part, word.style);
        lines.emplace_back();
        part.clear();
        part_cells = 0;
      }
      AppendUtf8(character, part);
      part_cells += CellsOf(character);
    }
    lines.back().Append(part, word.style);
  }
  return lines;
}

}  // namespace earshot
