// Blocks that learned selection may have chosen, drawn at random.
#pragma once

#include <vector>

#include "src/attention/pattern.h"
#include "src/base/random.h"

namespace earshot {

// (num_blocks, blocks) for the blocks from first_block on, among key_blocks: never the block itself, each once, -1 now
// and then.
inline std::vector<int64_t> RandomSelection(const PatternTerm& t, int64_t first_block, int64_t num_blocks,
                                            int64_t key_blocks, Random& random) {
  std::vector<int64_t> blocks;
  for (int64_t b = 0; b < num_blocks; ++b) {
    std::vector<int64_t> candidates;
    for (int64_t c = 0; c < key_blocks; ++c) {
      const KeyRange range = t.Candidates(first_block + b);
      if (c != first_block + b && c >= range.first && c <= range.last) candidates.push_back(c);
    }
    for (int64_t rank = 0; rank < t.blocks; ++rank) {
      if (candidates.empty() || random.Chance(0.2)) {
        blocks.push_back(-1);
        continue;
      }
      const auto taken = candidates.begin() + random.Index(static_cast<int64_t>(candidates.size()));
      blocks.push_back(*taken);
      candidates.erase(taken);
    }
  }
  return blocks;
}

}  // namespace earshot
