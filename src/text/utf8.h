// UTF-8: text as code points and back.
//
//   for (char32_t c : DecodeUtf8(text)) ...
//
// A byte that is not UTF-8 (a stray continuation, an overlong form, a surrogate) becomes one U+FFFD,
// so damaged text never stops a run and always decodes to the same code points.
#pragma once

#include <string>
#include <string_view>

namespace earshot {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

std::u32string DecodeUtf8(std::string_view text);

// Appends one code point to text.
void AppendUtf8(char32_t code_point, std::string& text);

std::string EncodeUtf8(std::u32string_view code_points);

}  // namespace earshot
