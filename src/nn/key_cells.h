// The summaries of the hierarchical pattern: keys and values of P frames pooled into one cell, of P cells into one of
// the next level, and so on.
//
//     w_c = sum of g_j,   k_c = sum of g_j k_j / w_c,   v_c = sum of g_j v_j / w_c        over the frames j of the cell
//
// A cell enters attention with the bias log w_c, so that it counts as the frames it stands for would if they all had
// its key. Keys are pooled before they get positions; a cell stands at the middle of its frames.
#pragma once

#include <torch/types.h>

#include <vector>

#include "src/attention/pattern.h"

namespace earshot {

struct Cells {
  torch::Tensor k, v;    // (N, H, c, d) float, no positions
  torch::Tensor weight;  // (N, c) float, summed g; 0 where no frame is
  int64_t first = 0;     // the cell of c = 0, counted from the start of the stream

  int64_t size() const { return k.defined() ? k.size(2) : 0; }
  int64_t end() const { return first + size(); }
};

// Cells of `pool` each of a finer level (or of frames), the last one perhaps in part. fine.first is a multiple of pool.
Cells PoolCells(const Cells& fine, int64_t pool);

// log w, and never where nothing is in a cell: (N, c).
torch::Tensor CellBias(const torch::Tensor& weight);

// Levels 1 to t.levels of a whole recording.
std::vector<Cells> AllCells(const PatternTerm& t, const Cells& frames);

// The same in a stream, of bounded size.
struct CellState {
  // Level 0: frames whose cell is not whole. Level l: the cells that may still be seen, or pooled.
  std::vector<Cells> levels;
};

// The next frames; final: the last cells are given even in part. frames.first is the position of the first.
void AcceptFrames(const PatternTerm& t, const Cells& frames, bool final, CellState& state);
// Forgets the cells that no query from next_query on may see.
void ForgetCells(const PatternTerm& t, int64_t next_query, CellState& state);

}  // namespace earshot
