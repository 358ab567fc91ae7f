#include "src/attention/pattern.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "src/base/error.h"
#include "src/base/nearest.h"

namespace earshot {
namespace {

constexpr int64_t kEndless = std::numeric_limits<int64_t>::max() / 4;

struct TermName {
  const char* name;
  PatternKind kind;
  std::vector<std::string> arguments;
};

const std::vector<TermName>& TermNames() {
  static const std::vector<TermName> names = {
      {"full", PatternKind::kFull, {"causal"}},
      {"local", PatternKind::kLocal, {"chunk", "left", "lookahead"}},
      {"sliding", PatternKind::kSliding, {"left", "right"}},
      {"strided", PatternKind::kStrided, {"every", "reach", "lookahead"}},
      {"blockwise", PatternKind::kBlockwise, {"block", "offsets"}},
      {"memory", PatternKind::kMemory, {"slots", "chunk", "lag"}},
  };
  return names;
}

int64_t FloorDiv(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

std::string Trim(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (true) {
    const size_t end = text.find(separator, begin);
    parts.push_back(Trim(text.substr(begin, end == std::string::npos ? end : end - begin)));
    if (end == std::string::npos) return parts;
    begin = end + 1;
  }
}

int64_t ParseNumber(const std::string& text, const std::string& where) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    Throw("pattern: {} is '{}', expected a whole number", where, text);
  return value;
}

void RequireAtLeast(int64_t value, int64_t least, const std::string& where) {
  if (value < least) Throw("pattern: {} is {}, expected {} or more", where, value, least);
}

void SetArgument(PatternTerm& term, const std::string& name, const std::string& value, const std::string& where) {
  if (name == "causal") {
    if (value != "true" && value != "false") Throw("pattern: {} is '{}', expected true or false", where, value);
    term.causal = value == "true";
  } else if (name == "offsets") {
    term.offsets.clear();
    for (const std::string& part : Split(value, ';')) term.offsets.push_back(ParseNumber(part, where));
    std::sort(term.offsets.begin(), term.offsets.end());
    term.offsets.erase(std::unique(term.offsets.begin(), term.offsets.end()), term.offsets.end());
    std::erase(term.offsets, 0);
  } else {
    const int64_t number = ParseNumber(value, where);
    if (name == "chunk" || name == "block" || name == "every" || name == "slots") RequireAtLeast(number, 1, where);
    if (name == "lookahead" || name == "right" || name == "lag") RequireAtLeast(number, 0, where);
    if (name == "left" || name == "reach") RequireAtLeast(number, -1, where);
    if (name == "chunk" || name == "block") term.chunk = number;
    if (name == "left") term.left = number;
    if (name == "lookahead" || name == "right") term.lookahead = number;
    if (name == "every") term.every = number;
    if (name == "reach") term.reach = number;
    if (name == "slots") term.slots = number;
    if (name == "lag") term.lag = number;
  }
}

PatternTerm ParseTerm(const std::string& text) {
  const size_t open = text.find('(');
  const std::string name = Trim(text.substr(0, open));
  std::vector<std::string> names;
  const TermName* found = nullptr;
  for (const TermName& candidate : TermNames()) {
    names.emplace_back(candidate.name);
    if (name == candidate.name) found = &candidate;
  }
  if (!found) Throw("pattern: unknown term '{}'{}", name, Suggestion(name, names));
  PatternTerm term;
  term.kind = found->kind;
  if (term.kind == PatternKind::kBlockwise) term.offsets = {-1};
  if (open == std::string::npos) return term;
  if (text.back() != ')') Throw("pattern: '{}' lacks its closing parenthesis", text);
  const std::string inside = Trim(text.substr(open + 1, text.size() - open - 2));
  if (inside.empty()) return term;
  for (const std::string& part : Split(inside, ',')) {
    const size_t equals = part.find('=');
    const std::string argument = Trim(part.substr(0, equals));
    if (std::find(found->arguments.begin(), found->arguments.end(), argument) == found->arguments.end()) {
      Throw("pattern: {} has no argument '{}'{}", name, argument, Suggestion(argument, found->arguments));
    }
    const std::string where = fmt::format("{}({}=)", name, argument);
    if (equals == std::string::npos) Throw("pattern: {} lacks its value, such as {}(...,{}=16)", where, name, argument);
    SetArgument(term, argument, Trim(part.substr(equals + 1)), where);
  }
  return term;
}

std::string TermToString(const PatternTerm& t) {
  switch (t.kind) {
    case PatternKind::kFull: return t.causal ? "full(causal=true)" : "full";
    case PatternKind::kLocal: return fmt::format("local(chunk={},left={},lookahead={})", t.chunk, t.left, t.lookahead);
    case PatternKind::kSliding: return fmt::format("sliding(left={},right={})", t.left, t.lookahead);
    case PatternKind::kStrided:
      return fmt::format("strided(every={},reach={},lookahead={})", t.every, t.reach, t.lookahead);
    case PatternKind::kBlockwise:
      return fmt::format("blockwise(block={},offsets={})", t.chunk, fmt::join(t.offsets, ";"));
    case PatternKind::kMemory: return fmt::format("memory(slots={},chunk={},lag={})", t.slots, t.chunk, t.lag);
  }
  return "";
}

// The contiguous hull of what a query of this term may see.
KeyRange Hull(const PatternTerm& t, int64_t query) {
  const int64_t chunk_start = query / t.chunk * t.chunk;
  switch (t.kind) {
    case PatternKind::kFull: return {0, t.causal ? query : kEndless};
    case PatternKind::kLocal:
      return {t.left < 0 ? 0 : std::max<int64_t>(0, chunk_start - t.left), chunk_start + t.chunk - 1 + t.lookahead};
    case PatternKind::kSliding: return {t.left < 0 ? 0 : std::max<int64_t>(0, query - t.left), query + t.lookahead};
    case PatternKind::kStrided: {
      const int64_t from = t.reach < 0 ? 0 : std::max<int64_t>(0, query - t.reach);
      return {(from + t.every - 1) / t.every * t.every, FloorDiv(query + t.lookahead, t.every) * t.every};
    }
    case PatternKind::kBlockwise: {
      const int64_t low = t.offsets.empty() ? 0 : std::min<int64_t>(0, t.offsets.front());
      const int64_t high = t.offsets.empty() ? 0 : std::max<int64_t>(0, t.offsets.back());
      return {std::max<int64_t>(0, chunk_start + low * t.chunk), chunk_start + (high + 1) * t.chunk - 1};
    }
    case PatternKind::kMemory: return {0, -1};
  }
  return {};
}

}  // namespace

bool PatternTerm::MaySee(int64_t query, int64_t key) const {
  const KeyRange hull = Hull(*this, query);
  if (key < hull.first || key > hull.last) return false;
  if (kind == PatternKind::kStrided) return key % every == 0;
  if (kind == PatternKind::kBlockwise) {
    const int64_t distance = key / chunk - query / chunk;
    return distance == 0 || std::binary_search(offsets.begin(), offsets.end(), distance);
  }
  return true;
}

Pattern Pattern::Parse(const std::string& text) {
  Pattern pattern;
  pattern.terms_.clear();
  for (const std::string& part : Split(text, '+')) {
    if (part.empty())
      Throw("pattern: '{}' holds an empty term; expected for example local(chunk=16,left=64)+memory(slots=8)", text);
    pattern.terms_.push_back(ParseTerm(part));
  }
  int memories = 0;
  for (const PatternTerm& term : pattern.terms_) memories += term.kind == PatternKind::kMemory ? 1 : 0;
  if (memories > 1) Throw("pattern: '{}' names memory {} times, expected once", text, memories);
  if (memories == static_cast<int>(pattern.terms_.size())) {
    Throw(
        "pattern: '{}' is memory alone, which holds only the past; add a term for the frames near by, such as local()",
        text);
  }
  return pattern;
}

std::string Pattern::ToString() const {
  std::vector<std::string> parts;
  for (const PatternTerm& term : terms_) parts.push_back(TermToString(term));
  return fmt::format("{}", fmt::join(parts, "+"));
}

bool Pattern::MaySee(int64_t query, int64_t key) const {
  return std::any_of(terms_.begin(), terms_.end(), [&](const PatternTerm& t) { return t.MaySee(query, key); });
}

std::vector<int64_t> Pattern::Keys(int64_t first, int64_t last, int64_t num_keys) const {
  std::vector<int64_t> keys;
  for (const PatternTerm& term : terms_) {
    if (term.kind == PatternKind::kMemory) continue;
    // Hulls move to the right with the query, so the two ends bound them all.
    const int64_t from = Hull(term, first).first;
    const int64_t to = std::min(Hull(term, last).last, num_keys - 1);
    const int64_t step = term.kind == PatternKind::kStrided ? term.every : 1;
    for (int64_t key = from; key <= to; key += step) {
      if (term.kind == PatternKind::kBlockwise) {
        bool seen = false;
        for (int64_t q = first; q <= last && !seen; q += term.chunk) seen = term.MaySee(q, key);
        if (!seen && !term.MaySee(last, key)) continue;
      }
      keys.push_back(key);
    }
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

int64_t Pattern::ReadyQueries(int64_t received) const {
  int64_t ready = received;
  for (const PatternTerm& t : terms_) {
    int64_t r = received;
    if (t.kind == PatternKind::kFull) r = t.causal ? received : 0;
    if (t.kind == PatternKind::kSliding) r = received - t.lookahead;
    if (t.kind == PatternKind::kLocal) r = FloorDiv(received - t.lookahead, t.chunk) * t.chunk;
    if (t.kind == PatternKind::kBlockwise) {
      const int64_t ahead = t.offsets.empty() ? 0 : std::max<int64_t>(0, t.offsets.back());
      r = (FloorDiv(received, t.chunk) - ahead) * t.chunk;
    }
    // The last anchor at or before query + lookahead must be there.
    if (t.kind == PatternKind::kStrided) r = FloorDiv(received + t.every - 1, t.every) * t.every - t.lookahead;
    ready = std::min(ready, r);
  }
  return std::max<int64_t>(0, ready);
}

bool Pattern::Forgettable(int64_t key, int64_t next_query) const {
  return std::none_of(terms_.begin(), terms_.end(), [&](const PatternTerm& t) {
    if (t.kind == PatternKind::kMemory) return false;
    if (t.kind == PatternKind::kStrided && key % t.every != 0) return false;
    return key >= Hull(t, next_query).first;
  });
}

bool Pattern::Bounded() const {
  return std::all_of(terms_.begin(), terms_.end(), [](const PatternTerm& t) {
    switch (t.kind) {
      case PatternKind::kFull: return false;
      case PatternKind::kLocal:
      case PatternKind::kSliding: return t.left >= 0;
      case PatternKind::kStrided: return t.reach >= 0;
      case PatternKind::kBlockwise:
      case PatternKind::kMemory: return true;
    }
    return false;
  });
}

int64_t Pattern::Lookahead() const {
  int64_t most = 0;
  for (const PatternTerm& t : terms_) {
    if (t.kind == PatternKind::kFull && !t.causal) return -1;
    int64_t ahead = 0;
    if (t.kind == PatternKind::kLocal) ahead = t.chunk - 1 + t.lookahead;
    if (t.kind == PatternKind::kSliding || t.kind == PatternKind::kStrided) ahead = t.lookahead;
    if (t.kind == PatternKind::kBlockwise) {
      ahead = t.chunk - 1 + t.chunk * (t.offsets.empty() ? 0 : std::max<int64_t>(0, t.offsets.back()));
    }
    most = std::max(most, ahead);
  }
  return most;
}

bool Pattern::IsFull() const {
  return std::any_of(terms_.begin(), terms_.end(),
                     [](const PatternTerm& t) { return t.kind == PatternKind::kFull && !t.causal; });
}

const PatternTerm* Pattern::memory() const {
  for (const PatternTerm& term : terms_) {
    if (term.kind == PatternKind::kMemory) return &term;
  }
  return nullptr;
}

}  // namespace earshot
