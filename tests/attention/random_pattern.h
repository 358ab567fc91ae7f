// Patterns drawn at random, with parameters small enough that short utterances meet every edge.
#pragma once

#include <fmt/format.h>

#include <string>

#include "src/attention/pattern.h"
#include "src/base/random.h"

namespace earshot {

inline std::string RandomTerm(Random& random) {
  const int64_t size = 1 + random.Index(7);
  switch (random.Index(6)) {
    case 0: return "full(causal=true)";
    case 1: return fmt::format("local(chunk={},left={},lookahead={})", size, random.Index(9) - 1, random.Index(5));
    case 2: return fmt::format("sliding(left={},right={})", random.Index(9) - 1, random.Index(5));
    case 3: return fmt::format("strided(every={},reach={},lookahead={})", size, random.Index(30) - 1, random.Index(7));
    case 4: return fmt::format("blockwise(block={},offsets=-3;-1)", size);
    default: return fmt::format("blockwise(block={},offsets={};{})", size, -random.Index(3), 1 + random.Index(2));
  }
}

// One to three terms, and often a memory.
inline Pattern RandomPattern(Random& random) {
  std::string text = RandomTerm(random);
  for (int64_t i = random.Index(3); i > 0; --i) text.append("+").append(RandomTerm(random));
  if (random.Chance(0.4))
    text += fmt::format("+memory(slots={},chunk={},lag={})", 1 + random.Index(3), 1 + random.Index(6), random.Index(3));
  return Pattern::Parse(text);
}

}  // namespace earshot
