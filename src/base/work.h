// What recognition has computed since the program began, all threads together: what sparse patterns, the gate and
// skipping save is measured by it.
//
//   const Work before = WorkDone();
//   ...
//   const Work work = WorkDone() - before;
//   double share = work.block_frames / (num_layers * work.frames);   // 1: no frame was left out anywhere
//
// Thread-safe. Training counts nothing.
#pragma once

#include <cstdint>

namespace earshot {

struct Work {
  // Encoder frames that came out of subsampling.
  int64_t frames = 0;
  // Frames that each block computed, summed over the blocks.
  int64_t block_frames = 0;
  // Pairs of a query and a key that attention computed, of one head, summed over the blocks. On the CPU alone: a GPU
  // does not tell.
  int64_t attention_pairs = 0;
  Work operator-(const Work& other) const {
    return {frames - other.frames, block_frames - other.block_frames, attention_pairs - other.attention_pairs};
  }
};

Work WorkDone();
void CountWork(const Work& work);

}  // namespace earshot
