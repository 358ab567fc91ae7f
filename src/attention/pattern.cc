#include "src/attention/pattern.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "src/base/error.h"
#include "src/base/nearest.h"

namespace earshot {
namespace {

// Of a hierarchy: with the least pool of 2 its reach is a million times the near window.
constexpr int64_t kMostLevels = 20;
// Frames, blocks and distances at the most: more than a year of 40 ms frames, and a product of two can be counted.
constexpr int64_t kMostNumber = int64_t{1} << 30;
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
      {"learned", PatternKind::kLearned, {"block", "blocks", "reach", "lookahead"}},
      {"hierarchical", PatternKind::kHierarchical, {"chunk", "left", "lookahead", "pool", "levels", "future"}},
      {"memory", PatternKind::kMemory, {"slots", "chunk", "lag"}},
  };
  return names;
}

const char* NameOf(PatternKind kind) {
  const auto& names = TermNames();
  return std::find_if(names.begin(), names.end(), [&](const TermName& n) { return n.kind == kind; })->name;
}

int64_t FloorDiv(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
int64_t CeilDiv(int64_t a, int64_t b) { return FloorDiv(a + b - 1, b); }

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
  if (value < -kMostNumber || value > kMostNumber)
    Throw("pattern: {} is {}, expected at most {} in either direction", where, value, kMostNumber);
  return value;
}

void RequireAtLeast(int64_t value, int64_t least, const std::string& where) {
  if (value < least) Throw("pattern: {} is {}, expected {} or more", where, value, least);
}

bool ParseBool(const std::string& text, const std::string& where) {
  if (text != "true" && text != "false") Throw("pattern: {} is '{}', expected true or false", where, text);
  return text == "true";
}

void SetArgument(PatternTerm& term, const std::string& name, const std::string& value, const std::string& where) {
  const bool learned = term.kind == PatternKind::kLearned;
  if (name == "causal") {
    term.causal = ParseBool(value, where);
  } else if (name == "future") {
    term.future = ParseBool(value, where);
  } else if (name == "offsets") {
    term.offsets.clear();
    for (const std::string& part : Split(value, ';')) term.offsets.push_back(ParseNumber(part, where));
    std::sort(term.offsets.begin(), term.offsets.end());
    term.offsets.erase(std::unique(term.offsets.begin(), term.offsets.end()), term.offsets.end());
    std::erase(term.offsets, 0);
  } else {
    const int64_t number = ParseNumber(value, where);
    if (name == "chunk" || name == "block" || name == "every" || name == "slots" || name == "blocks")
      RequireAtLeast(number, 1, where);
    if (name == "right" || name == "lag") RequireAtLeast(number, 0, where);
    if (name == "lookahead") RequireAtLeast(number, learned ? -1 : 0, where);
    if (name == "left" || name == "reach")
      RequireAtLeast(number, term.kind == PatternKind::kHierarchical ? 0 : -1, where);
    if (name == "pool" || name == "levels") RequireAtLeast(number, name == "pool" ? 2 : 1, where);
    if (name == "levels" && number > kMostLevels)
      Throw("pattern: {} is {}, expected at most {}", where, number, kMostLevels);
    if (name == "chunk" || name == "block") term.chunk = number;
    if (name == "left") term.left = number;
    if (name == "lookahead" || name == "right") term.lookahead = number;
    if (name == "every") term.every = number;
    if (name == "reach") term.reach = number;
    if (name == "slots") term.slots = number;
    if (name == "lag") term.lag = number;
    if (name == "blocks") term.blocks = number;
    if (name == "pool") term.pool = number;
    if (name == "levels") term.levels = number;
  }
}

