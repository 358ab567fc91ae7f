// The conformer's self-attention module: LayerNorm, QKV, rotary positions, hybrid attention, output.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include <memory>
#include <vector>

#include "src/attention/hybrid_attention.h"
#include "src/nn/memory_bank.h"
#include "src/nn/rotary.h"

namespace earshot {

// What all layers of one batch share.
struct FrameContext {
  torch::Tensor lens;      // (N) int64 on the CPU; undefined: no padding
  torch::Tensor mask;      // (N, T', 1) float; undefined: no padding
  torch::Tensor gate;      // (N, T', 1) float; undefined: no gate
  torch::Tensor log_gate;  // (N, T') float; undefined: no gate
  AttentionPlan plan;
  RotaryTable rotary;
};

// The past of one layer in a stream, bounded when the pattern is.
struct SelfAttentionState {
  torch::Tensor k, v;                  // (N, H, t, d), keys that may still be seen
  torch::Tensor log_gate;              // (N, t), of the same keys
  std::vector<int64_t> key_positions;  // of the same keys
  torch::Tensor pending_q;             // (N, H, p, d), with positions: queries that wait for what they look ahead at
  torch::Tensor pending_x;             // (N, p', D), normalised frames from the memory chunk of the next query on
  torch::Tensor pending_memory_q;      // (N, H, p, d), without positions
  torch::Tensor pending_log_gate;      // (N, p')
  int64_t first_pending_x = 0;         // position of pending_x[0]
  torch::Tensor memory;                // (N, 1 + lag, M, D), carried by the memory bank
  int64_t received = 0;                // frames so far
  int64_t next_query = 0;              // frames given out
};

class SelfAttention : public torch::nn::Module {
 public:
  SelfAttention(const Pattern& pattern, int64_t dim, int64_t heads, double dropout, bool bias);

  // x: (N, T', D) -> (N, T', D), to be added to x.
  torch::Tensor forward(const torch::Tensor& x, const FrameContext& context);

  // x: (N, t, D), the next frames; log_gate: (N, t) or undefined. Returns those whose keys are all there.
  torch::Tensor Stream(const torch::Tensor& x, const torch::Tensor& log_gate, bool final, SelfAttentionState& state);

  // The attention map that forward would use: (N, H, T', T').
  torch::Tensor Weights(const torch::Tensor& x, const FrameContext& context);

 private:
  struct Projected {
    torch::Tensor normed;   // (N, T', D)
    torch::Tensor q, k, v;  // (N, H, T', d), no positions yet
  };
  Projected Project(const torch::Tensor& x);
  AttentionInputs Inputs(const torch::Tensor& x, const FrameContext& context);
  // Keys and values of memory: (N, B, M, D) -> (N, H, B, M, d).
  void ProjectMemory(const torch::Tensor& memory, AttentionInputs& in);
  torch::Tensor Output(const torch::Tensor& heads);  // (N, H, T', d) -> (N, T', D)

  Pattern pattern_;
  int64_t heads_;
  double dropout_;
  torch::nn::LayerNorm norm_{nullptr};
  torch::nn::Linear qkv_{nullptr}, output_{nullptr};
  std::shared_ptr<MemoryBank> memory_;
};

}  // namespace earshot
