// Text in one spelling: for transcripts before training, and for both sides before WER.
//
//   Normalize({.letter_case = LetterCase::kUpper, .strip_punctuation = true}, "Well - don\u2019t, Zoë!");
//   // "WELL DON'T ZOË"
//
// In this order:
//   1. Apostrophes (U+2019, U+2018, U+02BC, U+FF07, U+0060, U+00B4) become ' .
//   2. Letter case, one code point at a time by the C library's Unicode tables (so ß stays ß).
//   3. Punctuation and symbols become a space, but for an apostrophe within a word and a point or
//      comma within a number (3.5); _ and what keep_characters lists stay too.
//   4. White space of any kind (no-break and ideographic spaces too) becomes one space, none at the ends;
//      zero-width marks (U+200B, U+FEFF) and control characters are removed.
// Normalize twice gives the same as once. Thread-safe.
#pragma once

#include <string>
#include <string_view>

#include "src/base/options.h"

namespace earshot {

enum class LetterCase { kKeep, kLower, kUpper };

struct NormalizeOptions {
  LetterCase letter_case = LetterCase::kKeep;
  bool strip_punctuation = false;
  // Characters that strip_punctuation leaves, such as "&@".
  std::string keep_characters = "";

  void Visit(OptionVisitor& visitor);
};

std::string Normalize(const NormalizeOptions& options, std::string_view text);

}  // namespace earshot
