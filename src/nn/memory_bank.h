// External memory: M vectors that carry what lies before the window, the constant-size past of an
// endless stream.
//
// The frames come in chunks of C. Each slot s reads a chunk by a learned pooling,
//     z_s(b) = sum over j in chunk b of softmax_j(w_s . x_j + log g_j) x_j ,
// and keeps a decaying mean of what it has read, with a learned decay 0 < a_s < 1,
//     m_s(b) = a_s m_s(b - 1) + (1 - a_s) z_s(b) ,   m_s(-1) = 0 .
// A query in chunk b sees m_s(b - 1 - lag) + e_s for all s, where e_s is the slot's own embedding, so
// slow slots remember the speaker and the room, fast ones the last words. The state of a stream is
// one (M, D) matrix. Compare the memory bank of Emformer (Shi et al. 2021), whose slots are the means
// of single chunks and so reach only M chunks back.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include "src/attention/pattern.h"

namespace earshot {

class MemoryBank : public torch::nn::Module {
 public:
  MemoryBank(const PatternTerm& term, int64_t dim);

  // What queries in each chunk may see.
  //   x: (N, T, D), whose first frame begins a chunk; log_gate: (N, T) or undefined
  //   carried: (N, 1 + lag, M, D), m(b - 1 - lag) ... m(b - 1) for the first chunk b; undefined: zeros
  // Returns (N, B, M, D), B = ceil(T / C). Where `next` is given it receives what is carried after
  // the T / C whole chunks of x.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& log_gate, const torch::Tensor& carried = {},
                        torch::Tensor* next = nullptr);

  int64_t chunk() const { return term_.chunk; }

 private:
  PatternTerm term_;
  torch::Tensor pool_;       // (M, D): w_s
  torch::Tensor embedding_;  // (M, D): e_s
  torch::Tensor decay_;      // (M): logit of a_s
};

}  // namespace earshot
