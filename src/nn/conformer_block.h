// One conformer block (Gulati et al. 2020) with hybrid attention and the gate:
//
//   x = x + 1/2 FeedForward(x)
//   x = x + g SelfAttention(x)
//   x = x + g Convolution(x)
//   x = LayerNorm(x + 1/2 FeedForward(x))
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include <memory>
#include <vector>

#include "src/nn/convolution.h"
#include "src/nn/feed_forward.h"
#include "src/nn/self_attention.h"

namespace earshot {

struct BlockOptions {
  int64_t dim = 144;
  int64_t heads = 4, kv_heads = 4;
  int64_t feed_forward_dim = 576;
  double dropout = 0.1;
  bool bias = true;
  Pattern pattern;
  ConvolutionOptions convolution;
};

// Frames that wait in front of a residual sum, oldest first.
struct WaitingFrames {
  torch::Tensor x, gate;           // (N, t, D) and (N, t, 1), undefined where there are none
  std::vector<int64_t> positions;  // of the same frames
};

// A block in a stream. Frames come out when attention and convolution have seen what lies ahead of them. Each stage
// (ConformerBlock::Advance) has its own part of it.
struct BlockState {
  SelfAttentionState attention;
  ConvolutionState convolution;
  WaitingFrames before_attention, before_convolution;
};

// Frames with their gate, (N, t, D) and (N, t, 1) (undefined without gate), and where they are in the stream.
struct GatedFrames {
  torch::Tensor x, gate;
  FramePositions positions;
};

// The next frames of one stream.
struct BlockStep {
  GatedFrames in;
  bool final = false;
  // The last so many frames are right context (Reach::right_frames): they come again in the next step, which finds the
  // state as if they had not been there. With them every frame of the step comes out at once.
  int64_t ahead = 0;
  BlockState* state = nullptr;
};

// Steps on their way through the stages of a block.
struct BlockWork {
  std::vector<BlockStep> steps;
  std::vector<GatedFrames> out;  // once the last stage is done

  // What attention has given out for a step.
  struct Attended {
    WaitingFrames frames;      // without it
    torch::Tensor x;           // itself
    int64_t received = 0;      // frames before this position are given out, or never will be
    int64_t first_behind = 0;  // frames before this position wait no longer
  };
  std::vector<Attended> attended;
  std::vector<torch::Tensor> fresh;  // (N, t, D) each, behind the first feed-forward
  torch::Tensor sum, gate;           // of all steps, behind attention and in front of the convolution's sum
  Product convolved;
};

class ConformerBlock : public torch::nn::Module {
 public:
  explicit ConformerBlock(const BlockOptions& options);
  // x: (N, T', D) -> (N, T', D).
  torch::Tensor forward(const torch::Tensor& x, const FrameContext& context);
  // The next frames in, the completed ones out, in order; `final` empties the state.
  GatedFrames Stream(const BlockStep& step);
  // The same of several streams, each with N = 1, and of several steps of one stream, in order: in inference they are
  // computed together where each frame is computed by itself.
  std::vector<GatedFrames> StreamBatch(const std::vector<BlockStep>& steps);
  // The same stage by stage, for 0 to kStages - 1. While one is computed of some steps of a stream, another one may be
  // of those behind them or before, as long as each stage sees them in order.
  static constexpr int kStages = 4;
  void Advance(int stage, BlockWork& work);
  // The attention map of this block for its input x: (N, H, T', T').
  torch::Tensor AttentionMap(const torch::Tensor& x, const FrameContext& context);

 private:
  // The same for inference, with the steps of inference.h.
  torch::Tensor Infer(const torch::Tensor& x, const FrameContext& context);
  void InferFirst(BlockWork& work) const;
  void InferAttention(BlockWork& work) const;
  void InferConvolution(BlockWork& work) const;
  void InferSecond(BlockWork& work) const;

  std::shared_ptr<FeedForward> first_, second_;
  std::shared_ptr<SelfAttention> attention_;
  std::shared_ptr<Convolution> convolution_;
  torch::nn::LayerNorm norm_{nullptr};
};

}  // namespace earshot
