// The learned pattern's choice: which blocks are worth a look from a block.
//
// A block is summed up by the mean of its frames, weighed by the gate, z_b. Of the blocks c that a query block b may
// select (PatternTerm::Candidates), those with the highest
//
//     s(b, c) = (W_q z_b).(W_k z_c) / sqrt(S)
//
// are chosen. log sigmoid(s) is added to the logits of their keys, and through it the choice is trained with the task:
// a block that helps is turned up, and so is chosen before others. Compare the selection of Native Sparse Attention
// (Yuan et al. 2025), whose scores come from the attention over its compressed branch.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include "src/attention/pattern.h"

namespace earshot {

// Means of blocks, of the whole of each but the last.
struct BlockMeans {
  torch::Tensor mean;  // (N, B, D) float
  int64_t first = 0;   // the block of B = 0, counted from the start of the stream
};

struct SelectedBlocks {
  torch::Tensor blocks;  // (N, B, n) int64; -1: none
  torch::Tensor score;   // (N, B, n) float: log sigmoid(s), 0 where none
};

class BlockSelector : public torch::nn::Module {
 public:
  BlockSelector(const PatternTerm& term, int64_t dim);

  // x: (N, T, D), whose first frame begins block `first`; weight: (N, T) float, 0 for frames that are not there.
  BlockMeans Means(const torch::Tensor& x, const torch::Tensor& weight, int64_t first) const;

  // For each block of queries, among the blocks of keys. key_blocks: (N) int64 on the CPU, how many of them have
  // frames; undefined: all.
  SelectedBlocks Select(const BlockMeans& queries, const BlockMeans& keys, const torch::Tensor& key_blocks) const;

  int64_t block() const { return term_.chunk; }

 private:
  PatternTerm term_;
  torch::Tensor query_, key_;  // (S, D): W_q, W_k
};

}  // namespace earshot