// Of a hierarchy: all that its levels reach.
void RequireCountable(const PatternTerm& term) {
  constexpr int64_t kMostReach = int64_t{1} << 56;
  int64_t reach = std::max<int64_t>(term.left, 1);
  for (int64_t level = 0; level <= term.levels; ++level) {
    if (reach > kMostReach / term.pool)
      Throw("pattern: hierarchical reaches left={} times {}^{} frames, more than can be counted; take fewer levels",
            term.left, term.pool, term.levels + 1);
    reach *= term.pool;
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
  if (term.kind == PatternKind::kHierarchical) term.left = 32;
  if (open == std::string::npos) return term;
  if (text.back() != ')') Throw("pattern: '{}' lacks its closing parenthesis", text);
  const std::string inside = Trim(text.substr(open + 1, text.size() - open - 2));
  if (inside.empty()) return term;
  std::vector<std::string> given;
  for (const std::string& part : Split(inside, ',')) {
    const size_t equals = part.find('=');
    const std::string argument = Trim(part.substr(0, equals));
    if (std::find(found->arguments.begin(), found->arguments.end(), argument) == found->arguments.end()) {
      Throw("pattern: {} has no argument '{}'{}", name, argument, Suggestion(argument, found->arguments));
    }
    const std::string where = fmt::format("{}({}=)", name, argument);
    if (std::find(given.begin(), given.end(), argument) != given.end()) Throw("pattern: {} is given twice", where);
    given.push_back(argument);
    if (equals == std::string::npos) Throw("pattern: {} lacks its value, such as {}(...,{}=16)", where, name, argument);
    SetArgument(term, argument, Trim(part.substr(equals + 1)), where);
  }
  if (term.kind == PatternKind::kHierarchical) RequireCountable(term);
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
    case PatternKind::kLearned:
      return fmt::format("learned(block={},blocks={},reach={},lookahead={})", t.chunk, t.blocks, t.reach, t.lookahead);
    case PatternKind::kHierarchical:
      return fmt::format("hierarchical(chunk={},left={},lookahead={},pool={},levels={},future={})", t.chunk, t.left,
                         t.lookahead, t.pool, t.levels, t.future);
    case PatternKind::kMemory: return fmt::format("memory(slots={},chunk={},lag={})", t.slots, t.chunk, t.lag);
  }
  return "";
}

// Where the cells of `level` that lie before a chunk begin; level 0: where the frames at full rate do. Each seam lies
// on the grid of the next coarser level, so that every frame before the chunk is in one cell.
int64_t PastSeam(const PatternTerm& t, int64_t chunk_start, int64_t level) {
  int64_t size = 1, seam = chunk_start;
  for (int64_t l = 0; l <= level; ++l) {
    const int64_t next = l < t.levels ? size * t.pool : size;
    seam = std::max<int64_t>(0, FloorDiv(seam - t.left * size, next) * next);
    size = next;
  }
  return seam;
}

// The same behind it: where the cells of `level` end; level 0: where the frames do.
int64_t FutureSeam(const PatternTerm& t, int64_t chunk_start, int64_t level) {
  int64_t size = t.pool, seam = CeilDiv(chunk_start + t.chunk + t.lookahead, t.pool) * t.pool;
  for (int64_t l = 1; l <= level; ++l) {
    const int64_t next = l < t.levels ? size * t.pool : size;
    seam = CeilDiv(seam + t.left * size, next) * next;
    size = next;
  }
  return seam;
}

}  // namespace

KeyRange PatternTerm::Hull(int64_t query) const {
  const int64_t chunk_start = query / chunk * chunk;
  switch (kind) {
    case PatternKind::kFull: return {0, causal ? query : kEndless};
    case PatternKind::kLocal:
      return {left < 0 ? 0 : std::max<int64_t>(0, chunk_start - left), chunk_start + chunk - 1 + lookahead};
    case PatternKind::kSliding: return {left < 0 ? 0 : std::max<int64_t>(0, query - left), query + lookahead};
    case PatternKind::kStrided: {
      const int64_t from = reach < 0 ? 0 : std::max<int64_t>(0, query - reach);
      return {(from + every - 1) / every * every, FloorDiv(query + lookahead, every) * every};
    }
    case PatternKind::kBlockwise: {
      const int64_t low = offsets.empty() ? 0 : std::min<int64_t>(0, offsets.front());
      const int64_t high = offsets.empty() ? 0 : std::max<int64_t>(0, offsets.back());
      return {std::max<int64_t>(0, chunk_start + low * chunk), chunk_start + (high + 1) * chunk - 1};
    }
    case PatternKind::kLearned: return {chunk_start, chunk_start + chunk - 1};
    case PatternKind::kHierarchical:
      return {PastSeam(*this, chunk_start, 0),
              (future ? FutureSeam(*this, chunk_start, 0) : chunk_start + chunk + lookahead) - 1};
    case PatternKind::kMemory: return {0, -1};
  }
  return {};
}

