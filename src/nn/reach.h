// How far an encoder looks back and ahead. The weights do not know it: a model that was trained with many reaches
// (dynamic chunk training, Zhang et al. 2020, U2) is used with any of them, each stream with its own.
//
//   Reach reach = MakeReach(encoder.pattern(), {.chunk_frames = 8, .left_frames = 96});   // 320 ms at 40 ms a frame
//   EncoderState state = encoder.StartStream(reach);
#pragma once

#include <cstdint>

#include "src/attention/pattern.h"

namespace earshot {

struct Reach {
  Pattern pattern;
  // The convolution sees nothing behind the chunk of so many frames that a frame is in. 0: what its options say.
  int64_t chunk_frames = 0;
  // Frames behind each chunk that are computed with it and later, in their own chunk, once more: every block of the
  // chunk's frames, attention and convolution, sees them, and the latency grows by them but once (the right context of
  // Emformer, Shi et al. 2021). They take as much time again as they are long beside the chunk.
  int64_t right_frames = 0;
  bool operator==(const Reach&) const = default;
};

// All in encoder frames.
struct ReachOptions {
  // Computed at a time: a frame sees its whole chunk.
  int64_t chunk_frames = 16;
  // Before the chunk. -1: all.
  int64_t left_frames = 96;
  // Behind the chunk, see Reach. The latency is chunk and right frames.
  int64_t right_frames = 0;
};

// The local term of these options in place of the model's local, sliding, blockwise or full one; anchors stay, as far
// as they do not lie ahead, and so does memory. Throws Error where the pattern selects blocks or pools frames: these
// wait for more than a chunk, and for right frames where it has memory, which is read a whole chunk at a time.
Reach MakeReach(const Pattern& pattern, const ReachOptions& options);

}  // namespace earshot
