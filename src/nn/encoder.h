// The encoder: subsampling, then conformer blocks with hybrid attention and one gate for all of them.
//
//   auto encoder = std::make_shared<Encoder>(options, 80);
//   EncoderOutput out = encoder->forward(features, features_lens);       // a padded batch
//
//   EncoderState state = encoder->StartStream();                          // or frame by frame
//   EncoderOutput part = encoder->Stream(features, false, state);         // any number of frames
//   EncoderOutput rest = encoder->Stream({}, true, state);                // the end: nothing is left behind
//
// The frames that Stream gives, one after the other, are those of forward, whatever the split. The state's size is
// bounded when the pattern is (Pattern::Bounded). One state for each stream; the encoder itself
// is shared and thread-safe in evaluation.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/base/options.h"
#include "src/nn/conformer_block.h"
#include "src/nn/frame_skipper.h"
#include "src/nn/gate.h"
#include "src/nn/reach.h"
#include "src/nn/subsampling.h"

namespace earshot {

struct EncoderOptions {
  int num_layers = 12;
  int dim = 144;
  int heads = 4;
  // Heads of keys and values, which divide heads: as many of queries share one (grouped-query attention, Ainslie et al.
  // 2023). 0: as many as heads.
  int kv_heads = 0;
  int feed_forward_dim = 576;
  double dropout = 0.1;
  // Stochastic depth: the chance that a block is left out of a training step, from 0 at the first block, growing
  // linearly to this at the last.
  double layer_drop = 0;
  // Biases in the linear and depthwise layers.
  bool bias = true;
  // Multiplies the subsampled input, as sqrt(dim) does in Transformers.
  double input_scale = 1.0;
  // See Pattern.
  std::string pattern = "local(chunk=16,left=64)+strided(every=16,reach=512)";
  SubsamplingOptions subsampling;
  ConvolutionOptions convolution;
  GateOptions gate;
  SkipOptions skip;
  // Blocks (counted from 1) after which an intermediate output is taken.
  std::vector<int> intermediate_layers;
  void Visit(OptionVisitor& v);
  void Validate() const;
};

struct EncoderOutput {
  torch::Tensor x;                          // (N, T', D) float
  torch::Tensor lens;                       // (N) int64 on the CPU
  torch::Tensor gate;                       // (N, T') float in (0, 1]; undefined when off
  torch::Tensor dropped;                    // (N, T') bool: frames that were taken out; undefined: none ever is
  std::vector<torch::Tensor> intermediate;  // (N, T', D) each
};

struct EncoderState {
  SubsamplingState subsampling;
  std::vector<BlockState> blocks;
  SkipState skip;
  int64_t frames = 0;  // encoder frames so far
  // With right context (Reach::right_frames): frames at a time, and those that no chunk of theirs was computed of yet.
  int64_t chunk_frames = 0, right_frames = 0;
  GatedFrames ahead;
};

// The next features of one stream; see Encoder::Stream.
struct EncoderStep {
  torch::Tensor features;  // (1, t, C), or undefined for none
  bool final = false;
  EncoderState* state = nullptr;
};

class Encoder : public torch::nn::Module {
 public:
  // num_features: C of the front end.
  Encoder(const EncoderOptions& options, int64_t num_features);

  // What an intermediate output adds to the frames that go on, for self-conditioned CTC
  // (Nozaki & Komatsu 2021): (N, T', D) -> (N, T', D). Empty: nothing.
  using Conditioning = std::function<torch::Tensor(const torch::Tensor&)>;
  // The probability of blank of intermediate frames, (N, T', D) -> (N, T'), which FrameSkipper asks for. Empty: the
  // gate alone decides.
  using BlankProbability = std::function<torch::Tensor(const torch::Tensor&)>;

  // features: (N, T, C) float, normalised; lens: (N) int64 on the CPU, frames before padding. reach: how far it looks;
  // null: as its options say.
  EncoderOutput forward(const torch::Tensor& features, const torch::Tensor& lens, const Conditioning& conditioning = {},
                        const BlankProbability& blank = {}, const Reach* reach = nullptr);

  // Throws Error where the reach does not suit the encoder (see MakeReach).
  EncoderState StartStream(const Reach* reach = nullptr) const;
  // features: (N, t, C), or undefined for none; `final`: the stream ends here.
  EncoderOutput Stream(const torch::Tensor& features, bool final, EncoderState& state,
                       const Conditioning& conditioning = {}, const BlankProbability& blank = {});

