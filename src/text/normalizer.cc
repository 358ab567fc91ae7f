#include "src/text/normalizer.h"

#include <locale.h>
#include <wctype.h>

#include "src/base/error.h"
#include "src/text/utf8.h"

namespace earshot {
namespace {

// A Unicode locale of our own: what the program or its user has set does not matter.
locale_t UnicodeLocale() {
  static const locale_t locale = [] {
    for (const char* name : {"C.UTF-8", "en_US.UTF-8"}) {
      if (const locale_t found = newlocale(LC_CTYPE_MASK, name, nullptr)) return found;
    }
    Throw("this system has no Unicode locale; install C.UTF-8 or en_US.UTF-8");
  }();
  return locale;
}

bool IsLetter(char32_t c) { return iswalnum_l(static_cast<wint_t>(c), UnicodeLocale()) != 0; }
bool IsDigit(char32_t c) { return c >= U'0' && c <= U'9'; }

// The C library calls combining marks punctuation or nothing at all; here they belong to their letter.
bool IsMark(char32_t c) {
  return (c >= 0x0300 && c <= 0x036F) || (c >= 0x1AB0 && c <= 0x1AFF) || (c >= 0x1DC0 && c <= 0x1DFF) ||
         (c >= 0x20D0 && c <= 0x20FF) || (c >= 0xFE20 && c <= 0xFE2F);
}

bool IsPunctuation(char32_t c) {
  return c != U'_' && c != kReplacementCharacter && !IsMark(c) &&
         iswpunct_l(static_cast<wint_t>(c), UnicodeLocale()) != 0;
}

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsInvisible(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x200B || c == 0xFEFF || c == 0x00AD;
}

char32_t UnifyApostrophe(char32_t c) {
  const bool apostrophe = c == 0x2019 || c == 0x2018 || c == 0x02BC || c == 0xFF07 || c == U'`' || c == 0x00B4;
  return apostrophe ? U'\'' : c;
}

char32_t ApplyCase(LetterCase letter_case, char32_t c) {
  switch (letter_case) {
    case LetterCase::kLower: return static_cast<char32_t>(towlower_l(static_cast<wint_t>(c), UnicodeLocale()));
    case LetterCase::kUpper: return static_cast<char32_t>(towupper_l(static_cast<wint_t>(c), UnicodeLocale()));
    case LetterCase::kKeep: break;
  }
  return c;
}

// Between two letters an apostrophe is a letter, between two digits a point or comma is a digit.
bool BelongsToWord(char32_t before, char32_t c, char32_t after) {
  if (c == U'\'') return (IsLetter(before) || IsMark(before)) && IsLetter(after);
  return (c == U'.' || c == U',') && IsDigit(before) && IsDigit(after);
}

}  // namespace

void NormalizeOptions::Visit(OptionVisitor& visitor) {
  visitor.Enum("letter_case", letter_case,
               {{"keep", LetterCase::kKeep}, {"lower", LetterCase::kLower}, {"upper", LetterCase::kUpper}});
  visitor.Field("strip_punctuation", strip_punctuation);
  visitor.Field("keep_characters", keep_characters);
}

std::string Normalize(const NormalizeOptions& options, std::string_view text) {
  const std::u32string kept = DecodeUtf8(options.keep_characters);
  std::u32string letters;
  for (const char32_t c : DecodeUtf8(text)) {
    if (IsSpace(c))
      letters += U' ';
    else if (!IsInvisible(c))
      letters += ApplyCase(options.letter_case, UnifyApostrophe(c));
  }
  if (options.strip_punctuation) {
    std::u32string words = letters;
    for (size_t i = 0; i < letters.size(); ++i) {
      const char32_t before = i > 0 ? letters[i - 1] : U' ';
      const char32_t after = i + 1 < letters.size() ? letters[i + 1] : U' ';
      if (IsPunctuation(letters[i]) && !BelongsToWord(before, letters[i], after) &&
          kept.find(letters[i]) == std::u32string::npos)
        words[i] = U' ';
    }
    letters = std::move(words);
  }
  std::string normalized;
  for (const char32_t c : letters) {
    if (c != U' ')
      AppendUtf8(c, normalized);
    else if (!normalized.empty() && normalized.back() != ' ')
      normalized += ' ';
  }
  if (!normalized.empty() && normalized.back() == ' ') normalized.pop_back();
  return normalized;
}

}  // namespace earshot