int64_t PatternTerm::CellFrames(int64_t level) const {
  int64_t size = 1;
  for (int64_t l = 0; l < level; ++l) size *= pool;
  return size;
}

KeyRange PatternTerm::PastCells(int64_t query, int64_t level) const {
  const int64_t start = query / chunk * chunk, size = CellFrames(level);
  return {PastSeam(*this, start, level) / size, PastSeam(*this, start, level - 1) / size - 1};
}

KeyRange PatternTerm::FutureCells(int64_t query, int64_t level) const {
  if (!future) return {};
  const int64_t start = query / chunk * chunk, size = CellFrames(level);
  return {FutureSeam(*this, start, level - 1) / size, FutureSeam(*this, start, level) / size - 1};
}

KeyRange PatternTerm::Candidates(int64_t block) const {
  return {reach < 0 ? 0 : std::max<int64_t>(0, block - reach), lookahead < 0 ? kEndless : block + lookahead};
}

bool PatternTerm::MaySee(int64_t query, int64_t key) const {
  const KeyRange hull = Hull(query);
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
  for (const PatternKind kind : {PatternKind::kMemory, PatternKind::kLearned, PatternKind::kHierarchical}) {
    const auto same = [&](const PatternTerm& t) { return t.kind == kind; };
    const auto times = std::count_if(pattern.terms_.begin(), pattern.terms_.end(), same);
    if (times > 1) Throw("pattern: '{}' names {} {} times, expected once", text, NameOf(kind), times);
  }
  if (pattern.terms_.size() == 1 && pattern.memory()) {
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

int64_t Pattern::ReadyQueries(int64_t received) const {
  int64_t ready = received;
  for (const PatternTerm& t : terms_) {
    int64_t r = received;
    if (t.kind == PatternKind::kFull) r = t.causal ? received : 0;
    if (t.kind == PatternKind::kSliding) r = received - t.lookahead;
    if (t.kind == PatternKind::kLocal || (t.kind == PatternKind::kHierarchical && !t.future))
      r = FloorDiv(received - t.lookahead, t.chunk) * t.chunk;
    if (t.kind == PatternKind::kHierarchical && t.future) {
      r = FloorDiv(received, t.chunk) * t.chunk;
      while (r > 0 && FutureSeam(t, r - t.chunk, t.levels) > received) r -= t.chunk;
    }
    if (t.kind == PatternKind::kLearned)
      r = t.lookahead < 0 ? 0 : (FloorDiv(received, t.chunk) - t.lookahead) * t.chunk;
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
    if (t.kind == PatternKind::kLearned) return key / t.chunk >= t.Candidates(next_query / t.chunk).first;
    return key >= t.Hull(next_query).first;
  });
}

bool Pattern::Bounded() const {
  return std::all_of(terms_.begin(), terms_.end(), [](const PatternTerm& t) {
    switch (t.kind) {
      case PatternKind::kFull: return false;
      case PatternKind::kLocal:
      case PatternKind::kSliding: return t.left >= 0;
      case PatternKind::kStrided:
      case PatternKind::kLearned: return t.reach >= 0;
      case PatternKind::kBlockwise:
      case PatternKind::kHierarchical:
      case PatternKind::kMemory: return true;
    }
    return false;
  });
}

int64_t Pattern::Lookahead() const {
  int64_t most = 0;
  for (const PatternTerm& t : terms_) {
    if (t.kind == PatternKind::kFull && !t.causal) return -1;
    if (t.kind == PatternKind::kLearned && t.lookahead < 0) return -1;
    int64_t ahead = 0;
    if (t.kind == PatternKind::kLearned) ahead = t.chunk - 1 + t.chunk * t.lookahead;
    if (t.kind == PatternKind::kHierarchical && t.future) {
      // At most a whole cell more at each seam.
      ahead = t.chunk + t.lookahead + t.pool;
      for (int64_t l = 1; l <= t.levels; ++l)
        ahead += t.left * t.CellFrames(l) + t.CellFrames(std::min(l + 1, t.levels));
    }
    if (t.kind == PatternKind::kLocal || (t.kind == PatternKind::kHierarchical && !t.future))
      ahead = t.chunk - 1 + t.lookahead;
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

const PatternTerm* Pattern::Find(PatternKind kind) const {
  for (const PatternTerm& term : terms_) {
    if (term.kind == kind) return &term;
  }
  return nullptr;
}

}  // namespace earshot
