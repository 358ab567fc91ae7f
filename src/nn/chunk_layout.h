// A batch seen in chunks with right context (Reach::right_frames): each chunk stands there with the frames behind it,
// which are computed once for it and once more in their own chunk, as a stream does it.
//
//     frames     0 1 2 3 4 5 6                 chunks of 2 with 2 behind:
//     rows       0 1 2 3 | 2 3 4 5 | 4 5 6 - | 6 - - -
//     given by   0 1       2 3       4 5       6
//
// What is computed row by row needs to know nothing of it; attention and convolution look up their rows here. That the
// last chunks stand alone, where a stream computes what is left at its end in one go, changes no frame: both see the
// same.
#pragma once

#include <torch/types.h>

#include <vector>

#include "src/attention/hybrid_attention.h"
#include "src/nn/reach.h"

namespace earshot {

struct ChunkLayout {
  int64_t chunks = 0;
  int64_t rows_per_chunk = 0;  // P, chunk and right frames
  std::vector<int64_t> frame_of_row;
  torch::Tensor row_frames;  // (chunks P) int64: the same, but the last frame where there is none
  torch::Tensor frame_rows;  // (T') int64: the row that gives each frame
  struct Attention {
    torch::Tensor keys;  // (K) int64: the rows that the chunk's rows may see
    AttentionPlan plan;
  };
  std::vector<Attention> attention;  // of each chunk
  // (chunks (past + P)) int64: for a convolution, each chunk's rows behind those of the `past` frames before it;
  // chunks P where there is none.
  torch::Tensor convolution_rows;
  int64_t past = 0;
};

// Of T' frames, 1 or more; drop_below as in PlanOptions; the indices are on `device`.
ChunkLayout MakeChunkLayout(const Reach& reach, int64_t frames, int64_t past, double drop_below, torch::Device device);

}  // namespace earshot
