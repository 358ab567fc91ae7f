#include "src/nn/reach.h"

#include <fmt/format.h>

#include <string>

#include "src/base/error.h"

namespace earshot {

Reach MakeReach(const Pattern& pattern, const ReachOptions& options) {
  if (options.chunk_frames < 1 || options.left_frames < -1 || options.right_frames < 0)
    Throw("a chunk of {} frames with {} before it and {} ahead: expected 1 or more, -1 or more, 0 or more",
          options.chunk_frames, options.left_frames, options.right_frames);
  if (pattern.learned() || pattern.hierarchical())
    Throw("the pattern {} waits for whole blocks, so its latency cannot be chosen; use the model without a latency",
          pattern.ToString());
  if (pattern.memory() && options.right_frames > 0)
    Throw("the pattern {} has memory, which takes each frame once: it cannot have right context", pattern.ToString());
  std::string text = fmt::format("local(chunk={},left={},lookahead={})", options.chunk_frames, options.left_frames,
                                 options.right_frames);
  for (const PatternTerm& term : pattern.terms()) {
    if (term.kind == PatternKind::kStrided)
      text += fmt::format("+strided(every={},reach={},lookahead=0)", term.every, term.reach);
    if (term.kind == PatternKind::kMemory)
      text += fmt::format("+memory(slots={},chunk={},lag={})", term.slots, term.chunk, term.lag);
  }
  return {.pattern = Pattern::Parse(text), .chunk_frames = options.chunk_frames, .right_frames = options.right_frames};
}

}  // namespace earshot
