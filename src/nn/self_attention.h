// The conformer's self-attention module: LayerNorm, QKV, rotary positions, hybrid attention, output.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include <limits>
#include <memory>
#include <vector>

#include "src/attention/hybrid_attention.h"
#include "src/nn/block_selector.h"
#include "src/nn/chunk_layout.h"
#include "src/nn/frame_buffer.h"
#include "src/nn/key_cells.h"
#include "src/nn/linear.h"
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
  int64_t convolution_chunk = 0;  // Reach::chunk_frames
  // With right context T' are rows of it, and it has the plans. Null: none.
  std::shared_ptr<const ChunkLayout> layout;
};

// Which frames of a stream come next: all from `received` of the call before up to `received` of this one, but for
// those that were left out.
struct FramePositions {
  std::vector<int64_t> at;  // ascending
  int64_t received = 0;
  // Of `at`: made once, it goes with the frames from block to block. Undefined: each makes it.
  RotaryTable rotary;

  static FramePositions Range(int64_t first, int64_t num);
  int64_t size() const { return static_cast<int64_t>(at.size()); }
};

// The past of one layer in a stream, bounded when the pattern is.
struct SelfAttentionState {
  std::shared_ptr<const Pattern> pattern;                        // of this stream; null: the module's
  double drop_below = -std::numeric_limits<double>::infinity();  // PlanOptions::drop_below
  FrameBuffer k, v;                    // (N, t, Hk, d), keys that may still be seen, with positions
  FrameBuffer log_gate;                // (N, t), of the same keys
  std::vector<int64_t> key_positions;  // of the same keys
  torch::Tensor pending_q;             // (N, H, p, d), with positions: queries that wait for what they look ahead at
  std::vector<int64_t> pending_positions;  // of the same queries
  CellState cells;                         // of a hierarchy
  torch::Tensor open_x, open_weight;       // (N, t, D), (N, t): normalised frames whose block is not whole
  BlockMeans means;                        // of the blocks that may still be selected, or select
  torch::Tensor pending_x;                 // (N, p', D), normalised frames from the memory chunk of the next query on
  torch::Tensor pending_log_gate;          // (N, p')
  int64_t first_pending_x = 0;             // position of pending_x[0]
  torch::Tensor memory;                    // (N, 1 + lag, M, D), carried by the memory bank
  int64_t received = 0;                    // position of the next frame
  int64_t next_query = 0;                  // the frames before this position are given out
};

// The next frames of one stream.
struct SelfAttentionStep {
  torch::Tensor x;         // (N, t, D)
  torch::Tensor log_gate;  // (N, t), or undefined
  const FramePositions* positions = nullptr;
  bool final = false;
  int64_t ahead = 0;  // see BlockStep
  SelfAttentionState* state = nullptr;
};

class SelfAttention : public torch::nn::Module {
 public:
  // kv_heads divides heads: as many of queries share the keys and values of one.
  SelfAttention(const Pattern& pattern, int64_t dim, int64_t heads, int64_t kv_heads, double dropout, bool bias);

  // x: (N, T', D) -> (N, T', D), to be added to x.
  torch::Tensor forward(const torch::Tensor& x, const FrameContext& context);

  // Returns the frames whose keys are all there.
  torch::Tensor Stream(const SelfAttentionStep& step);
  // The same of several streams, each with N = 1: their frames go through the linear layers together.
  std::vector<torch::Tensor> StreamBatch(const std::vector<SelfAttentionStep>& steps);

  // The attention map that forward would use: (N, H, T', T'); a cell's weight spread over its frames, memory left out.
  torch::Tensor Weights(const torch::Tensor& x, const FrameContext& context);

 private:
  struct Projected {
    torch::Tensor normed;   // (N, T', D) float; only where blocks or memory are made of it
    torch::Tensor q, k, v;  // (N, H, T', d) and twice (N, Hk, T', d), q and k with positions
    torch::Tensor plain_k;  // without; only where cells are made of it
  };
  Projected Project(const torch::Tensor& x, const RotaryTable& rotary);
  // The heads of the frames that became ready, (N, H, t', d); undefined: none.
  torch::Tensor Attend(const Projected& p, const SelfAttentionStep& step);
  // The same of a whole batch in chunks with right context.
  torch::Tensor AttendInChunks(const Projected& p, const FrameContext& context) const;
  AttentionInputs Inputs(const torch::Tensor& x, const FrameContext& context);
  torch::Tensor Output(const torch::Tensor& heads, bool inference);  // (N, H, T', d) -> (N, T', D)

  // Rows of the keys, in the order of KeyLayout.
  struct Rows {
    std::vector<torch::Tensor> k, v, bias;
    // Into the inputs of the operator.
    void Join(AttentionInputs& in) const;
  };
  // The frames, with positions; log_gate may be undefined.
  Rows FrameRows(const torch::Tensor& k, const torch::Tensor& v, const torch::Tensor& log_gate) const;
  void AddCells(const std::vector<Cells>& levels, Rows& rows) const;
  // memory: (N, B, M, D), of the chunks from first_chunk on.
  void AddMemory(const torch::Tensor& memory, int64_t first_chunk, Rows& rows);

  // The next frames into what stands for many frames: cells, block means, memory. Undefined gate: 1.
  void AcceptSummaries(const Projected& p, const torch::Tensor& log_gate, const FramePositions& positions, bool final,
                       SelfAttentionState& state);
  SelectedBlocks SelectInStream(int64_t first_query, int64_t num_queries, const SelfAttentionState& state) const;
  torch::Tensor MemoryInStream(int64_t ready, SelfAttentionState& state);
  // The last frames come again: as if they had not been there.
  static void GiveBack(int64_t frames, SelfAttentionState& state);
  void Forget(SelfAttentionState& state) const;
  const Pattern& PatternOf(const SelfAttentionState& state) const { return state.pattern ? *state.pattern : pattern_; }

  Pattern pattern_;
  int64_t heads_, kv_heads_, head_dim_;
  double dropout_;
  torch::nn::LayerNorm norm_{nullptr};
  std::shared_ptr<Linear> qkv_, output_;
  std::shared_ptr<MemoryBank> memory_;
  std::shared_ptr<BlockSelector> selector_;
};

}  // namespace earshot
