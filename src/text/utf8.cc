#include "src/text/utf8.h"

#include <cstddef>

namespace earshot {
namespace {

// How many bytes the sequence has that begins with this byte; 0: none does.
size_t SequenceLength(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead < 0xE0) return 2;
  if (lead >= 0xE0 && lead < 0xF0) return 3;
  if (lead >= 0xF0 && lead < 0xF5) return 4;
  return 0;
}

// The code point of the sequence at the head of text, or U+FFFD when it is not whole or not allowed.
char32_t DecodeSequence(std::string_view text, size_t length) {
  if (length == 0 || length > text.size()) return kReplacementCharacter;
  const auto lead = static_cast<unsigned char>(text[0]);
  if (length == 1) return lead;
  auto code_point = static_cast<char32_t>(lead & (0xFFU >> (length + 1)));
  for (size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xC0U) != 0x80) return kReplacementCharacter;
    code_point = (code_point << 6U) | (byte & 0x3FU);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code_point >= 0xD800 && code_point < 0xE000;
  if (code_point < kSmallest[length] || code_point > 0x10FFFF || surrogate) return kReplacementCharacter;
  return code_point;
}

}  // namespace

std::u32string DecodeUtf8(std::string_view text) {
  std::u32string code_points;
  code_points.reserve(text.size());
  while (!text.empty()) {
    const size_t length = SequenceLength(static_cast<unsigned char>(text[0]));
    const char32_t code_point = DecodeSequence(text, length);
    code_points.push_back(code_point);
    // U+FFFD itself takes three bytes; a damaged sequence loses its first byte only.
    const bool damaged = code_point == kReplacementCharacter && text.substr(0, 3) != "\xEF\xBF\xBD";
    text.remove_prefix(damaged ? 1 : length);
  }
  return code_points;
}

void AppendUtf8(char32_t code_point, std::string& text) {
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xC0U | (code_point >> 6U));
    text += static_cast<char>(0x80U | (code_point & 0x3FU));
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xE0U | (code_point >> 12U));
    text += static_cast<char>(0x80U | ((code_point >> 6U) & 0x3FU));
    text += static_cast<char>(0x80U | (code_point & 0x3FU));
  } else {
    text += static_cast<char>(0xF0U | (code_point >> 18U));
    text += static_cast<char>(0x80U | ((code_point >> 12U) & 0x3FU));
    text += static_cast<char>(0x80U | ((code_point >> 6U) & 0x3FU));
    text += static_cast<char>(0x80U | (code_point & 0x3FU));
  }
}

std::string EncodeUtf8(std::u32string_view code_points) {
  std::string text;
  for (const char32_t code_point : code_points) AppendUtf8(code_point, text);
  return text;
}

}  // namespace earshot
