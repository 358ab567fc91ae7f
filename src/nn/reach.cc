#include "src/nn/reach.h"

#include "src/base/error.h"

namespace earshot {

Reach MakeReach(const Pattern& pattern, const ReachOptions& options) {
  if (options.chunk_frames < 1 || options.left_frames < -1 || options.lookahead_frames < 0)
    Throw("a chunk of {} frames with {} before it and {} ahead: expected 1 or more, -1 or more, 0 or more",
          options.chunk_frames, options.left_frames, options.lookahead_frames);
  if (pattern.learned() || pattern.hierarchical())
    Throw("the pattern {} waits for whole blocks, so its latency cannot be chosen; use the model without a latency",
          pattern.ToString());
  std::string text = Pattern::Parse("local(chunk=" + std::to_string(options.chunk_frames) +
                                    ",left=" + std::to_string(options.left_frames) +
                                    ",lookahead=" + std::to_string(options.lookahead_frames) + ")")
                         .ToString();
  for (const PatternTerm& term : pattern.terms()) {
    if (term.kind == PatternKind::kStrided)
      text += "+strided(every=" + std::to_string(term.every) + ",reach=" + std::to_string(term.reach) + ",lookahead=0)";
    if (term.kind == PatternKind::kMemory)
      text += "+memory(slots=" + std::to_string(term.slots) + ",chunk=" + std::to_string(term.chunk) +
              ",lag=" + std::to_string(term.lag) + ")";
  }
  return {.pattern = Pattern::Parse(text), .convolution_chunk = options.chunk_frames};
}

}  // namespace earshot
