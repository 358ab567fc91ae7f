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

// Of the terms that a pattern has once at most.
inline std::string RandomLearned(Random& random) {
  return fmt::format("learned(block={},blocks={},reach={},lookahead={})", 1 + random.Index(6), 1 + random.Index(3),
                     random.Index(6) - 1, random.Index(3));
}
inline std::string RandomHierarchy(Random& random) {
  return fmt::format("hierarchical(chunk={},left={},lookahead={},pool={},levels={},future={})", 1 + random.Index(6),
                     random.Index(5), random.Index(4), 2 + random.Index(2), 1 + random.Index(3),
                     random.Chance(0.3) ? "true" : "false");
}

// One to three terms, now and then learned blocks or a hierarchy, and often a memory.
inline Pattern RandomPattern(Random& random) {
  std::string text = RandomTerm(random);
  for (int64_t i = random.Index(3); i > 0; --i) text.append("+").append(RandomTerm(random));
  if (random.Chance(0.3)) text.append("+").append(RandomLearned(random));
  if (random.Chance(0.3)) text.append("+").append(RandomHierarchy(random));
  if (random.Chance(0.4))
    text += fmt::format("+memory(slots={},chunk={},lag={})", 1 + random.Index(3), 1 + random.Index(6), random.Index(3));
  return Pattern::Parse(text);
}

}  // namespace earshot