  // The same of several streams, each with N = 1 and a reach of its own: their frames go through the linear layers
  // together, none is padded. What each stream gets is what it would get alone, but for the rounding of sums.
  std::vector<EncoderOutput> StreamBatch(const std::vector<EncoderStep>& steps, const Conditioning& conditioning = {},
                                         const BlankProbability& blank = {});

  // Mean over heads of the attention of one block (from 1): (N, T', T').
  torch::Tensor AttentionMap(const torch::Tensor& features, const torch::Tensor& lens, int layer,
                             const Conditioning& conditioning = {});

  int64_t OutputFrames(int64_t frames) const { return subsampling_->OutputFrames(frames); }
  const Pattern& pattern() const { return pattern_; }
  // Whether a reach with right context suits it: memory takes each frame once, and so do frames that are left out.
  bool CanHaveRightContext() const { return !pattern_.memory() && !skipper_.enabled(); }
  // Features that the first `frames` encoder frames are made of, and encoder frames that `features` are enough for.
  int64_t FeaturesFor(int64_t frames) const { return subsampling_->FramesFor(frames); }
  int64_t WholeFrames(int64_t features) const { return subsampling_->WholeFrames(features); }
  const EncoderOptions& options() const { return options_; }

 private:
  struct Prepared {
    torch::Tensor x;  // (N, T', D)
    FrameContext context;
    torch::Tensor lens;
  };
  Prepared Prepare(const torch::Tensor& features, const torch::Tensor& lens, const Reach* reach);
  void LayOutInChunks(const Reach& reach, Prepared& p) const;
  // Throws Error where it does not suit the encoder.
  void CheckReach(const Reach& reach) const;
  // (N, T, C) -> (N, ceil(T / factor)) mean energy over the frames of each encoder frame.
  torch::Tensor Energy(const torch::Tensor& features, int64_t frames) const;
  bool IsIntermediate(size_t layer) const;
  size_t IntermediatesBefore(size_t layer) const;
  // Whether frames leave behind this block (from 0).
  bool SkipsBehind(size_t layer) const { return static_cast<int>(layer) + 1 == skipper_.from_layer(); }
  torch::Tensor BlankOf(const torch::Tensor& x, const BlankProbability& blank) const;
  // Where the blocks have let frames wait their table is not there, and is made.
  void SetRotary(GatedFrames& frames) const;
  // The blocks behind the one that frames leave, of one utterance: (1, t, D) whole.
  RestoredFrames RunSkipping(const GatedFrames& frames, const Conditioning& conditioning, const BlankProbability& blank,
                             const Reach* reach);
  std::vector<BlockState> StartBlocks(const Reach* reach) const;
  // Subsampling and gate.
  std::vector<GatedFrames> Begin(const std::vector<EncoderStep>& steps);
  struct Heads {
    const Conditioning& conditioning;
    const BlankProbability& blank;
  };
  // One stream without right context: its frames in pieces, on several cores.
  EncoderOutput StreamInPieces(const EncoderStep& step, const Heads& heads);
  // Streams to each of which something came: frame by frame all at once, what looks at other frames each on one core.
  std::vector<EncoderOutput> StreamTogether(const std::vector<EncoderStep>& steps, const Heads& heads);
  // What follows a block that has given these frames: their intermediate output, and those that leave.
  void AfterBlock(size_t layer, const BlockStep& block, const EncoderStep& step, const Heads& heads,
                  GatedFrames& frames, std::vector<torch::Tensor>& intermediate) const;
  // What the last block has given -> what the stream gives.
  void Finish(GatedFrames frames, EncoderState& state, EncoderOutput& out) const;
  // What the blocks take of one stream: its next frames, or chunks with their right context.
  static std::vector<BlockStep> BlockSteps(GatedFrames fresh, bool final, EncoderState& state);

  EncoderOptions options_;
  Pattern pattern_;
  FrameSkipper skipper_;
  std::shared_ptr<Subsampling> subsampling_;
  std::shared_ptr<Gate> gate_;
  std::vector<std::shared_ptr<ConformerBlock>> blocks_;
};

}  // namespace earshot
