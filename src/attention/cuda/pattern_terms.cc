#include "src/attention/cuda/pattern_terms.h"

#include <algorithm>
#include <vector>

namespace earshot {
namespace {

struct Distances {
  int64_t first, last;
};

// The block itself and those at the offsets, as runs of neighbours.
std::vector<Distances> BlockRuns(const PatternTerm& term) {
  std::vector<int64_t> offsets = term.offsets;
  offsets.push_back(0);
  std::sort(offsets.begin(), offsets.end());
  std::vector<Distances> runs;
  for (const int64_t offset : offsets) {
    if (!runs.empty() && offset <= runs.back().last + 1) {
      runs.back().last = offset;
    } else {
      runs.push_back({offset, offset});
    }
  }
  return runs;
}

// Numbers that reach past every position may as well end there, as long as none wraps.
bool Fits(int64_t value) { return value >= -kCudaEndless / 2 && value <= kCudaEndless / 2; }

}  // namespace

bool AddPatternTerms(const Pattern& pattern, CudaListArguments* arguments) {
  CudaListArguments added = *arguments;
  const auto add = [&](int64_t chunk, int64_t step, int64_t from, int64_t to) {
    if (added.num_terms == kCudaMaxTerms || !Fits(chunk) || !Fits(step)) return false;
    if ((!Fits(from) && from != -kCudaEndless) || (!Fits(to) && to != kCudaEndless)) return false;
    added.terms[added.num_terms++] = {static_cast<int32_t>(chunk), static_cast<int32_t>(step),
                                      static_cast<int32_t>(from), static_cast<int32_t>(to)};
    return true;
  };
  for (const PatternTerm& t : pattern.terms()) {
    bool fits = true;
    const int64_t left = t.left < 0 ? -kCudaEndless : -t.left;
    switch (t.kind) {
      case PatternKind::kFull: fits = add(1, 1, -kCudaEndless, t.causal ? 0 : kCudaEndless); break;
      case PatternKind::kLocal: fits = add(t.chunk, 1, left, t.chunk - 1 + t.lookahead); break;
      case PatternKind::kSliding: fits = add(1, 1, left, t.lookahead); break;
      case PatternKind::kStrided: fits = add(1, t.every, t.reach < 0 ? -kCudaEndless : -t.reach, t.lookahead); break;
      case PatternKind::kBlockwise:
        for (const Distances& run : BlockRuns(t)) {
          fits = fits && Fits(run.first) && Fits(run.last) && Fits(t.chunk) &&
                 add(t.chunk, 1, t.chunk * run.first, t.chunk * run.last + t.chunk - 1);
        }
        break;
      case PatternKind::kLearned: fits = add(t.chunk, 1, 0, t.chunk - 1); break;
      case PatternKind::kHierarchical: fits = false; break;
      case PatternKind::kMemory: break;
    }
    if (!fits) return false;
  }
  *arguments = added;
  return true;
}

}  // namespace earshot
